"""Metrics against values worked out by hand and against a slow, plain second writing of them."""

import math
import time

import numpy as np
import pytest

from cloud_service.recommender.data.clicks import ClickLog
from cloud_service.recommender.ranking.metrics import (
    ALL,
    SAMPLED,
    Ranks,
    rank_metrics,
    ranks,
    sample_negatives,
)
from shared.errors import DataError


def log_of(users: list[list[int]], items: int) -> ClickLog:
    lengths = [len(user) for user in users]
    return ClickLog(
        name="log",
        synthetic=True,
        preprocessing="",
        item_ids=tuple(f"i{n}" for n in range(items)),
        items=np.array([item for user in users for item in user], np.int32),
        timestamps=np.zeros(sum(lengths), np.int64),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        user_ids=tuple(f"u{n}" for n in range(len(users))),
    )


def test_ranks_count_those_above_and_those_that_tie() -> None:
    scores = np.array([[3.0, 1.0, 2.0, 5.0], [2.0, 2.0, 2.0, 1.0], [9.0, -np.inf, 0.0, 1.0]])
    found = ranks(scores, 0)
    assert found.greater.tolist() == [1, 0, 0]
    assert found.equal.tolist() == [0, 2, 0]
    assert found.pessimistic.tolist() == [2, 3, 1]


def test_every_row_may_have_its_own_target_column() -> None:
    scores = np.array([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]], np.float32)
    assert ranks(scores, np.array([2, 1])).greater.tolist() == [1, 2]


@pytest.mark.parametrize("place", [(0, 0), (1, 2)])
def test_nan_is_refused_wherever_it_is(place: tuple[int, int]) -> None:
    scores = np.zeros((2, 3), np.float32)
    scores[place] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        ranks(scores, 0)


def test_scores_that_are_no_table_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(n, m\)"):
        ranks(np.zeros(3), 0)
    with pytest.raises(ValueError):
        ranks(np.zeros((3, 2)), np.array([0, 1]))


def test_figures_are_those_worked_out_by_hand() -> None:
    # Ranks 1, 3, 10 and 21 of 101 candidates, no ties.
    found = Ranks(np.array([0, 2, 9, 20]), np.zeros(4, np.int64))
    figures = rank_metrics(SAMPLED, found, negatives=100)
    tenth = 1 / math.log2(11)
    assert figures == pytest.approx(
        {
            "sampled100/ndcg@5": (1 + 0.5) / 4,
            "sampled100/ndcg@10": (1 + 0.5 + tenth) / 4,
            "sampled100/ndcg@20": (1 + 0.5 + tenth) / 4,
            "sampled100/hitrate@1": 0.25,
            "sampled100/hitrate@5": 0.5,
            "sampled100/hitrate@10": 0.75,
            "sampled100/hitrate@20": 0.75,
            "sampled100/uauc": (1.0 + 0.98 + 0.91 + 0.80) / 4,
        }
    )


def test_figures_over_all_items_have_no_uauc_and_stable_names() -> None:
    found = Ranks(np.array([0]), np.array([0]))
    assert list(rank_metrics(ALL, found)) == [
        "all/ndcg@5",
        "all/ndcg@10",
        "all/ndcg@20",
        "all/hitrate@1",
        "all/hitrate@5",
        "all/hitrate@10",
        "all/hitrate@20",
    ]


def test_a_constant_scorer_hits_nothing_and_has_half_the_area() -> None:
    figures = rank_metrics(SAMPLED, ranks(np.zeros((7, 101)), 0), negatives=100)
    assert figures["sampled100/uauc"] == 0.5
    assert {value for name, value in figures.items() if "uauc" not in name} == {0.0}


def test_a_perfect_and_a_reversed_scorer_are_the_two_ends() -> None:
    scores = -np.arange(101.0)[None].repeat(3, axis=0)
    assert set(rank_metrics(SAMPLED, ranks(scores, 0), negatives=100).values()) == {1.0}
    assert set(rank_metrics(SAMPLED, ranks(-scores, 0), negatives=100).values()) == {0.0}


def test_masked_candidates_never_outrank_but_a_masked_target_is_last() -> None:
    scores = np.full((1, 30), -np.inf)
    scores[0, 4] = 1.0
    assert ranks(scores, 4).pessimistic.tolist() == [1]
    assert ranks(scores, 5).pessimistic.tolist() == [30]


