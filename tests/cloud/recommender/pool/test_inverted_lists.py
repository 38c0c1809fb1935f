"""The nearest vectors: all of them compared in a small set, nearly the same in a large one."""

import numpy as np
import pytest

from cloud_service.recommender.pool.inverted_lists import make_lists, unit_rows


def vectors(count, seed=0):
    random = np.random.default_rng(seed)
    tastes = random.normal(size=(40, 16))
    mixed = random.dirichlet(np.full(40, 0.05), count) @ tastes
    return unit_rows((mixed + 0.1 * random.normal(size=(count, 16))).astype(np.float32))


def brute(units, queries, count):
    return np.argsort(-(queries @ units.T).max(axis=0), kind="stable")[:count]


@pytest.mark.parametrize("queries", [1, 3, 8])
def test_a_small_set_is_searched_exactly(queries):
    units = vectors(500)
    lists = make_lists(units, np.random.default_rng(1))
    assert not len(lists.centres)
    asked = vectors(queries, seed=2)
    assert (lists.nearest(asked, 50) == brute(units, asked, 50)).all()
    assert sorted(lists.nearest(asked, 600)) == list(range(500))


@pytest.mark.parametrize("queries", [1, 3, 8])
def test_a_large_set_is_searched_in_lists_with_little_loss(queries):
    units = vectors(60_000)
    lists = make_lists(units, np.random.default_rng(1), exact=10_000)
    assert len(lists.centres) == 60
    assert np.array_equal(np.sort(lists.order), np.arange(60_000))
    assert np.array_equal(lists.units, units[lists.order])
    asked = vectors(queries, seed=2)
    found = lists.nearest(asked, 200)
    assert len(set(found.tolist())) == 200
    assert len(np.intersect1d(found, brute(units, asked, 200))) >= 180
    closeness = (asked @ units[found].T).max(axis=0)
    assert (np.diff(closeness) <= 1e-6).all(), "the nearest come first"


def test_lists_without_a_vector_are_no_fault():
    units = np.repeat(vectors(3), 1000, axis=0)
    lists = make_lists(units, np.random.default_rng(1), exact=10)
    assert len(lists.nearest(units[:2], 5)) == 5


def test_a_vector_of_zeros_stays_zero():
    assert not unit_rows(np.zeros((2, 3), np.float32)).any()
