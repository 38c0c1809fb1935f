"""Tables of speed, size and memory, by the names in their markers: TABLES has them."""

from collections.abc import Callable
from statistics import median, quantiles
from typing import Any

import scaling_tables
from table_parts import markdown, result, spread


def is_higher_better(benchmark: str, ratio: str) -> bool:
    """Whether a larger value of this ratio is better, by goals.json."""
    entry = result("goals")[benchmark]
    listed = any(ratio.startswith(start) for start in entry.get("higher", ()))
    return listed or entry["better"] == "higher"


def is_reached(benchmark: str, ratio: str, figure: Any) -> bool:
    """Whether the value of a ratio is on the good side of its goal."""
    value, goal = figure["value"], figure["goal"]
    return bool(value >= goal if is_higher_better(benchmark, ratio) else value <= goal)


def goals(benchmark: str) -> str:
    """Every ratio of a benchmark that has a goal: value, goal, direction, whether it is reached."""

    def row(ratio: str, figure: Any) -> tuple[str, ...]:
        value, goal = figure["value"], figure["goal"]
        # A third digit where two would show a missed goal as reached.
        digits = 3 if value != goal and round(value, 2) == goal else 2
        better = "higher" if is_higher_better(benchmark, ratio) else "lower"
        reached = "yes" if is_reached(benchmark, ratio, figure) else "no"
        return ratio, f"{value:.{digits}f}", f"{goal:g}", better, reached

    ratios = result(benchmark)["ratios"].items()
    rows = (row(ratio, figure) for ratio, figure in ratios if "goal" in figure)
    return markdown(("ratio", "value", "goal", "better", "reached"), rows)


def goals_reached(sections: dict[str, str]) -> str:
    """How many goals each benchmark has, reaches and misses, where it has any."""
    rows = []
    for benchmark, section in sections.items():
        ratios = result(benchmark)["ratios"].items()
        reached = [is_reached(benchmark, *entry) for entry in ratios if "goal" in entry[1]]
        if not reached:
            continue
        counts = len(reached), sum(reached), len(reached) - sum(reached)
        rows.append((section, *map(str, counts)))
    return markdown(("section", "goals", "reached", "missed"), rows)


def software(sections: dict[str, str]) -> str:
    """Threads and versions that each result file was made with."""
    names = {
        "threads": "threads",
        "python": "Python",
        "torch": "PyTorch",
        "onnxruntime": "ONNX Runtime",
        "numpy": "NumPy",
    }
    rows = (
        (section, *(str(result(benchmark)["machine"][name]) for name in names))
        for benchmark, section in sections.items()
    )
    return markdown(("section", *names.values()), rows)


def one_device(columns: dict[str, str]) -> str:
    """Medians, quartiles and p99 in µs of every client, in one column for each setting."""
    results = result("one_device")["results"]
    clients = dict.fromkeys(client for setting in columns for client in results[setting])

    def cell(figure: Any) -> str:
        if figure is None:
            return ""
        low, high = figure["quartiles"]
        return f"{figure['median']:.0f} ({low:.0f} to {high:.0f}), p99 {figure['p99']:.0f}"

    rows = [(client, *(cell(results[s].get(client)) for s in columns)) for client in clients]
    return markdown(("µs", *columns.values()), rows)


def settings_of(start: str) -> dict[str, str]:
    """Names of the settings of one_device.json and the heads of their columns."""
    forms = {"full": "full", "row": "compact"}
    pauses = {"0": "no pause", "1": "1 ms pause"}
    return {
        f"{start}{form}, {pause} ms between": f"{form_head}, {pause_head}"
        for form, form_head in forms.items()
        for pause, pause_head in pauses.items()
    }


def many_devices() -> str:
    """Corrections a second that every server held, and answered of a flood."""
    results = result("many_devices")["results"]

    def row(shown: str, load: Any) -> tuple[str, ...]:
        outcomes, cell = load["at the knee"], ""
        if outcomes:
            low, middle, high = quantiles((outcome["p99_ms"] for outcome in outcomes), n=4)
            cell = f"{median(outcome['median_ms'] for outcome in outcomes):.2f}, "
            cell += f"{middle:.2f} ({low:.2f} to {high:.2f})"
        rates = load["knee"], load["flooded"]["served"], load["most"]
        held, flooded, most = (f"{rate:,.0f}" for rate in rates)
        return shown, held, cell, flooded, most

    rows = []
    for loads, gcn in ((results, ""), (results["projected"], "projected GCN: ")):
        rows += [row(gcn + name, load) for name, load in loads.items() if "knee" in load]
        alone = loads["GCN alone"]["32"]
        rows.append((f"{gcn}the GCN's arithmetic in batches of 32", "", "", "", f"{alone:,.0f}"))
    header = (
        "one core each", "held, a second", "then, median and p99 in ms", "flooded, a second",
        "most, a second",
    )  # fmt: skip
    return markdown(header, rows)


def many_devices_sweep() -> str:
    """What this project's cloud answered at each rate of the sweep."""
    rows = [
        (
            f"{load['rate']:,.0f}",
            f"{load['served']:,.0f}",
            f"{load['shed']:.1%}",
            f"{load['median_ms']:.2f}",
            f"{load['p99_ms']:.2f}",
        )
        for load in result("many_devices")["results"]["sweep"]
    ]
    header = ("asked, a second", "answered, a second", "shed", "median, ms", "p99, ms")
    return markdown(header, rows)


