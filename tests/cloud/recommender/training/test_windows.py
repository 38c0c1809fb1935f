"""Windows: every training click is a target once, and nothing after training is seen."""

import numpy as np
import pytest

from cloud_service.recommender.data.clicks import Split, split
from cloud_service.recommender.data.synthetic import synthetic_log
from cloud_service.recommender.training.windows import TrainingNegatives, cut_windows, gather


@pytest.fixture(scope="module")
def parts() -> Split:
    return split(synthetic_log(users=60, items=80, clicks_per_user=30, seed=2))


@pytest.mark.parametrize("length", [1, 7, 10, 400])
def test_every_training_click_but_a_users_first_is_a_target_exactly_once(parts, length):
    for epoch in range(3):
        windows = cut_windows(parts, length, np.random.default_rng(epoch))
        assert windows.lengths.min() >= 1
        assert windows.lengths.max() <= length
        targets = np.concatenate(
            [
                np.arange(s + 1, s + n + 1)
                for s, n in zip(windows.starts, windows.lengths, strict=True)
            ]
        )
        wanted = np.setdiff1d(parts.train_positions, parts.starts)
        np.testing.assert_array_equal(np.sort(targets), wanted)


def test_no_window_reaches_a_validation_or_test_click(parts):
    windows = cut_windows(parts, 10, np.random.default_rng(0))
    held = np.concatenate([parts.validation_positions, parts.test_positions])
    for start, count in zip(windows.starts, windows.lengths, strict=True):
        assert not np.isin(np.arange(start, start + count + 1), held).any()


def test_a_short_history_is_never_cut(parts):
    lengths = parts.stops - parts.starts - 1
    windows = cut_windows(parts, int(lengths.max()), np.random.default_rng(0))
    assert len(windows) == len(lengths)


def test_inputs_and_targets_are_a_click_apart_and_padded_on_the_right():
    items = np.array([5, 6, 7, 8, 9], np.int32)
    inputs, targets = gather(items, np.array([0, 3]), np.array([3, 1]))
    assert inputs.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert targets.tolist() == [[6, 7, 8], [9, 0, 0]]


def test_negatives_are_never_what_the_user_clicked_in_training(parts):
    users = np.repeat(parts.train_users, 20)
    drawn = TrainingNegatives(parts).draw(users, 4, np.random.default_rng(0))
    assert drawn.min() >= 1
    assert drawn.max() <= parts.log.item_count
    for user, row in zip(users, drawn, strict=True):
        begin, end = parts.log.offsets[user], parts.log.offsets[user + 1] - 2
        assert not np.isin(row, parts.log.items[begin:end]).any()
