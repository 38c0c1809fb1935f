"""Tables of speed, size and memory, by the names in their markers: TABLES has them."""

from collections.abc import Callable
from typing import Any

from table_parts import markdown, result, spread


def is_higher_better(benchmark: str, ratio: str) -> bool:
    """Whether a larger value of this ratio is better, by goals.json."""
    entry = result("goals")[benchmark]
    listed = any(ratio.startswith(start) for start in entry.get("higher", ()))
    return listed or entry["better"] == "higher"


def goals(benchmark: str) -> str:
    """Every ratio of a benchmark that has a goal: value, goal, direction, whether it is reached."""
    rows = []
    for ratio, figure in result(benchmark)["ratios"].items():
        if "goal" in figure:
            higher = is_higher_better(benchmark, ratio)
            value, goal = figure["value"], figure["goal"]
            is_reached = value >= goal if higher else value <= goal
            sides = "higher" if higher else "lower"
            rows.append((ratio, f"{value:.2f}", f"{goal:g}", sides, "yes" if is_reached else "no"))
    return markdown(("ratio", "value", "goal", "better", "reached"), rows)


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


def rerank() -> str:
    """µs of what a device does between click and ranking."""
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
        (form, *(spread(results[f"{form}: {column}"], ".1f") for column in columns))
        for form in ("causal", "projected")
    ]
    return markdown(("µs, medians and quartiles", *columns.values()), rows)


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


TABLES: dict[str, Callable[[], str]] = {
    "one-device": lambda: one_device(settings_of("")),
    "one-device-projected": lambda: one_device(settings_of("projected, ")),
    "one-device-goals": lambda: goals("one_device"),
    "many-devices-goals": lambda: goals("many_devices"),
    "rerank": rerank,
    "rerank-goals": lambda: goals("rerank"),
    "training-speed": training_speed,
    "scaling-goals": lambda: goals("scaling"),
}