def rerank() -> str:
    """Time and MFLOPs of what a device does between click and ranking."""
    columns = {
        "click": "click to H",
        "prepare": "prepare",
        "rank 10": "rank 10",
        "rank 100": "rank 100",
        "rank 1000": "rank 1,000",
        "bare products, 100": "bare products of prepare and rank, 100",
    }
    results = result("rerank")["results"]
    rows = [
        (
            form,
            *(spread(results[f"{form}: {column}"], ".1f") for column in columns),
            f"{results[f'{form}: MFLOPs, 100']:.3f}",
        )
        for form in ("causal", "projected")
    ]
    header = ("µs, medians and quartiles", *columns.values(), "MFLOPs of a click and a rank of 100")
    return markdown(header, rows)


def item_table() -> str:
    """NDCG@10 with an item table of each number format, alone and corrected."""
    results, formats = result("item_table")["results"], ("float32", "float16", "int8")
    logs = {"amazon_beauty": "Beauty", "online_retail": "Online Retail", "ml1m": "MovieLens 1M"}

    def cell(dtype: str, figures: Any) -> str:
        cells = []
        for side in ("local", "corrected"):
            # + 0.0 makes the -0.0 of a rounded difference 0.0.
            low, high = (round(1e4 * edge, 1) + 0.0 for edge in figures["difference"][side])
            interval = "" if dtype == "float32" else f" ({low:+.1f} to {high:+.1f})"
            cells.append(f"{figures[side]:.4f}{interval}")
        return ", ".join(cells)

    rows = []
    for run, figures in results["quality"].items():
        log, *settings = run.split(", ")
        shown = ", ".join([logs[log], *(word for word in settings if word != "item-knn")])
        rows.append((shown, *(cell(dtype, figures[dtype]) for dtype in formats)))
    times = (f"{results['look_up_us'][dtype][1]:.1f} µs" for dtype in formats)
    rows.append(("100 candidates looked up and multiplied, median", *times))
    return markdown(("alone, corrected", *formats), rows)


def wire_bytes() -> str:
    """Bytes of an exchange in each form, and the time of a correction over three networks."""
    results = result("wire_bytes")["results"]
    networks = {
        "loopback": ("loopback, ms", ".2f"),
        "4g-5": ("4G at 5 MB/s, ms", ".2f"),
        "lte-typical": ("LTE, round trip 55 ms, ms", ".0f"),
    }

    def bytes_of(counts: Any, way: str) -> str:
        summands = [counts[f"{part}_{way}"] for part in ("payload", "head", "packets")]
        return f"{' + '.join(f'{count:,.0f}' for count in summands)} = {sum(summands):,.0f}"

    def time_of(network: str, form: str) -> str:
        low, middle, high = results["times"][network][form]
        return spread({"median": middle, "quartiles": [low, high]}, networks[network][1])

    rows = [
        (
            f"`{form}`",
            *(bytes_of(counts, way) for way in ("up", "down")),
            *(time_of(network, form) for network in networks),
        )
        for form, counts in results["bytes"].items()
    ]
    return markdown(
        ("form", "bytes up", "bytes down", *(head for head, _ in networks.values())), rows
    )


def wire_quality() -> str:
    """Corrected NDCG@10 with numbers of either width on the wire."""
    logs = {"online_retail": "Online Retail"}
    rows = []
    for run, figures in result("wire_bytes")["results"]["quality"].items():
        log, teachers = run.split(", ", 1)
        low, high = (f"{edge + 0.0:+.4f}" for edge in figures["difference"])
        ndcg = (f"{figures[dtype]:.4f}" for dtype in ("float32", "float16"))
        rows.append(
            (f"{logs[log]}, {teachers}", f"{figures['users']:,}", *ndcg, f"{low} to {high}")
        )
    return markdown(("run", "users", "float32", "float16", "interval of the difference"), rows)


def training_speed() -> str:
    """Training sequences a second, and ratios, for every network."""
    results, ratios = result("training_speed")["results"], result("training_speed")["ratios"]
    names = {
        "scn+gcn, causal": "SCN and GCN, causal",
        "scn+gcn, released": "SCN and GCN, released",
        "scn": "SCN",
        "gru4rec": "GRU4Rec",
        "sasrec": "SASRec",
    }
    rows = [
        (
            shown,
            spread(results[f"{name}, one pass"], ",.0f"),
            spread(results[f"{name}, one prefix per sample"], ",.0f"),
            f"{ratios[f'{name}: one pass / one prefix per sample']['value']:.1f}",
            f"{ratios[f'{name}: fast products / exact']['value']:.2f}",
        )
        for name, shown in names.items()
    ]
    header = (
        "network", "one pass", "one prefix per sample", "ratio (goal 3, higher is better)",
        "one pass with fast products (the default), ratio to exact ones",
    )  # fmt: skip
    return markdown(header, rows)


SECTIONS = {
    "one_device": "[One device](#one-device)",
    "many_devices": "[Many devices](#many-devices)",
    "rerank": "[On the device](#on-the-device)",
    "item_table": "[A smaller item table](#a-smaller-item-table)",
    "wire_bytes": "[Bytes](#bytes)",
    "scaling": "[Cost of growth](#cost-of-growth)",
    "soak": "[Soak](#soak)",
}

TABLES: dict[str, Callable[[], str]] = {
    **scaling_tables.TABLES,
    "software": lambda: software(SECTIONS),
    "goals-reached": lambda: goals_reached(SECTIONS),
    "one-device": lambda: one_device(settings_of("")),
    "one-device-projected": lambda: one_device(settings_of("projected, ")),
    "one-device-goals": lambda: goals("one_device"),
    "many-devices": many_devices,
    "many-devices-sweep": many_devices_sweep,
    "many-devices-goals": lambda: goals("many_devices"),
    "rerank": rerank,
    "rerank-goals": lambda: goals("rerank"),
    "item-table": item_table,
    "wire-bytes": wire_bytes,
    "wire-quality": wire_quality,
    "training-speed": training_speed,
    "scaling-goals": lambda: goals("scaling"),
}
