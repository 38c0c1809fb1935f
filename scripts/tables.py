"""Writes the tables of figures in docs/ from benchmarks/results, between their markers.

    python scripts/tables.py            # writes them
    python scripts/tables.py --check    # exit code 1 where one is stale

A table stands between `<!-- table: NAME -->` and `<!-- /table -->`; `TABLES` has the names.
"""

import argparse
import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = ("docs/results.md", "docs/performance.md")
MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)

Row = Sequence[str]


@cache
def result(name: str) -> Any:
    """A file of benchmarks/results, by its name without the ending."""
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def markdown(header: Row, rows: Iterable[Row]) -> str:
    """A table in Markdown, ending with a newline."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def is_higher_better(benchmark: str, ratio: str) -> bool:
    """Whether a larger value of this ratio is better, by goals.json."""
    entry = json.loads((RESULTS / "goals.json").read_text("utf-8"))[benchmark]
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


def metrics_table(file: str, names: dict[str, str]) -> str:
    """Nine metrics of the models of a results.csv, means over seeds, one row for each model."""
    figures: dict[tuple[str, str], list[float]] = {}
    with (RESULTS / "evaluations" / f"{file}.csv").open(encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            key = line["model"], f"{line['protocol']}/{line['metric']}"
            figures.setdefault(key, []).append(float(line["value"]))

    def cell(model: str, *metrics: str) -> str:
        return ", ".join(f"{mean(figures[model, metric]):.4f}" for metric in metrics)

    cutoffs = (5, 10, 20)
    rows = [
        (
            shown,
            cell(model, *(f"all/ndcg@{k}" for k in cutoffs)),
            cell(model, *(f"all/hitrate@{k}" for k in cutoffs)),
            cell(model, "sampled100/uauc"),
            cell(model, "sampled100/ndcg@10", "sampled100/hitrate@10"),
        )
        for model, shown in names.items()
    ]
    header = (
        "model", "NDCG@5, 10, 20 (all)", "HitRate@5, 10, 20 (all)", "UAUC",
        "NDCG@10, HitRate@10 (100 negatives)",
    )  # fmt: skip
    return markdown(header, rows)


NETWORKS = {
    "popularity": "Popularity",
    "mf": "MF",
    "din": "DIN",
    "gru4rec": "GRU4Rec",
    "bert4rec": "BERT4Rec",
    "item-knn": "item-kNN",
    "sasrec": "SASRec",
    "mamba4rec": "Mamba4Rec",
    "scn+gcn/local": "SCN and GCN as the paper trains them, corrections lost",
    "scn+gcn": "the same, corrected",
}
ONE_LAYER = {"gru4rec (one layer)": "GRU4Rec, one layer"}
CORRECTED = {
    "scn+gcn/local": "SCN alone",
    "scn+gcn": "SCN, corrected by item-kNN",
    "readout/local": "SCN with a readout, alone",
    "readout": "SCN with a readout, corrected by item-kNN",
    "readout + wider SCN": "the same, by a wider SCN too",
    "readout + three teachers": "the same, by a GRU4Rec too",
}


def spread(figure: Any, digits: str) -> str:
    """A median and its quartiles."""
    low, high = figure["quartiles"]
    return f"{figure['median']:{digits}} ({low:{digits}} to {high:{digits}})"


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


def freshness(name: str) -> str:
    """NDCG@10 of an old and a new bundle with teachers of either age, by week."""
    rows = []
    for week in result(name)["results"]["weeks"]:
        ndcg, (low, high) = week["ndcg"], week["over_old"]["old, new cloud"]
        rows.append(
            (
                str(week["week"]),
                f"{ndcg['old']:.4f}",
                f"{ndcg['old, old cloud']:.4f}",
                f"{ndcg['old, new cloud']:.4f} ({low:+.4f} to {high:+.4f})",
                f"{ndcg['new']:.4f}",
                f"{ndcg['new, new cloud']:.4f}",
            )
        )
    header = (
        "week", "old bundle", "corrected, old teacher", "corrected, new teacher", "new bundle",
        "new bundle, corrected",
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
    "networks-ml1m": lambda: metrics_table("networks_ml1m", NETWORKS | ONE_LAYER),
    "networks-yelp": lambda: metrics_table("networks_yelp", NETWORKS),
    "correction-ml1m": lambda: metrics_table("correction_ml1m", CORRECTED),
    "correction-yelp": lambda: metrics_table("correction_yelp", CORRECTED),
    "correction-beauty": lambda: metrics_table("correction_beauty", CORRECTED),
    "correction-video-games": lambda: metrics_table("correction_video_games", CORRECTED),
    "correction-online-retail": lambda: metrics_table("correction_online_retail", CORRECTED),
    "freshness-online-retail": lambda: freshness("freshness_online_retail"),
    "freshness-ml100k": lambda: freshness("freshness_ml100k"),
}


def fresh(text: str) -> str:
    """The text of a page with every marked table as the results say it now."""
    return MARKED.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def main() -> int:
    """Writes the tables, or checks them; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, say what is stale")
    is_check = parser.parse_args().check
    stale = []
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8")
        if fresh(text) != text:
            stale.append(page)
            if not is_check:
                (ROOT / page).write_text(fresh(text), "utf-8")
    if is_check and stale:
        print(f"Stale tables in {', '.join(stale)}: run python scripts/tables.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
