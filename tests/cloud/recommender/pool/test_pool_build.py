"""Whose samples are in a pool, what they are, and that nothing else of a user is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cloud_service.recommender.data.clicks import split
from cloud_service.recommender.data.synthetic import synthetic_log
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.pool.build import (
    build_pool,
    history_directions,
    samples_of,
    sharing_users,
    training_clicks,
)
from cloud_service.recommender.pool.inverted_lists import unit_rows
from cloud_service.recommender.pool.pool_file import pool_bytes
from cloud_service.recommender.recipe import POOL_FIELDS, PoolRecipe, TrainingRecipe, identity
from shared.model import PAPER, ModelSettings

ALL = PoolRecipe(pool="all", pool_users=3)
OWN = PoolRecipe(pool="all", pool_users=1, pool_states="own")


@pytest.fixture(scope="module")
def dataset():
    return split(
        synthetic_log(users=150, items=40, clicks_per_user=20, seed=3), holdout_users=0.1, seed=1
    )


@pytest.fixture(scope="module")
def scn(dataset):
    torch.manual_seed(7)
    return SCN(dataset.log.item_count, PAPER, init_std=0.5).eval()


def agreeing(dataset, users):
    agreed = np.zeros(dataset.log.user_count, np.bool_)
    agreed[users] = True
    return replace(dataset, log=replace(dataset.log, agreed=agreed))


def test_without_a_column_of_consent_nobody_shares_unless_all_is_said(dataset, scn):
    assert dataset.log.agreed is None
    assert not len(sharing_users(dataset, PoolRecipe()))
    assert build_pool(scn, dataset, PoolRecipe(pool_users=1), 0) is None
    assert (sharing_users(dataset, ALL) == dataset.train_users).all()
    assert len(build_pool(scn, dataset, ALL, 0)) > 50


def test_only_users_who_agreed_share_and_held_out_ones_never(dataset, scn):
    willing = np.concatenate([dataset.train_users[::2], dataset.replay_users])
    asked = agreeing(dataset, willing)
    shared = sharing_users(asked, PoolRecipe())
    assert (shared == dataset.train_users[::2]).all()
    assert not len(sharing_users(asked, PoolRecipe(pool="none")))
    assert build_pool(scn, asked, PoolRecipe(pool="none", pool_users=1), 0) is None
    everyone = build_pool(scn, asked, OWN.model_copy(update={"pool": "agreed"}), 0)
    positions, *_ = training_clicks(asked, shared, 10**6, np.random.default_rng(0))
    assert len(everyone) == len(positions)


def test_samples_are_training_clicks_with_a_click_before_and_no_others(dataset):
    positions, starts, users = training_clicks(
        dataset, dataset.train_users, 10**6, np.random.default_rng(0)
    )
    expected = dataset.train_positions[~np.isin(dataset.train_positions, dataset.starts)]
    assert (positions == expected).all()
    assert (dataset.log.offsets[users] == starts).all()
    assert not np.isin(positions, [*dataset.validation_positions, *dataset.test_positions]).any()
    few, *_ = training_clicks(dataset, dataset.train_users, 100, np.random.default_rng(0))
    assert len(few) == 100
    assert np.isin(few, expected).all()


@pytest.mark.parametrize(
    "settings",
    [PAPER, ModelSettings(gcn="causal", history="carry", segment=4, length=4)],
    ids=["window", "carry"],
)
def test_a_state_is_that_before_the_click_and_the_item_is_not_in_it(dataset, settings):
    torch.manual_seed(7)
    scn = SCN(dataset.log.item_count, settings, init_std=0.5).eval()
    chosen = training_clicks(dataset, dataset.train_users[:5], 10**6, np.random.default_rng(0))
    samples = samples_of(scn, dataset, *chosen)
    at = 13
    position, start = int(chosen[0][at]), int(chosen[1][at])
    clicks = torch.from_numpy(dataset.log.items[start:position].astype(np.int64))[None]
    if settings.history == "window":
        clicks = clicks[:, -settings.length :]
    with torch.no_grad():
        state = scn.user_state(scn(scn.hidden(clicks)))[0, -1].numpy()
    np.testing.assert_allclose(samples.states[at], state, atol=1e-5)
    assert samples.items[at] == dataset.log.items[position]


def test_a_history_is_the_mean_of_directions_without_padding():
    table = np.array([[0, 0], [3, 0], [0, 5]], np.float32)
    clicks = np.array([[1, 2, 0], [1, 1, 1], [0, 0, 0]])
    expected = [[0.5**0.5, 0.5**0.5], [1, 0], [0, 0]]
    np.testing.assert_allclose(history_directions(table, clicks), expected, atol=1e-6)


def test_a_mean_is_of_k_users_and_its_length_of_theirs(dataset, scn):
    pool = build_pool(scn, dataset, ALL, 0)
    own = build_pool(scn, dataset, OWN, 0)
    assert (pool.sample_users, len(pool) * 3 <= len(own)) == (3, True)
    states = own.sample_states(np.arange(len(own)))
    mine = pool.sample_states(np.arange(len(pool)))
    norms = np.linalg.norm(states, axis=1)
    assert norms.min() <= np.linalg.norm(mine, axis=1).min()
    assert np.linalg.norm(mine, axis=1).max() <= norms.max() + 1e-4
    closest = (unit_rows(mine) @ unit_rows(states).T).max(axis=1)
    # The others are of users who all clicked the same before: as many have that state.
    assert (closest < 1 - 1e-6).mean() > 0.9


def test_the_rule_of_k_users_leaves_fewer_samples_the_larger_k_is(dataset, scn):
    sizes = [
        len(build_pool(scn, dataset, OWN.model_copy(update={"pool_users": k}), 0) or ())
        for k in (1, 2, 5, 1000)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3] == 0


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(dataset, scn):
    first, second = (pool_bytes(build_pool(scn, dataset, ALL, 5)) for _ in range(2))
    assert first == second != pool_bytes(build_pool(scn, dataset, ALL, 6))


def test_the_order_of_samples_says_nothing_of_users_or_times(dataset, scn):
    pool = build_pool(scn, dataset, OWN, 0)
    positions, *_ = training_clicks(dataset, dataset.train_users, 10**6, np.random.default_rng(0))
    in_log = dataset.log.items[positions]
    assert sorted(pool.rows) == sorted(in_log)
    assert (pool.rows == in_log).mean() < 0.2


def test_lists_hold_the_same_samples_as_an_exact_pool(dataset, scn):
    exact, listed = build_pool(scn, dataset, OWN, 0), build_pool(scn, dataset, OWN, 0, exact=500)
    assert len(listed.states.centres) >= 2
    assert len(listed.histories.centres) >= 2
    assert (listed.states.order == np.arange(len(listed))).all()

    def whole(pool):
        order = np.argsort(pool.histories.order)
        rows = np.column_stack(
            [pool.rows, pool.sample_states(np.arange(len(pool))), pool.histories.units[order]]
        )
        return rows[np.lexsort(rows.T)]

    np.testing.assert_allclose(whole(exact), whole(listed), atol=1e-6)


def test_the_options_are_in_no_digest_of_older_runs():
    assert not set(POOL_FIELDS) & identity(TrainingRecipe()).keys()
    assert identity(TrainingRecipe.of(pool="all"))["pool"] == "all"
