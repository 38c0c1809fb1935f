"""What rankings are worth, and how sure that is."""

import math

import numpy as np
import pytest

from experiments.simulation.quality import Compared, interval, quality, t_95


def test_quality_is_the_textbook_ndcg_and_hitrate() -> None:
    ranks = [(0, 1), (9, 10), (None, None), (2, 2)]
    measured = quality("row", [Compared(n, 0, *pair) for n, pair in enumerate(ranks)])
    assert measured is not None
    assert (measured.form, measured.requests, measured.users) == ("row", 4, 4)
    assert measured.recall == 0.75
    assert measured.corrected.hitrate10 == 0.75
    assert measured.local.hitrate10 == 0.5
    gains = [1.0, 1 / math.log2(11), 0.0, 0.5]
    assert measured.corrected.ndcg10 == pytest.approx(sum(gains) / 4)
    assert measured.local.ndcg10 == pytest.approx((1 / math.log2(3) + 0.5) / 4)
    difference = measured.corrected.ndcg10 - measured.local.ndcg10
    assert measured.gain_ndcg10.mean == pytest.approx(difference)


def test_nothing_compared_is_no_quality() -> None:
    assert quality("row", []) is None


def test_a_request_that_two_simulations_made_counts_once() -> None:
    once = [Compared(user, 3, 0, user) for user in range(5)]
    assert quality("full", once + once) == quality("full", once)


def test_the_interval_of_users_with_a_request_each_is_that_of_paired_differences() -> None:
    differences = np.array([0.0, 1.0] * 50)
    found = interval(differences, range(100))
    half = 1.984 * math.sqrt(0.25 * 100 / 99) / 10
    assert found.low == pytest.approx(0.5 - half, abs=1e-4)
    assert found.high == pytest.approx(0.5 + half, abs=1e-4)


def test_requests_of_one_user_that_say_the_same_narrow_nothing() -> None:
    differences = np.random.default_rng(1).normal(0.02, 0.1, 40)
    once = interval(differences, range(40))
    tenfold = interval(np.repeat(differences, 10), np.repeat(np.arange(40), 10).tolist())
    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high))


def test_the_interval_by_user_holds_the_truth_where_one_by_request_would_not() -> None:
    rng = np.random.default_rng(7)
    users, requests = 30, 10
    holds = narrow_holds = 0
    for _ in range(400):
        taste = rng.normal(0, 0.1, users)
        differences = np.repeat(taste, requests) + rng.normal(0, 0.1, users * requests)
        by_user = interval(differences, np.repeat(np.arange(users), requests).tolist())
        by_request = interval(differences, range(users * requests))
        holds += by_user.low <= 0 <= by_user.high
        narrow_holds += by_request.low <= 0 <= by_request.high
    assert holds >= 0.92 * 400
    assert narrow_holds < 0.75 * 400


def test_one_user_tells_nothing_of_others() -> None:
    found = interval(np.array([0.3, 0.3, 0.3]), [4, 4, 4])
    assert (found.low, found.high) == (-1, 1)


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042), (1000, 1.962)],
)
def test_the_quantiles_are_those_of_the_t_distribution(freedom: int, quantile: float) -> None:
    assert t_95(freedom) == pytest.approx(quantile, rel=0.005)
