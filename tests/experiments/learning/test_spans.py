"""A bundle sees nothing after its moment, and every later click is ranked once."""

import numpy as np
import pytest

from cloud_service.recommender.data.synthetic import synthetic_log
from experiments.learning.fleet_state import learning_moments
from experiments.learning.spans import (
    BUNDLE,
    CHOICE,
    FIRST,
    TEST,
    cut_spans,
    moments_after_bundle,
    of_users,
)
from shared.errors import DataError


@pytest.fixture(scope="module")
def log():
    return synthetic_log(users=80, items=60, clicks_per_user=20)


def test_a_bundle_cut_by_time_holds_no_click_after_t1(log):
    spans = cut_spans(log, "time", has_times=True)
    moment = np.sort(log.timestamps)[len(log.timestamps) // 2]
    assert spans.bundle.timestamps.max() < moment
    known = spans.times[spans.span == TEST]
    assert known.min() >= np.sort(log.timestamps)[int(0.7 * len(log.timestamps))]
    missing = sum(spans.unknown)
    assert len(spans.items) == log.click_count - missing


def test_a_bundle_cut_by_position_holds_the_first_half_of_each_user(log):
    spans = cut_spans(log, "position", has_times=False)
    for row, user in enumerate(spans.bundle.user_ids):
        whole = log.sequence(log.user_ids.index(user))
        begin, end = spans.bundle.offsets[row : row + 2]
        ids = [spans.bundle.item_ids[n - 1] for n in spans.bundle.items[begin:end]]
        assert ids == [log.item_ids[n - 1] for n in whole[: len(whole) // 2]]


def test_clicks_that_share_a_time_are_one_basket(log):
    tied = log.timestamps // 86_400
    spans = cut_spans(type(log)(**{**vars(log), "timestamps": tied}), "time", has_times=True)
    for click in range(1, len(spans.items)):
        same = spans.users[click] == spans.users[click - 1]
        same = same and spans.times[click] == spans.times[click - 1]
        assert (spans.basket[click] == spans.basket[click - 1]) == bool(same)
    first = spans.basket == spans.offsets[spans.users]
    assert (spans.span[first] == FIRST).all()


def test_devices_learn_and_ask_only_after_t1_and_at_baskets(log):
    spans = cut_spans(log, "time", has_times=True)
    for moments in (learning_moments(spans, 3), moments_after_bundle(spans, 3)):
        assert len(moments)
        assert np.isin(spans.span[moments], (CHOICE, TEST)).all()
        assert (spans.basket[moments] == moments).all()
        same = spans.users[moments][1:] == spans.users[moments][:-1]
        assert (np.diff(moments)[same] >= 3).all()


def test_fewer_users_keep_their_own_clicks(log):
    spans = cut_spans(log, "position", has_times=False)
    some = of_users(spans, 10)
    assert len(some.offsets) == 11
    assert some.bundle is spans.bundle
    assert set(np.unique(some.span)) <= {BUNDLE, CHOICE, TEST, FIRST}


def test_a_log_too_short_for_a_bundle_is_refused(log):
    short = type(log)(**{**vars(log), "timestamps": np.zeros_like(log.timestamps)})
    with pytest.raises(DataError, match="before the bundle is made"):
        cut_spans(short, "time", has_times=True)
