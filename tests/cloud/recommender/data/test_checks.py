"""What a log makes doubtful is said with its figure, and nothing is said of a sound log."""

import numpy as np
import polars as pl
import pytest

from cloud_service.recommender.data.clicks import ClickLog, split
from cloud_service.recommender.data.prepare import prepare

USERS, ITEMS, CLICKS = 150, 80, 8
START = 1_700_000_000


def log_of(**columns: object) -> ClickLog:
    """Noise in which no user clicks an item twice; `columns` replace its own."""
    random = np.random.default_rng(5)
    items = [f"i{n:02}" for _ in range(USERS) for n in random.permutation(ITEMS)[:CLICKS]]
    frame = pl.DataFrame(
        {
            "user_id": [f"u{n:03}" for n in range(USERS) for _ in range(CLICKS)],
            "item_id": items,
            "timestamp": [START + 600 * step for _ in range(USERS) for step in range(CLICKS)],
        }
    ).with_columns(**columns)
    return prepare(frame.sort("user_id", "timestamp", maintain_order=True), name="log")


def of(log: ClickLog, words: str) -> list[str]:
    return [caution for caution in split(log).cautions if words in caution]


def test_of_a_sound_log_nothing_is_said():
    log = log_of()
    assert split(log).cautions == ()
    assert log.checks is not None
    assert (log.checks.rows, log.checks.identical, log.checks.tied) == (1_200, 0, 0.0)
    assert log.checks.near == 0.0
    assert log.checks.largest_user == pytest.approx(1 / USERS)
    assert log.checks.median_user_clicks == CLICKS
    assert 0.4 < log.checks.ascending < 0.6


@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000, 1_000_000_000])
def test_the_same_item_within_seconds_is_counted_in_every_unit_of_time(unit):
    # Every fourth click is on the item of the one before, three seconds later.
    place = pl.int_range(pl.len()) % CLICKS
    items = pl.when(place % 4 == 1).then(pl.col("item_id").shift(1)).otherwise(pl.col("item_id"))
    times = pl.when(place % 4 == 1).then(pl.col("timestamp") - 597).otherwise(pl.col("timestamp"))
    log = log_of(item_id=items, timestamp=times * unit)
    assert log.checks.near == pytest.approx(0.25, abs=0.01)
    (said,) = of(log, "at most 10 seconds before")
    assert said.startswith("25.0% of the clicks")


def test_positions_are_no_seconds():
    place = pl.int_range(pl.len()) % CLICKS
    items = pl.when(place % 2 == 1).then(pl.col("item_id").shift(1)).otherwise(pl.col("item_id"))
    log = log_of(item_id=items, timestamp=place)
    assert log.checks.near is None
    assert not of(log, "seconds before")


def test_clicks_at_one_time_get_a_caution_where_they_are_most_of_a_users():
    early = pl.col("user_id") < f"u{USERS // 10:03}"
    tied = pl.when(early).then(START).otherwise(pl.col("timestamp"))
    (said,) = of(log_of(timestamp=tied), "share their time")
    assert said.startswith("most clicks of 10% of the users share their time")
    assert "(10.0% of all clicks)" in said
    one = pl.when(pl.col("user_id") == "u000").then(START).otherwise(pl.col("timestamp"))
    assert not of(log_of(timestamp=one), "share their time")


@pytest.mark.parametrize("ids", ["i{:02}", "{}"], ids=["texts", "numbers"])
@pytest.mark.parametrize("way", ["up", "down"])
def test_clicks_in_the_order_of_item_ids_look_sorted(ids, way):
    random = np.random.default_rng(1)
    rows = [np.sort(random.permutation(ITEMS)[:CLICKS]) for _ in range(USERS)]
    rows = rows if way == "up" else [row[::-1] for row in rows]
    names = [ids.format(n) for row in rows for n in row]
    (said,) = of(log_of(item_id=pl.Series(names)), "look sorted by item")
    assert said.startswith(f"100% of a user's steps from item to item go {way}")


def test_one_user_who_goes_through_the_catalogue_does_not_make_a_log_sorted():
    clicks = pl.DataFrame(
        {
            "user_id": ["bot"] * 3_000,
            "item_id": [f"i{n % ITEMS:02}" for n in range(3_000)],
            "timestamp": START + pl.int_range(3_000, eager=True) * 600,
        }
    )
    sound = log_of()
    users = np.repeat(sound.user_ids, sound.lengths)
    items = [sound.item_ids[number - 1] for number in sound.items]
    rest = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": sound.timestamps})
    log = prepare(pl.concat([clicks, rest]), name="log")
    assert log.checks.ascending < 0.6
    assert of(log, "one user has")
    assert not of(log, "look sorted")


def test_the_largest_user_and_item_are_said_with_their_shares_and_no_name():
    bot = pl.DataFrame(
        {
            "user_id": "bot",
            "item_id": [f"i{n % ITEMS:02}" for n in range(1_200)],
            "timestamp": START + pl.int_range(1_200, eager=True) * 600,
        }
    )
    clicks = pl.DataFrame(
        {
            "user_id": [f"u{n:03}" for n in range(USERS) for _ in range(CLICKS)],
            "item_id": [
                "home" if k % 2 else f"i{(n + k):02}" for n in range(150) for k in range(8)
            ],
            "timestamp": [START + 600 * step for _ in range(USERS) for step in range(CLICKS)],
        }
    )
    log = prepare(pl.concat([bot, clicks]), name="log")
    (user,) = of(log, "one user has")
    assert user.startswith("one user has 50.0% of all clicks (1,200; the median user 8)")
    assert "--max-user-clicks" in user
    (item,) = of(log, "one item has")
    assert item.startswith("one item has 25.0% of all clicks")
    assert "bot" not in user.replace("leave a bot out", "")


def test_a_small_fair_log_has_no_largest_user_but_few_users():
    few = log_of().user_ids[:10]
    random = np.random.default_rng(5)
    rows = [(u, f"i{n:02}", t) for u in few for t, n in enumerate(random.permutation(ITEMS)[:9])]
    log = prepare(pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row"), name="log")
    assert [words.partition(":")[0] for words in log.cautions] == ["only 10 users"]


def test_tests_on_the_item_before_and_on_clicked_items_are_said():
    last = pl.int_range(pl.len()) % CLICKS == CLICKS - 1
    again = pl.when(last).then(pl.col("item_id").shift(1)).otherwise(pl.col("item_id"))
    log = log_of(item_id=again)
    assert split(log).seen_left_out  # of training clicks none is a repeat
    (lost,) = split(log).cautions
    assert lost.startswith("100.0% of the test clicks are on an item that its user clicked before")
    assert "--seen ranked" in lost
    (same,) = split(log, seen="ranked").cautions
    assert same.startswith("100.0% of the test clicks are on the item clicked just before")
    first = pl.when(last).then(pl.col("item_id").shift(5)).otherwise(pl.col("item_id"))
    (seen,) = split(log_of(item_id=first), seen="ranked").cautions
    assert "sampled negatives never are" in seen


def test_cautions_of_reading_come_first():
    frame = pl.DataFrame(
        {"user_id": list("aaabbb"), "item_id": list("xyzxyz"), "timestamp": [1, 2, 3] * 2}
    )
    log = prepare(frame, name="log", cautions=("3 titles match no item",))
    assert log.cautions[0] == "3 titles match no item"
    assert split(log).cautions[: len(log.cautions)] == log.cautions
