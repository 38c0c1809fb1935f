"""What a careful reader must know before the figures: of each log, and of how models came out."""

from collections.abc import Iterable
from typing import Final

import numpy as np

from cloud_service.recommender.data.checks import NEAR_SECONDS, LogChecks
from cloud_service.recommender.ranking.metrics import ALL
from cloud_service.recommender.ranking.significance import LEVEL, holm, t_test
from experiments.comparison.board import METRICS, Board
from experiments.comparison.datasets import DataFacts
from experiments.comparison.markdown import markdown
from experiments.comparison.recipe import LOCAL

METRIC: Final = "ndcg@10"
_POPULARITY: Final = "popularity"


def doubts_page(board: Board, datasets: Iterable[DataFacts]) -> list[str]:
    """The section that stands before all figures: counts of every log, and what they mean."""
    datasets = list(datasets)
    counted = [_counts(facts.name, facts.checks) for facts in datasets if facts.checks]
    sentences = [
        f"- {facts.name}: {caution}."
        for facts in datasets
        for caution in (*facts.cautions, *doubts(board, facts))
    ]
    columns = ["data set", "identical rows", "clicks at a shared time"]
    columns += [f"same item within {NEAR_SECONDS} s", "largest user", "largest item"]
    sections = ["## What to doubt", "\n".join(sentences) or "No check of the clicks stands out."]
    return sections + [markdown(columns, counted)] * bool(counted)


def doubts(board: Board, facts: DataFacts) -> list[str]:
    """What the results of a data set make doubtful, a sentence each."""
    return [*_cut_short(board, facts.name), *_no_better(board, facts)]


def _counts(name: str, checks: LogChecks) -> list[str]:
    near = "no Unix times" if checks.near is None else f"{checks.near:.1%}"
    identical = f"{checks.identical:,} of {checks.rows:,}"
    if checks.identical:
        identical += ", left out" if checks.repeats == "once" else ", counted"
    shared = f"{checks.tied:.1%}"
    if checks.tied:
        shared += ", shuffled" if checks.ties == "shuffled" else ", in the file's order"
    return [
        name, identical, shared, near, f"{checks.largest_user:.1%}", f"{checks.largest_item:.1%}"
    ]  # fmt: skip


def _cut_short(board: Board, dataset: str) -> list[str]:
    """Rows whose validation was still improving in the last epoch there was."""
    rows = [
        row
        for row in board.about.models
        if not row.endswith(LOCAL)
        and any(
            run["epochs"] and int(run["epochs"]) > 0 and run["best_epoch"] == run["epochs"]
            for run in board.chosen(dataset, row)
        )
    ]
    if not rows:
        return []
    return [
        f"validation still improved in the last epoch of {', '.join(rows)}: trained too short to "
        "be compared; give more --epochs"
    ]


def _no_better(board: Board, facts: DataFacts) -> list[str]:
    """Models that are not above popularity, or not above a random ranking."""
    figures = {row: board.figure(facts.name, row, ALL, METRIC) for row in board.about.models}
    means = {row: figure.mean for row, figure in figures.items() if figure is not None}
    if not means:
        return []
    if not _above_chance(board, facts, list(means)):
        return [
            f"no model is told from a random ranking (NDCG@10 {facts.random_ndcg:.4f}, all items): "
            "differences between models mean nothing here"
        ]
    popularity = means.pop(_POPULARITY, None)
    if popularity is not None and means and max(means.values()) <= popularity:
        return [
            f"no model ranks better than popularity (NDCG@10 {popularity:.4f}, all items): what a "
            "user clicked before helped none of them"
        ]
    return []


def _above_chance(board: Board, facts: DataFacts, rows: list[str]) -> bool:
    column = METRICS[ALL].index(METRIC)
    p_values = []
    for row in rows:
        users = board.users(facts.name, row, ALL)
        above = np.zeros(1) if users is None else users[:, column] - facts.random_ndcg
        p_values.append(t_test(above) if above.mean() > 0 else 1.0)
    return any(p < 1.0 - LEVEL for p in holm(p_values))