def test_figures_agree_with_sorting_and_counting_pairs() -> None:
    random = np.random.default_rng(0)
    scores = random.integers(0, 40, (50, 101)).astype(np.float32)
    targets = random.integers(0, 101, 50)
    figures = rank_metrics(SAMPLED, ranks(scores, targets), negatives=100)
    gains, hits, areas = [], [], []
    for row, target in zip(scores, targets, strict=True):
        others = [float(score) for column, score in enumerate(row) if column != target]
        mine = float(row[target])
        # Put the target behind its ties, sort, and look where it is.
        order = sorted([(-score, 0) for score in others] + [(-mine, 1)])
        place = order.index((-mine, 1))
        hits.append(place < 10)
        gains.append(1 / math.log2(place + 2) if place < 10 else 0.0)
        areas.append(sum((mine > s) + 0.5 * (mine == s) for s in others) / 100)
    assert figures["sampled100/hitrate@10"] == pytest.approx(np.mean(hits))
    assert figures["sampled100/ndcg@10"] == pytest.approx(np.mean(gains))
    assert figures["sampled100/uauc"] == pytest.approx(np.mean(areas))


def test_nobody_to_average_over_is_an_error_and_no_nan() -> None:
    with pytest.raises(ValueError, match="no user"):
        rank_metrics(ALL, ranks(np.zeros((0, 5)), 0))


def test_negatives_are_distinct_and_never_clicked() -> None:
    random = np.random.default_rng(1)
    users = [random.integers(1, 301, size).tolist() for size in (1, 5, 120, 600)]
    log = log_of(users, 300)
    rows = np.array([2, 0, 1, 2])
    drawn = sample_negatives(log, rows, count=50, seed=4)
    assert drawn.shape == (4, 50)
    assert drawn.dtype == np.int32
    for row, negatives in zip(rows, drawn.tolist(), strict=True):
        assert len(set(negatives)) == 50
        assert set(negatives).isdisjoint(users[row])
        assert min(negatives) >= 1
        assert max(negatives) <= 300


def test_the_same_seed_draws_the_same_negatives() -> None:
    log = log_of([[1, 2], [3, 4]], 500)
    rows = np.array([0, 1])
    first, again, other = (sample_negatives(log, rows, seed=seed).tolist() for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_every_item_left_is_drawn_about_as_often() -> None:
    log = log_of([[1, 5]] * 4_000, 12)
    drawn = sample_negatives(log, np.arange(4_000), count=5)
    counts = np.bincount(drawn.ravel(), minlength=13)
    assert counts[[0, 1, 5]].tolist() == [0, 0, 0]
    # 20,000 draws over 10 items: 2,000 each, standard deviation below 32.
    assert np.abs(np.delete(counts, [0, 1, 5]) - 2_000).max() < 160


def test_a_user_who_knows_nearly_everything_gets_what_is_left() -> None:
    users = [list(range(1, 991)), [1]]
    drawn = sample_negatives(log_of(users, 1_000), np.array([0, 1]), count=10)
    assert sorted(drawn[0].tolist()) == list(range(991, 1_001))


def test_too_few_items_left_is_an_error_that_names_the_user() -> None:
    with pytest.raises(DataError, match="User 'u1' has only 7 items left to sample 8"):
        sample_negatives(log_of([[1], [1, 2, 3, 3]], 10), np.array([0, 1]), count=8)


def test_nobody_needs_no_negatives() -> None:
    assert sample_negatives(log_of([[1]], 200), np.array([], np.int64)).shape == (0, 100)


def test_thirty_thousand_users_take_seconds() -> None:
    random = np.random.default_rng(0)
    clicks = random.integers(1, 20_001, (30_000, 10), dtype=np.int32)
    log = ClickLog(
        "log", True, "", tuple(map(str, range(20_000))), clicks.ravel(),
        np.zeros(300_000, np.int64), np.arange(0, 300_001, 10), tuple(map(str, range(30_000))),
    )  # fmt: skip
    start = time.perf_counter()
    negatives = sample_negatives(log, np.arange(30_000))
    scores = random.random((30_000, 101), dtype=np.float32)
    figures = rank_metrics(SAMPLED, ranks(scores, 0), negatives=100)
    assert time.perf_counter() - start < 20
    assert negatives.shape == (30_000, 100)
    assert figures["sampled100/uauc"] == pytest.approx(0.5, abs=0.01)
