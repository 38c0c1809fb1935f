"""What a random ranking scores, against a random ranking and against sums done by hand."""

import math

import numpy as np
import polars as pl
import pytest

from cloud_service.recommender.data.clicks import split
from cloud_service.recommender.data.prepare import prepare
from cloud_service.recommender.ranking.chance import candidates, random_ndcg


def test_the_expected_ndcg_of_few_candidates_by_hand():
    assert random_ndcg(np.array([1, 2, 0]), 10) == pytest.approx(
        [1.0, (1.0 + 1.0 / math.log2(3)) / 2, 0.0]
    )
    gains = sum(1.0 / math.log2(1 + rank) for rank in range(1, 11))
    assert random_ndcg(np.array([1_000]), 10) == pytest.approx([gains / 1_000])


def test_a_random_ranking_scores_it():
    ranks = np.random.default_rng(0).integers(1, 51, 200_000)
    gains = np.where(ranks <= 10, 1.0 / np.log2(1.0 + ranks), 0.0)
    (expected,) = random_ndcg(np.array([50]), 10)
    assert gains.mean() == pytest.approx(expected, abs=4 * gains.std() / math.sqrt(len(gains)))


def test_items_clicked_before_are_no_candidates_where_they_are_left_out():
    rows = [("a", i, t) for t, i in enumerate("wxwyz")] + [("b", i, t) for t, i in enumerate("xyx")]
    frame = pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row")
    log = prepare(frame, name="hand")
    assert candidates(split(log, seen="ranked")).tolist() == [4, 4]
    # User a knows w, x and y; what b is tested on is itself left out, and comes last.
    assert candidates(split(log, seen="left-out")).tolist() == [1, 0]
