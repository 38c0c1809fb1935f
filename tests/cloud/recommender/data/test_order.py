"""Identical rows, clicks at one time and users with many clicks."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cloud_service.recommender.data.clicks import ClickLog, split
from cloud_service.recommender.data.log import read_log
from cloud_service.recommender.data.order import first_of_identical, newest, tied
from cloud_service.recommender.data.prepare import prepare
from cloud_service.recommender.data.treatment import Treatment
from cloud_service.recommender.recipe import TREATMENT_FIELDS, TrainingRecipe
from shared.errors import DataError

USERS, ITEMS, CLICKS = 200, 60, 8


def rows(seed: int = 0) -> list[tuple[str, str, int]]:
    """Noise: no user clicks an item twice, times are minutes apart."""
    random = np.random.default_rng(seed)
    return [
        (f"u{user:03}", f"i{item:02}", 1_700_000_000 + 60 * step)
        for user in range(USERS)
        for step, item in enumerate(random.permutation(ITEMS)[:CLICKS])
    ]


def log_of(clicks: list[tuple[str, str, int]], folder: Path, **treatment: object) -> ClickLog:
    """The log of a file that holds these rows."""
    path = folder / "clicks.csv"
    frame = pl.DataFrame(clicks, ["user_id", "item_id", "timestamp"], orient="row")
    frame.write_csv(path)
    return Treatment(**treatment).load(str(path), folder)  # type: ignore[arg-type]


def test_rows_that_stand_twice_count_once_and_the_log_is_that_of_the_clean_one(tmp_path):
    clean = rows()
    twin = log_of(clean, tmp_path)
    beside = log_of([row for row in clean for _ in range(2)], tmp_path)
    exported_again = log_of(clean + clean[::-1] + clean[7:], tmp_path)
    assert twin.digest() == beside.digest() == exported_again.digest()
    assert split(beside).seen_left_out
    assert "1,600 of 3,200 rows repeat the user, item and time of another" in beside.preprocessing
    assert any("1,600 of 3,200 rows" in words for words in beside.cautions)
    assert not twin.cautions


def test_rows_that_stand_twice_count_each_where_that_is_asked_for(tmp_path):
    log = log_of([row for row in rows() for _ in range(2)], tmp_path, repeats="all")
    assert log.click_count == 2 * USERS * CLICKS
    assert "rows repeat the user, item and time of another and count" in log.preprocessing
    assert any("--repeats once" in words for words in log.cautions)
    assert any("on the item clicked just before" in words for words in split(log).cautions)


def test_a_few_identical_rows_are_counted_in_words_without_a_caution(tmp_path):
    log = log_of(rows() + rows()[:3], tmp_path)
    assert "3 of 1,603 rows" in log.preprocessing
    assert not log.cautions


def test_the_same_item_at_another_time_is_no_identical_row():
    users = np.array([0, 0, 0, 0, 1, 1])
    items = np.array([3, 3, 4, 3, 3, 3])
    times = np.array([1, 2, 2, 2, 2, 2])
    assert first_of_identical(users, items, times).tolist() == [
        True, True, True, False, True, False
    ]  # fmt: skip
    assert tied(users, times).tolist() == [False, True, True, True, True, True]


def test_clicks_at_one_time_have_the_same_order_whatever_the_order_of_the_file(tmp_path):
    at_once = [(user, item, 5) for user, item, _ in rows()]
    by_item = log_of(sorted(at_once), tmp_path)
    backwards = log_of(sorted(at_once, reverse=True), tmp_path)
    as_drawn = log_of(at_once, tmp_path)
    assert by_item.digest() == backwards.digest() == as_drawn.digest()
    assert "clicks share the time of the one before and are shuffled" in by_item.preprocessing
    assert any("most clicks of 100% of the users share their time" in w for w in by_item.cautions)


def test_the_order_of_clicks_at_one_time_is_the_same_on_every_machine():
    frame = pl.DataFrame({"item_id": list("abcdef"), "timestamp": 7})
    users = pl.concat([frame.with_columns(user_id=pl.lit(user)) for user in ("u", "v")])
    log = prepare(users, name="log")
    shown = ["".join(log.item_ids[n - 1] for n in log.sequence(row)) for row in (0, 1)]
    # Never to be changed: published figures hang on it.
    assert shown == ["dbfeca", "bcedfa"]


def test_no_item_comes_first_in_general_and_none_stays_where_it_was(tmp_path):
    pairs = [(f"u{user:03}", item, 5 + user % 3) for user in range(2_000) for item in "abcd"]
    log = log_of(pairs, tmp_path)
    sequences = log.items.reshape(-1, 4)
    for place in range(4):
        shares = np.bincount(sequences[:, place], minlength=5)[1:] / len(sequences)
        # 2,000 users: a quarter, within four standard deviations.
        assert shares == pytest.approx(0.25, abs=0.04)
    ways = np.unique(sequences, axis=0, return_counts=True)[1]
    assert len(ways) == 24
    assert ways.max() < 2 * ways.min()


def test_another_time_draws_another_order(tmp_path):
    first = log_of([(u, i, 5) for u, i, _ in rows()], tmp_path)
    later = log_of([(u, i, 6) for u, i, _ in rows()], tmp_path)
    assert (first.items == later.items).mean() < 0.3


def test_the_files_order_is_kept_where_it_is_declared(tmp_path):
    at_once = sorted((user, item, 5) for user, item, _ in rows())
    log = log_of(at_once, tmp_path, ties="file")
    ordered = [log.item_ids[number - 1] for number in log.items]
    assert ordered == [item for _, item, _ in at_once]
    assert "keep the file's order" in log.preprocessing
    assert any("the clicks look sorted by item" in words for words in log.cautions)
    assert any("their order is that of the file" in words for words in log.cautions)


def test_of_a_user_with_many_clicks_the_newest_are_kept(tmp_path):
    bot = [("bot", f"i{n % ITEMS:02}", 1_000 + n) for n in range(5_000)]
    log = log_of(rows() + bot, tmp_path, max_user_clicks=20)
    kept = log.sequence(log.user_ids.index("bot"))
    assert [log.item_ids[n - 1] for n in kept] == [f"i{n % ITEMS:02}" for n in range(4980, 5000)]
    assert log.click_count == USERS * CLICKS + 20
    assert "of 1 user only the newest 20 clicks (4,980 left out)" in log.preprocessing
    assert newest(np.array([0, 0, 0, 1, 2, 2]), 2).tolist() == [
        False, True, True, True, True, True
    ]  # fmt: skip


def test_a_cap_below_what_a_user_needs_is_refused(tmp_path):
    with pytest.raises(DataError, match="max_user_clicks is 4, below min_user"):
        log_of(rows(), tmp_path, max_user_clicks=4, min_user=5)


@pytest.mark.parametrize("bots", [1, 5])
def test_a_bot_does_not_decide_whether_anybody_clicks_twice(tmp_path, bots):
    robots = [(f"bot{k}", f"i{n % 7:02}", n) for k in range(bots) for n in range(3_000)]
    with_bots = log_of(rows() + robots, tmp_path)
    assert split(with_bots).seen_left_out
    assert "items clicked before left out" in split(with_bots).description


def test_one_of_few_users_does_not_decide_either(tmp_path):
    few = [row for row in rows() if row[0] < "u005"]
    robot = [("bot", f"i{n % 7:02}", n) for n in range(50)]
    assert split(log_of(few + robot, tmp_path)).seen_left_out


def test_where_one_in_ten_users_clicks_again_clicked_items_are_ranked(tmp_path):
    again = [(u, "i00" if t % 120 else "i01", t) if u < "u020" else (u, i, t) for u, i, t in rows()]
    assert not split(log_of(again, tmp_path)).seen_left_out
    fewer = [(u, "i00" if t % 120 else "i01", t) if u < "u019" else (u, i, t) for u, i, t in rows()]
    assert split(log_of(fewer, tmp_path)).seen_left_out


def test_a_log_without_ties_and_repeats_is_what_it_always_was(tmp_path):
    # As it was before ties and repeats were looked at: figures stay to the digit.
    assert log_of(rows(), tmp_path).digest() == (
        "da968e327b1800be4f167ea5210b57b50430d73ff501434969237bc87f1e5bba"
    )


def test_a_treatment_is_what_a_recipe_says_of_its_log():
    recipe = TrainingRecipe(ties="file", repeats="all", max_user_clicks=9, min_item=2)
    treatment = Treatment.of(recipe.data)
    assert treatment == Treatment(ties="file", repeats="all", max_user_clicks=9, min_item=2)
    assert tuple(vars(treatment)) == TREATMENT_FIELDS


def test_read_log_hands_ties_on_in_the_order_of_the_file(tmp_path):
    path = tmp_path / "clicks.csv"
    path.write_text("user_id,item_id,timestamp\nu,b,1\nu,a,1\nv,c,1\nv,a,1\n")
    assert read_log(path).frame["item_id"].to_list() == ["b", "a", "c", "a"]
