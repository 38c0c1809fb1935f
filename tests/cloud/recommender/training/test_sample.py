"""A sample of the users of a log."""

import numpy as np
import pytest

from cloud_service.publishing.pipeline import read_data
from cloud_service.recommender.data.synthetic import synthetic_log
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.sample import sampled


@pytest.fixture(scope="module")
def log():
    return synthetic_log(users=300, items=200, clicks_per_user=15, seed=3)


def clicks_of(log):
    """Every user's clicks by the ids of users and items."""
    return {
        name: [
            (log.item_ids[item - 1], when)
            for item, when in zip(
                log.sequence(row), log.timestamps[log.offsets[row] :], strict=False
            )
        ]
        for row, name in enumerate(log.user_ids)
    }


def test_whole_users_with_about_so_many_clicks_are_kept_and_said(log):
    some = sampled(log, 1500, seed=7)
    assert 1300 < some.click_count <= 1500
    assert f"a sample of {some.user_count} of 300 users (seed 7)" in some.preprocessing
    whole = clicks_of(log)
    for user, clicks in clicks_of(some).items():
        assert clicks == whole[user]
    assert list(some.item_ids) == sorted(some.item_ids)
    assert set(np.unique(some.items)) == set(range(1, some.item_count + 1))
    title = dict(zip(log.item_ids, log.titles, strict=True))
    assert some.titles == tuple(title[item] for item in some.item_ids)


def test_the_seed_decides_who_is_in_it(log):
    users = [sampled(log, 1500, seed).user_ids for seed in (1, 1, 2)]
    assert users[0] == users[1] != users[2]


def test_a_log_that_is_small_enough_is_left_as_it_is(log):
    assert sampled(log, log.click_count, 0) is log


def test_a_recipe_asks_for_it(tmp_path):
    recipe = TrainingRecipe(max_clicks=5000, holdout_users=0.1)
    parts = read_data(recipe, tmp_path)
    assert parts.log.click_count <= 5000
    assert "a sample of" in parts.log.preprocessing
