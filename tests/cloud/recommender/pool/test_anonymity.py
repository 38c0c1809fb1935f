"""Nobody stands alone: k users with the same item within the radius, in groups that never meet."""

import numpy as np
import pytest

from cloud_service.recommender.pool import anonymity
from cloud_service.recommender.pool.anonymity import (
    RADIUS_SHARE,
    microaggregates,
    pool_radius,
    users_near,
)
from cloud_service.recommender.pool.inverted_lists import unit_rows


def world(count=3000, users=60, items=8, dim=8, seed=0):
    """Random directions around a few tastes, with their items and users."""
    random = np.random.default_rng(seed)
    tastes = random.normal(size=(5, dim))
    states = tastes[random.integers(0, 5, count)] + 0.4 * random.normal(size=(count, dim))
    return (
        unit_rows(states.astype(np.float32)),
        random.integers(1, items + 1, count),
        random.integers(0, users, count),
    )


@pytest.mark.parametrize("block", [64, 4096])
def test_the_count_is_that_of_the_rule_or_lower_where_an_item_is_split(monkeypatch, block):
    monkeypatch.setattr(anonymity, "_BLOCK", block)
    units, items, users = world()
    radius = 0.1
    counts = users_near(units, items, users, radius, np.random.default_rng(1))
    cosines = units @ units.T
    near = (cosines >= 1 - radius) & (items[:, None] == items[None, :])
    expected = np.array([len(set(users[row])) for row in near])
    if block == 4096:
        assert (counts == expected).all()
    else:
        assert (counts <= expected).all()
        assert (counts >= 1).all()


@pytest.mark.parametrize("k", [1, 2, 10])
def test_a_group_is_k_users_of_one_item_within_the_radius_and_shares_no_sample(k):
    units, items, users = world()
    radius = 0.2
    groups = microaggregates(units, items, users, radius, k, np.random.default_rng(1))
    assert groups.shape[1] == k
    assert len(groups) > 10
    assert len(np.unique(groups)) == groups.size
    for group in groups:
        assert len(set(items[group])) == 1
        assert len(set(users[group])) == k
        assert (units[group] @ units[group[0]] >= 1 - radius - 1e-6).all()


def test_one_user_alone_is_in_no_group_however_often_it_clicked():
    units, items, _ = world()
    users = np.zeros(len(items), np.int64)
    random = np.random.default_rng(1)
    assert not len(microaggregates(units, items, users, 2.0, 2, random))
    assert (users_near(units, items, users, 2.0, random) == 1).all()


def test_a_radius_of_zero_leaves_every_sample_alone():
    units, items, users = world()
    counts = users_near(units, items, users, 0.0, np.random.default_rng(1))
    assert (counts == 1).all()


def test_the_radius_holds_its_share_of_random_pairs():
    units, *_ = world()
    radius = pool_radius(units, np.random.default_rng(1))
    cosines = (units @ units.T)[np.triu_indices(len(units), 1)]
    assert (cosines >= 1 - radius).mean() == pytest.approx(RADIUS_SHARE, abs=0.01)
    assert pool_radius(units[:1], np.random.default_rng(1)) == 0.0


def test_no_sample_gives_no_group():
    nothing = np.zeros(0, np.int64)
    units = np.zeros((0, 4), np.float32)
    random = np.random.default_rng(1)
    assert microaggregates(units, nothing, nothing, 1.0, 10, random).shape == (0, 10)
    assert not len(users_near(units, nothing, nothing, 1.0, random))
