"""Numbering, filtering, splitting and cutting sequences, on logs small enough to do by hand."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cloud_service.recommender.data.clicks import ClickLog, ranges, recent, split
from cloud_service.recommender.data.log import read_log, read_titles
from cloud_service.recommender.data.prepare import prepare
from shared.errors import DataError


def frame(**users: str | list[str]) -> pl.DataFrame:
    """One user per keyword, one click per letter, at times 0, 1, 2, ..."""
    rows = [(user, item, time) for user in sorted(users) for time, item in enumerate(users[user])]
    return pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row")


def sequences(log: ClickLog) -> dict[str, str]:
    """What `frame` was given, read back from a log."""
    return {
        user: "".join(log.item_ids[item - 1] for item in log.sequence(row))
        for row, user in enumerate(log.user_ids)
    }


def test_items_are_numbered_from_one_by_their_utf8_bytes() -> None:
    log = prepare(frame(u=["b", "a", "é", "Z", "10", "9"], v=["a", "b", "é"]), name="log")
    assert log.item_ids == ("10", "9", "Z", "a", "b", "é")
    assert log.items.tolist() == [5, 4, 6, 3, 1, 2, 4, 5, 6]
    assert log.items.dtype == np.int32
    assert log.offsets.tolist() == [0, 6, 9]
    assert log.offsets.dtype == np.int64
    assert log.timestamps.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    assert log.user_ids == ("u", "v")
    assert (log.user_count, log.item_count, log.click_count) == (2, 6, 9)


def test_users_too_short_to_split_go_and_their_items_with_them() -> None:
    log = prepare(frame(a="xyz", b="xq", c="xyyx"), name="log")
    assert sequences(log) == {"a": "xyz", "c": "xyyx"}
    assert log.item_ids == ("x", "y", "z")


def test_items_are_filtered_before_users_and_once() -> None:
    # q goes (1 click), which leaves c with 2 clicks; c goes, which leaves r with 1 click: it stays.
    log = prepare(frame(a="xyxr", b="yxy", c="xrq"), name="log", min_item=2)
    assert sequences(log) == {"a": "xyxr", "b": "yxy"}


def test_iterated_filters_go_on_to_the_core() -> None:
    log = prepare(frame(a="xyxr", b="yxy", c="xrq"), name="log", min_item=2, iterate=True)
    assert sequences(log) == {"a": "xyx", "b": "yxy"}


def test_the_preprocessing_is_told_in_words() -> None:
    plain = prepare(frame(a="xyz", b="zyx"), name="log")
    assert plain.preprocessing == "users with at least 3 interactions"
    told = prepare(
        frame(a="xyxx", b="yxy", c="xyxyxyy").with_columns(timestamp=pl.col("timestamp") // 2),
        name="log",
        max_user_clicks=5,
        min_item=2,
        iterate=True,
        source="sold in a shop",
    )
    assert told.preprocessing == (
        "sold in a shop; 1 of 14 rows repeat the user, item and time of another and are left out; "
        "of 1 user only the newest 5 clicks (2 left out); items with at least 2 interactions, then "
        "users with at least 3 left, repeated until stable; 5 of 11 clicks repeat an earlier "
        "user-item pair; 4 clicks share the time of the one before and are shuffled"
    )


def test_titles_stand_beside_their_items() -> None:
    log = prepare(frame(a="xyz", b="zyx"), name="log", titles={"z": "Last", "x": "First", "?": "-"})
    assert log.titles == ("First", "", "Last")
    assert prepare(frame(a="xyz", b="zyx"), name="log", titles={"?": "-"}).titles is None


def test_filters_that_leave_nothing_say_which_took_what() -> None:
    with pytest.raises(DataError, match=r"item took 2, then the minimum of 3 per user took 4"):
        prepare(frame(a="xyp", b="yxq"), name="log", min_item=2)
    with pytest.raises(DataError, match="leave 1 users"):
        prepare(frame(a="xyz", b="xy"), name="log")
    with pytest.raises(DataError, match="0 users and 0 items"):
        prepare(frame(a="xyz", b="xyz"), name="log", min_item=3, iterate=True)


def test_filters_that_make_no_sense_are_refused() -> None:
    with pytest.raises(DataError, match="min_user is 2"):
        prepare(frame(a="xyz", b="zyx"), name="log", min_user=2)
    with pytest.raises(DataError, match="min_item is 0"):
        prepare(frame(a="xyz", b="zyx"), name="log", min_item=0)


def test_unsorted_clicks_are_refused() -> None:
    with pytest.raises(ValueError, match="sorted"):
        prepare(frame(a="xyz", b="zyx").reverse(), name="log")
    late = frame(a="xyz", b="zyx").with_columns(timestamp=-pl.col("timestamp"))
    with pytest.raises(ValueError, match="sorted"):
        prepare(late, name="log")


def test_the_last_click_tests_and_the_one_before_validates() -> None:
    log = prepare(frame(a="xyzx", b="zyx"), name="log")
    parts = split(log)
    assert parts.train_users.tolist() == [0, 1]
    assert parts.replay_users.tolist() == []
    assert parts.starts.tolist() == [0, 4]
    assert parts.stops.tolist() == [2, 5]
    assert parts.validation_positions.tolist() == [2, 5]
    assert parts.test_positions.tolist() == [3, 6]
    assert parts.train_positions.tolist() == [0, 1, 4]
    # x and y of a, z of b: what is validated or tested on is not counted.
    assert parts.train_counts().tolist() == [0, 1, 1, 1]


def test_held_out_users_are_in_no_part_but_the_replay() -> None:
    log = prepare(frame(a="xyz", b="zzz", c="xxy", d="yxy"), name="log")
    parts = split(log, holdout_users=0.5, seed=3)
    assert len(parts.replay_users) == 2
    assert sorted([*parts.train_users, *parts.replay_users]) == [0, 1, 2, 3]
    held = {int(log.offsets[user]) + step for user in parts.replay_users for step in range(3)}
    used = [parts.train_positions, parts.validation_positions, parts.test_positions]
    assert held.isdisjoint(np.concatenate(used).tolist())
    assert len(np.concatenate(used)) == 6
    assert "2 random users (seed 3) held out" in parts.description


def test_the_same_seed_holds_out_the_same_users() -> None:
    log = prepare(frame(**{f"u{n:03}": "xyz" for n in range(100)}), name="log")
    first, again, other = (split(log, holdout_users=0.2, seed=seed) for seed in (1, 1, 2))
    assert first.replay_users.tolist() == again.replay_users.tolist()
    assert first.replay_users.tolist() != other.replay_users.tolist()
    assert len(first.replay_users) == 20


def test_splits_that_cannot_be_are_refused() -> None:
    log = prepare(frame(a="xyz", b="zyx"), name="log")
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(DataError, match="holdout_users is"):
            split(log, holdout_users=share)
    with pytest.raises(DataError, match="leaves nobody"):
        split(log, holdout_users=0.99)
    short = ClickLog(
        "log", False, "", log.item_ids, log.items[:5], log.timestamps[:5],
        np.array([0, 3, 5]), log.user_ids,
    )  # fmt: skip
    with pytest.raises(DataError, match="has 2 clicks"):
        split(short)


def test_recent_clicks_are_the_users_own_oldest_first_and_padded_right() -> None:
    items = np.array([1, 2, 3, 4, 9, 8, 7], np.int32)
    starts = np.array([0, 0, 0, 4, 4])
    positions = np.array([0, 2, 4, 5, 7])
    assert recent(items, starts, positions, 3).tolist() == [
        [0, 0, 0],
        [1, 2, 0],
        [2, 3, 4],
        [9, 0, 0],
        [9, 8, 7],
    ]
    assert recent(items, starts, positions, 3).dtype == np.int32
    assert recent(items, starts[:0], positions[:0], 3).shape == (0, 3)


def test_ranges_are_laid_end_to_end() -> None:
    found = ranges(np.array([2, 7, 7, 0]), np.array([5, 8, 7, 1]))
    assert found.tolist() == [2, 3, 4, 7, 0]
    assert ranges(np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []


@pytest.mark.data
def test_the_beauty_look_alike_has_its_published_counts(real_data: Path) -> None:
    log = prepare(
        read_log(real_data / "amazon_beauty.csv.gz").frame, name="beauty", min_item=3, min_user=13
    )
    assert (log.user_count, log.item_count, log.click_count) == (4_328, 22_479, 98_370)


@pytest.mark.data
def test_a_published_core_has_nothing_left_to_filter(real_data: Path) -> None:
    log = prepare(
        read_log(real_data / "amazon_beauty_5core.csv.gz").frame,
        name="beauty",
        min_item=5,
        min_user=5,
        iterate=True,
    )
    assert (log.user_count, log.item_count, log.click_count) == (22_363, 12_101, 198_502)


@pytest.mark.data
def test_stock_codes_stay_strings_and_find_their_titles(real_data: Path) -> None:
    titles = read_titles(real_data / "online_retail_items.csv.gz").titles
    log = prepare(read_log(real_data / "online_retail.csv.gz").frame, name="retail", titles=titles)
    assert log.titles is not None
    assert log.titles[log.item_ids.index("10123C")] == "HEARTS WRAPPING TAPE"
    assert "clicks repeat an earlier user-item pair" in log.preprocessing


def test_clicked_items_are_left_out_only_where_nobody_clicks_twice():
    def parts_of(sequences, **kept):
        rows = [
            (f"u{n:02}", f"i{item}", t) for n, s in enumerate(sequences) for t, item in enumerate(s)
        ]
        columns = ["user_id", "item_id", "timestamp"]
        frame = pl.DataFrame(rows, schema=columns, orient="row")
        return split(prepare(frame, name="hand"), **kept)

    once = [[n, n + 1, n + 2, n + 3, n + 4] for n in range(30)]
    twice = [[n, n + 1, n, n + 3, n + 4] for n in range(30)]
    assert parts_of(once).seen_left_out
    assert "left out" in parts_of(once).description
    assert not parts_of(twice).seen_left_out
    assert not parts_of(once, seen="ranked").seen_left_out
    assert parts_of(twice, seen="left-out").seen_left_out
