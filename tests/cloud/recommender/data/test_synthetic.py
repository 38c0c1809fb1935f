"""The made-up world is the same for the same seed, admits to being made up, and has an order."""

from itertools import pairwise

import numpy as np
import pytest

from cloud_service.recommender.data.clicks import ClickLog, split
from cloud_service.recommender.data.synthetic import synthetic_log
from cloud_service.recommender.ranking.metrics import ALL, rank_metrics, ranks
from shared.errors import DataError


@pytest.fixture(scope="module")
def log() -> ClickLog:
    return synthetic_log()


def test_it_says_that_nobody_clicked(log: ClickLog) -> None:
    assert log.name == "synthetic"
    assert log.synthetic
    assert "no real person clicked" in log.preprocessing


def test_the_default_size_is_as_documented(log: ClickLog) -> None:
    assert log.user_count == 4_000
    assert 1_900 <= log.item_count <= 2_000
    assert 36 <= log.lengths.mean() <= 44
    assert log.lengths.min() >= 5
    assert log.lengths.max() <= 240


def test_the_same_seed_gives_the_same_clicks_and_another_gives_others() -> None:
    first, again, other = (
        synthetic_log(users=50, items=60, clicks_per_user=10, seed=s) for s in (5, 5, 6)
    )
    assert first.items.tolist() == again.items.tolist()
    assert first.timestamps.tolist() == again.timestamps.tolist()
    assert first.titles == again.titles
    assert first.items.tolist() != other.items.tolist()


def test_every_item_has_a_title_of_its_own(log: ClickLog) -> None:
    assert log.titles is not None
    assert len(set(log.titles)) == log.item_count
    assert all(title[0].isupper() and title.split()[-1].isdigit() for title in log.titles)


def test_item_numbers_do_not_give_the_category_away(log: ClickLog) -> None:
    assert log.titles is not None
    nouns = [title.split()[-2] for title in log.titles]
    # 80 nouns: neighbours share one by chance about once in 80; sorted by category, once in 4.
    shared = np.mean([first == second for first, second in pairwise(nouns)])
    assert shared < 0.05


def test_popularity_has_a_head_and_a_tail(log: ClickLog) -> None:
    counts = np.sort(np.bincount(log.items)[1:])[::-1]
    assert counts[:20].mean() > 10 * np.median(counts)


def test_times_rise_and_show_sessions(log: ClickLog) -> None:
    inside = np.ones(log.click_count - 1, bool)
    inside[log.offsets[1:-1] - 1] = False
    gaps = np.diff(log.timestamps)[inside]
    assert gaps.min() >= 1
    assert 5 < np.median(gaps) < 60
    # Nothing between a long thought and a pause: sessions can be told apart.
    assert 0.05 < (gaps >= 1_800).mean() < 0.25


def test_what_follows_what_beats_popularity_by_far(log: ClickLog) -> None:
    parts = split(log)
    width = log.item_count + 1
    counts = parts.train_counts().astype(np.float64)
    positions = parts.train_positions
    pairs = positions[:-1][np.diff(positions) == 1]
    follows = np.zeros((width, width))
    np.add.at(follows, (log.items[pairs], log.items[pairs + 1]), 1.0)
    targets = log.items[parts.test_positions].astype(np.int64)
    last = log.items[parts.validation_positions]
    by_order = follows[last] + 1e-9 * counts
    by_count = np.broadcast_to(counts, by_order.shape)
    ordered = rank_metrics(ALL, ranks(by_order[:, 1:], targets - 1))["all/hitrate@10"]
    popular = rank_metrics(ALL, ranks(by_count[:, 1:], targets - 1))["all/hitrate@10"]
    assert ordered > 3 * popular
    assert ordered < 0.8, "a world without noise would be too easy"


def test_filters_apply_as_to_any_log() -> None:
    log = synthetic_log(users=200, items=100, clicks_per_user=10, min_user=10, min_item=5)
    assert log.lengths.min() >= 10
    assert "items with at least 5 interactions" in log.preprocessing


@pytest.mark.parametrize("wrong", [{"users": 1}, {"items": 39}, {"clicks_per_user": 4}])
def test_a_world_too_small_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(DataError, match="needs at least 2 users, 40 items and 5 clicks"):
        synthetic_log(**wrong)
