"""Tables of what a model costs a device, beside its quality (docs/results.md)."""

from collections.abc import Callable, Mapping
from statistics import mean
from typing import Any

from results_tables import LOGS, NDCG, evaluation
from table_parts import markdown, result

COST_LOGS = dict(
    zip(
        ("amazon_beauty", "online_retail", "amazon_video_games", "ml1m", "yelp_5core"),
        LOGS.values(),
        strict=True,
    )
)
"""Data files of quality_and_cost.json, and their logs."""
COSTED = {
    "item-knn": "item-kNN",
    "gru4rec (one layer), carried": "GRU4Rec, one layer, carried",
    "gru4rec (one layer), window": "GRU4Rec, one layer, window",
    "gru4rec, carried": "GRU4Rec, carried",
    "gru4rec, window": "GRU4Rec, window",
    "mamba4rec, carried": "Mamba4Rec, carried",
    "mamba4rec, window": "Mamba4Rec, window",
    "sasrec, window": "SASRec, window",
    "bert4rec, window": "BERT4Rec, window",
    "SCN alone": "SCN",
    "SCN corrected by item-knn": "SCN, corrected by item-kNN",
    "SCN corrected by item-knn,scn": "the same, by a wider SCN too",
    "SCN alone, readout": "SCN with a readout",
    "SCN corrected by item-knn, readout": "SCN with a readout, corrected by item-kNN",
    "SCN corrected by item-knn,scn, readout": "the same, by a wider SCN too",
    "SCN corrected by item-knn,scn,gru4rec, readout": "the same, by a GRU4Rec too",
}
TABLE_1 = {
    "mamba4rec, window": "mamba4rec",
    "sasrec, window": "sasrec",
    "bert4rec, window": "bert4rec",
}
"""Models whose quality on MovieLens 1M and Yelp is of Table 1's evaluation, on a GPU."""

PAPER_TABLE_4 = {
    "scn": "1.95M, 17.0M, 14.2M",
    "din": "1.97M, 12.6M, 2.25M",
    "gru4rec": "1.97M, 30.2M, 8.78M",
    "sasrec": "3.91M, 38.3M, 6.01M",
    "bert4rec": "2.02M, 101M, 35.6M",
    "mamba4rec": "2.06M, 68.4M, 21.6M",
}
"""CoCorrRec's Table 4: parameters, and FLOPs and bytes of a further click."""
MODELS = {
    "scn (carried)": "SCN (carried)",
    "scn (carried), new segment": "SCN (carried), new segment",
    "projected scn (window)": "projected SCN (window of 10)",
    "scn": "SCN",
    "din": "DIN",
    "gru4rec (carried)": "GRU4Rec (carried)",
    "gru4rec": "GRU4Rec",
    "sasrec": "SASRec",
    "bert4rec": "BERT4Rec",
    "mamba4rec (carried)": "Mamba4Rec (carried)",
    "mamba4rec": "Mamba4Rec",
}
LENGTHS = (10, 25, 1000)


def _cost_runs() -> dict[str, dict[str, Any]]:
    """Runs of quality_and_cost.json by log."""
    runs = result("quality_and_cost")["results"]
    return {shown: runs[f"{log}.csv.gz"] for log, shown in COST_LOGS.items()}


def quality_and_cost() -> str:
    """NDCG@10 over all items by log, and MFLOPs of a rerank, for every model."""
    runs = _cost_runs()
    table_1 = {LOGS[log]: evaluation(f"networks_{log}") for log in ("ml1m", "yelp")}
    rows = []
    for model, shown in COSTED.items():
        mflops = [run[model]["mflops"] for run in runs.values() if model in run]
        least, most = f"{min(mflops):.3f}", f"{max(mflops):.3f}"
        cells = []
        for log, run in runs.items():
            if model in run:
                cells.append(f"{run[model]['ndcg']:.4f}")
            elif log in table_1 and model in TABLE_1:
                cells.append(f"{mean(table_1[log][TABLE_1[model], NDCG]):.4f}")
            else:
                cells.append("")
        rows.append((shown, least if least == most else f"{least} to {most}", *cells))
    return markdown(("model, and how a device runs it", "MFLOPs", *runs), rows)


def over_scn() -> str:
    """Intervals of the difference to the paper's SCN alone, by log."""
    runs = _cost_runs()

    def cell(run: Mapping[str, Any], model: str) -> str:
        if model not in run:
            return ""
        low, high = run[model]["over_scn"]
        return f"{low:+.4f} to {high:+.4f}"

    rows = [
        (shown, *(cell(run, model) for run in runs.values()))
        for model, shown in COSTED.items()
        if model != "SCN alone"
    ]
    return markdown(("difference to the SCN alone", *runs), rows)


