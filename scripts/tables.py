"""Writes the tables of figures in docs/ from benchmarks/results, between their markers.

    python scripts/tables.py            # writes them
    python scripts/tables.py --check    # exit code 1 where one is stale

A table stands between `<!-- table: NAME -->` and `<!-- /table -->`; `TABLES` has the names.
"""

import argparse
import csv
import re
import sys
from collections.abc import Callable
from statistics import mean

import performance_tables
from table_parts import RESULTS, ROOT, markdown, result

PAGES = ("docs/results.md", "docs/performance.md")
MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)


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
    **performance_tables.TABLES,
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
