"""Tables of old corrections, old bundles and what a fusion lets through (docs/results.md)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from table_parts import markdown, result

STALE_LOGS = {
    "online_retail": "Online Retail",
    "ml100k": "MovieLens 100K",
    "amazon_beauty": "Beauty look-alike",
}


def difference(bounds: Sequence[float]) -> str:
    """The interval of a difference, in brackets."""
    low, high = bounds
    return f"({low:+.4f} to {high:+.4f})"


def stale_corrections() -> str:
    """NDCG@10 with a correction of some clicks before; intervals of the gain."""
    rows = []
    for log, shown in STALE_LOGS.items():
        for name, run in result(f"stale_corrections_{log}")["results"].items():
            ndcg, gains = run["ndcg"], run["over_no_correction"]
            teachers, _, readout = name.partition(", ")[2].partition(", ")
            teacher_names = teachers.replace("item-knn", "item-kNN").replace("scn", "wider SCN")
            cells = [
                f"{ndcg[age]:.4f} {difference(gains[age])}" for age in ("fresh", "1", "2", "5")
            ]
            model = f"{shown}, readout" if readout else shown
            rows.append((model, teacher_names, f"{ndcg['no']:.4f}", *cells))
    header = ("log", "teachers", "none", "fresh", "1 click old", "2", "5")
    return markdown(header, rows)


def reranks_served() -> str:
    """Shares of reranks with a fresh, a stale and no correction; NDCG@10, stale ones dropped."""
    rows = []
    for log in ("online_retail", "ml100k"):
        runs = result(f"stale_corrections_{log}")["results"]
        served = runs[f"{log}, item-knn"]["served"]
        for clock in dict.fromkeys(row["clock"] for row in served):
            for ask in ("at the click", "at the rerank"):
                rows_of_ask = [row for row in served if (row["clock"], row["ask"]) == (clock, ask)]
                for trips, row in _by_outcome(rows_of_ask):
                    shares = (f"{row[kind]:.1%}" for kind in ("fresh", "stale", "none"))
                    ndcg = f"{row['stale dropped']:.4f}"
                    when = clock.removeprefix("one tick ")
                    rows.append((STALE_LOGS[log], when, ask, trips, *shares, ndcg))
    header = (
        "log", "clicks of one tick", "asked for", "round trip, ms", "fresh", "stale", "none",
        "NDCG@10",
    )  # fmt: skip
    return markdown(header, rows)


def _by_outcome(rows: list[dict[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Joins rows that differ in the round trip alone: the round trips, and the row."""
    for _, group in groupby(rows, lambda row: (row["fresh"], row["stale"], row["stale dropped"])):
        equal = list(group)
        yield ", ".join(str(row["round_trip_ms"]) for row in equal), equal[0]


def freshness(name: str) -> str:
    """NDCG@10 of an old and a new bundle with teachers of either age, by week."""
    rows = []
    for week in result(name)["results"]["weeks"]:
        ndcg, gain = week["ndcg"], week["over_old"]["old, new cloud"]
        rows.append(
            (
                str(week["week"]),
                f"{ndcg['old']:.4f}",
                f"{ndcg['old, old cloud']:.4f}",
                f"{ndcg['old, new cloud']:.4f} {difference(gain)}",
                f"{ndcg['new']:.4f}",
                f"{ndcg['new, new cloud']:.4f}",
            )
        )
    header = (
        "week", "old bundle", "corrected, old teacher", "corrected, new teacher", "new bundle",
        "new bundle, corrected",
    )  # fmt: skip
    return markdown(header, rows)


def fusion_reach() -> str:
    """What each way to fuse a correction lets through, fitted by hand."""
    names = {
        "no correction": "none",
        "shift and named items, in closed form": (
            "shift of the user state and exact scores for 13 items, in closed form (what the "
            "GCN sends)"
        ),
        "shift, in closed form": "shift of the user state alone, in closed form",
        "shift": "the same, by gradient descent",
        "block": "added to `attn` and `b` inside the block, as they are",
        "moments, P = Q = 0.25": "Eq. 14 and 15, P = Q = 0.25",
        "moments, P = Q = 1": "Eq. 14 and 15, P = Q = 1",
        "teachers": "what the teacher wants, itself",
    }
    reach: dict[str, Any] = result("fusion_reach_amazon_beauty")
    shares = {name.split(":")[0]: ratio["value"] for name, ratio in reach["ratios"].items()}
    rows = [
        (shown, f"{reach['results'][name]:.4f}", f"{shares[name]:.0%}")
        for name, shown in names.items()
    ]
    header = ("corrections, fitted by hand", "NDCG@10", "share of the teacher's gain")
    return markdown(header, rows)


TABLES: dict[str, Callable[[], str]] = {
    "fusion-reach": fusion_reach,
    "stale-corrections": stale_corrections,
    "reranks-served": reranks_served,
    "freshness-online-retail": partial(freshness, "freshness_online_retail"),
    "freshness-ml100k": partial(freshness, "freshness_ml100k"),
}