def device_cost() -> str:
    """Parameters, FLOPs, time and memory at three lengths of the history."""
    cost = result("device_cost")
    rows = []
    for model, shown in MODELS.items():
        points = [cost["results"][f"{model}, {length} clicks"] for length in LENGTHS]
        parameters = points[-1]["parameters"]
        flops, memory = (
            cost["ratios"][f"{model}: {figure} a further click"]["value"]
            for figure in ("flops", "memory_bytes")
        )
        rows.append(
            (
                shown,
                f"{parameters:,}, {(parameters + points[-1]['item_table']) / 1e6:.2f}M",
                ", ".join(f"{point['flops'] / 1e6:.2f}" for point in points),
                ", ".join(f"{point['median']:.2f}" for point in points),
                ", ".join(f"{point['memory_bytes'] / 1e6:.1f}" for point in points),
                f"{flops:,.0f}, {memory:,.0f}",
                PAPER_TABLE_4.get(model, ""),
            )
        )
    header = (
        "model", "parameters, without and with items", "MFLOPs at 10, 25, 1,000 clicks", "ms",
        "MB at the peak", "a further click, FLOPs and bytes", "paper's Table 4, the same",
    )  # fmt: skip
    return markdown(header, rows)


def device_goals() -> str:
    """The SCN's time as a share of each other model's, and the goal."""
    others = {
        "sasrec: time, the most from 20 clicks on": "SASRec, from 20 clicks on",
        "din: time, the most from 20 clicks on": "DIN, from 20",
        "mamba4rec: time, the most from 10 clicks on": "Mamba4Rec",
        "mamba4rec (carried): time": "Mamba4Rec (carried)",
        "gru4rec (carried): time": "GRU4Rec (carried)",
    }
    scns = {
        "scn (carried), mean": "SCN (carried)",
        "projected scn (window)": "projected SCN (window)",
    }
    ratios = result("device_cost")["ratios"]
    figures = {scn: [ratios[f"{scn} / {other}"] for other in others] for scn in scns}
    rows = [("goal", *(f"{figure['goal']:g}" for figure in figures["scn (carried), mean"]))]
    rows += [
        (shown, *(f"{figure['value']:.2f}" for figure in figures[scn]))
        for scn, shown in scns.items()
    ]
    return markdown(("time of the SCN / time of", *others.values()), rows)


def segments() -> str:
    """Quality and cost by the clicks in a segment, at a history of 20 clicks."""
    sizes = (1, 2, 5, 10, 20)
    quality, cost = evaluation("segments"), result("segment_size")["results"]
    names = [f"{size} click{'s' if size > 1 else ''}" for size in sizes]
    points = [cost[f"scn, segments of {size}, 20 clicks"] for size in sizes]
    base = mean(quality["10 clicks", NDCG])
    metrics = {
        "NDCG@10 (all)": NDCG,
        "HitRate@10 (all)": "all/hitrate@10",
        "UAUC": "sampled100/uauc",
    }
    rows = [
        (shown, *(f"{mean(quality[name, metric]):.4f}" for name in names))
        for shown, metric in metrics.items()
    ]
    gains = [mean(quality[name, NDCG]) / base - 1 for name in names]
    rows.insert(1, ("against segments of 10", *(f"{gain:+.1%}" if gain else "" for gain in gains)))
    rows.append(("ms", *(f"{point['median']:.2f}" for point in points)))
    rows.append(("MFLOPs", *(f"{point['flops'] / 1e6:.2f}" for point in points)))
    rows.append(("MB at the peak", *(f"{point['memory_bytes'] / 1e6:.1f}" for point in points)))
    return markdown(("clicks in a segment", *(str(size) for size in sizes)), rows)


def training_time() -> str:
    """Seconds and epochs to 95% of the best validation NDCG@10, and to the end."""
    names = {"scn": "SCN", "gru4rec": "GRU4Rec (two layers)", "sasrec": "SASRec"}
    runs = result("training_speed")["results"]["to 95% on ml100k.csv.gz"]
    rows = [
        (
            shown,
            f"{runs[name]['seconds']:.0f}",
            str(runs[name]["epochs"]),
            f"{runs[name]['best']:.4f}",
            f"{runs[name]['seconds_in_all']:.0f} s",
        )
        for name, shown in names.items()
    ]
    header = ("network", "seconds", "epochs", "best validation NDCG@10", "to the end")
    return markdown(header, rows)


TABLES: dict[str, Callable[[], str]] = {
    "quality-and-cost": quality_and_cost,
    "over-scn": over_scn,
    "device-cost": device_cost,
    "device-goals": device_goals,
    "segments": segments,
    "training-time": training_time,
}
