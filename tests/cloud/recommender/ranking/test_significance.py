"""Intervals and p-values against answers known beforehand."""

import math

import numpy as np
import pytest

from cloud_service.recommender.ranking.metrics import Ranks, rank_metrics
from cloud_service.recommender.ranking.significance import (
    bootstrap,
    compare,
    corrected,
    holm,
    per_user,
    student_tail,
    t_test,
)


@pytest.mark.parametrize(
    ("t", "freedom", "p"),
    [
        (12.7062, 1, 0.05), (2.2281, 10, 0.05), (3.1693, 10, 0.01), (1.6973, 30, 0.10),
        (63.6567, 1, 0.01), (0.0, 7, 1.0), (-2.2281, 10, 0.05), (2.5758, 10**6, 0.01),
    ],
)  # fmt: skip
def test_the_tail_of_students_t_is_that_of_the_tables(t, freedom, p):
    assert student_tail(t, freedom) == pytest.approx(p, rel=1e-4)


@pytest.mark.parametrize("t", [0.1, 1.0, 2.0, 3.0, 5.0])
def test_for_many_users_the_tail_is_the_normal_one(t):
    assert student_tail(t, 10**7) == pytest.approx(math.erfc(t / math.sqrt(2)), rel=1e-4)


def test_a_paired_t_test_worked_by_hand():
    # Mean 2, standard deviation sqrt(2.5), n 5: t = 2 / sqrt(0.5) = 2.8284, 4 degrees of freedom.
    assert t_test(np.array([0.0, 1.0, 2.0, 3.0, 4.0])) == pytest.approx(0.04742, abs=1e-5)
    assert t_test(np.zeros(9)) == 1.0
    assert t_test(np.full(9, 0.25)) == 0.0
    assert math.isnan(t_test(np.array([1.0])))


def test_the_bootstrap_interval_of_normal_differences_is_the_normal_one():
    random = np.random.default_rng(5)
    columns = random.normal([0.3, -0.1, 0.0], [1.0, 2.0, 0.1], (4000, 3))
    low, high = bootstrap(columns)
    error = 1.959964 * columns.std(axis=0, ddof=1) / math.sqrt(4000)
    mean = columns.mean(axis=0)
    assert low == pytest.approx(mean - error, abs=0.06 * error.max())
    assert high == pytest.approx(mean + error, abs=0.06 * error.max())
    assert np.array_equal(low, bootstrap(columns)[0])


def test_every_column_sees_the_same_resamples_whatever_stands_beside_it():
    columns = np.random.default_rng(0).random((300, 2))
    together = bootstrap(columns, resamples=500)
    alone = bootstrap(columns[:, 1:], resamples=500)
    assert [bound[1] for bound in together] == pytest.approx([bound[0] for bound in alone])


def test_nineteen_of_twenty_intervals_hold_the_truth():
    random = np.random.default_rng(11)
    # Like an NDCG: most users gain nothing, the others some.
    samples = np.where(random.random((400, 300)) < 0.8, 0.0, random.random((400, 300)))
    low, high = bootstrap(samples, resamples=1000)
    held = ((low <= 0.1) & (high >= 0.1)).mean()
    assert 0.91 <= held <= 0.98


def test_each_users_part_averages_to_the_metric():
    random = np.random.default_rng(2)
    found = Ranks(random.integers(0, 40, 500), random.integers(0, 3, 500))
    for key, value in rank_metrics("sampled100", found, negatives=100).items():
        part = per_user(found, key.split("/")[1])
        assert part.mean() == pytest.approx(value, abs=1e-12)


def test_a_comparison_says_by_how_much_and_how_certainly():
    random = np.random.default_rng(3)
    reference = random.random((2000, 2))
    better = reference + np.stack([random.normal(0.05, 0.1, 2000), random.normal(0, 0.1, 2000)], 1)
    clear, unclear = compare(better, reference)
    assert clear.difference == pytest.approx(0.05, abs=0.01)
    assert clear.relative == pytest.approx(clear.difference / reference[:, 0].mean())
    assert clear.low < clear.difference < clear.high
    assert clear.certain
    assert clear.p < 1e-6
    assert not unclear.certain
    assert unclear.p > 0.05
    with pytest.raises(ValueError, match="not the same users"):
        compare(better, reference[:-1])


def test_holms_correction_worked_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5: times 4, 3, 2, 1; none smaller than the one before it.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_a_p_that_is_no_number_is_not_counted():
    kept = holm([0.02, math.nan, 0.5])
    assert kept[0] == pytest.approx(0.04)
    assert math.isnan(kept[1])


def test_one_clear_difference_of_many_is_not_certain_any_more():
    random = np.random.default_rng(4)
    reference = random.random((500, 20))
    noise = reference + random.normal(0, 0.1, (500, 20))
    noise[:, 0] = reference[:, 0] + random.normal(0.0105, 0.1, 500)
    alone = compare(noise, reference)
    assert alone[0].certain
    assert alone[0].holm == alone[0].p
    together = corrected(alone)
    assert not any(each.certain for each in together)
    assert [each.p for each in together] == [each.p for each in alone]
    assert [each.low for each in together] == [each.low for each in alone]
