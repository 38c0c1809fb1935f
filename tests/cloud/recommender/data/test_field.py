"""Logs as people reported them, through `load`: what is read, what is said, what is refused."""

import random
from pathlib import Path

import polars as pl
import pytest

from cloud_service.recommender.data.catalog import load
from cloud_service.recommender.data.clicks import ClickLog
from shared.errors import DataError

HEAD = "user_id,item_id,timestamp"
USERS, ITEMS = 12, 8


def loaded(folder: Path, log: str, titles: str | None = None) -> ClickLog:
    (folder / "log.csv").write_text(log, encoding="utf-8")
    items = None
    if titles is not None:
        items = folder / "items.csv"
        items.write_text(titles, encoding="utf-8")
    return load(folder / "log.csv", folder=folder, items_path=items)


def clicks(item: str = "i{}", time: str = "{}", *, seed: int = 1) -> list[str]:
    """Rows of a small log of noise, each user's in order of time."""
    draw = random.Random(seed)
    return [
        f"u{user},{item.format(100 + draw.randrange(ITEMS))},{time.format(1_600_000_000 + 60 * n)}"
        for user in range(USERS)
        for n in range(10)
    ]


def text(rows: list[str], head: str = HEAD) -> str:
    return "\n".join([head, *rows]) + "\n"


def about(log: ClickLog, words: str) -> list[str]:
    return [caution for caution in log.cautions if words in caution]


def test_a_quote_within_a_field_that_is_not_read_loses_no_click(tmp_path: Path) -> None:
    rows = [f'{row},{20 + n}" tv' for n, row in enumerate(clicks())]
    log = loaded(tmp_path, text(rows, HEAD + ",query"))
    plain = loaded(tmp_path, text(clicks()))
    assert log.items.tolist() == plain.items.tolist()
    assert log.cautions == plain.cautions


def test_a_quote_in_the_notes_of_the_titles_loses_no_title(tmp_path: Path) -> None:
    titles = [f'i{100 + n},Title {n},{n}" wide' for n in range(ITEMS)]
    log = loaded(tmp_path, text(clicks()), text(titles, "item_id,title,note"))
    assert log.titles == tuple(f"Title {n}" for n in range(ITEMS))
    assert not about(log, "have a title")


def test_a_log_with_every_row_twice_is_the_log_and_says_so(tmp_path: Path) -> None:
    rows = clicks()
    twice = loaded(tmp_path, text([row for row in rows for _ in range(2)]))
    once = loaded(tmp_path, text(rows))
    assert twice.items.tolist() == once.items.tolist()
    assert about(twice, "120 of 240 rows repeat the user, item and time of another")
    assert not about(once, "repeat the user")


def test_clicks_of_one_day_come_in_an_order_that_no_sorting_of_the_file_sets(
    tmp_path: Path,
) -> None:
    rows = [row.rpartition(",")[0] + ",2024-05-31" for row in clicks()]
    drawn = loaded(tmp_path, text(rows))
    by_item = loaded(tmp_path, text(sorted(rows)))
    assert by_item.items.tolist() == drawn.items.tolist()
    assert about(by_item, "most clicks of 100% of the users share their time")


def test_one_user_with_most_clicks_is_said_with_the_share(tmp_path: Path) -> None:
    bot = [f"bot,i{100 + n % ITEMS},{1_600_000_000 + n}" for n in range(480)]
    log = loaded(tmp_path, text(clicks() + bot))
    assert about(log, "one user has 80.0% of all clicks (480; the median user 10)")


def test_ids_with_zeros_in_front_keep_them(tmp_path: Path) -> None:
    log = loaded(tmp_path, text(clicks("0{}")))
    assert log.item_ids[0] == "0100"


def test_titles_that_lost_the_zeros_of_the_log_are_refused(tmp_path: Path) -> None:
    titles = [f"{100 + n},Title {n}" for n in range(ITEMS)]
    with pytest.raises(DataError, match=r"item_id '0100', the titles have '100'.*zeros in front"):
        loaded(tmp_path, text(clicks("0{}")), text(titles, "item_id,title"))


def test_titles_of_some_items_say_their_share_among_the_cautions(tmp_path: Path) -> None:
    titles = [f"i{100 + n},Title {n}" for n in range(6)]
    log = loaded(tmp_path, text(clicks()), text(titles, "item_id,title"))
    assert log.titles is not None
    assert [title != "" for title in log.titles] == [True] * 6 + [False] * 2
    assert about(log, "6 of 8 items (75.0%) have a title in items.csv: 'i106' has none")


def test_ids_of_a_dataframe_with_gaps_find_their_titles(tmp_path: Path) -> None:
    titles = [f"{100 + n},Title {n}" for n in range(ITEMS)]
    log = loaded(tmp_path, text(clicks("{}.0")), text(titles, "item_id,title"))
    assert log.item_ids[0] == "100"
    assert log.titles == tuple(f"Title {n}" for n in range(ITEMS))
    assert about(log, "every item_id ended in .0")


@pytest.mark.parametrize("users", [2.0**53, 5.4131214e17])
def test_float_users_that_may_have_become_one_are_refused(tmp_path: Path, users: float) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame(
        {
            "user_id": [users + 4096 * (n // 4) for n in range(16)],
            "item_id": [n % 4 for n in range(16)],
            "timestamp": range(16),
        }
    ).write_parquet(path)
    with pytest.raises(DataError, match=r"Float64, which cannot hold .*as text or integers"):
        load(path, folder=tmp_path)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("visitorid,item_id,timestamp", "column visitorid read as user_id"),
        ("userId,movieId,timestamp", "columns userId and movieId read as user_id and item_id"),
        ("customer_id,article_id,t_dat", "columns customer_id, article_id and t_dat read as"),
    ],
)
def test_names_of_well_known_sets_are_read_and_told(tmp_path: Path, head: str, said: str) -> None:
    log = loaded(tmp_path, text(clicks(), head))
    assert said in log.preprocessing
    assert log.items.tolist() == loaded(tmp_path, text(clicks())).items.tolist()


@pytest.mark.parametrize("head", ["movieId,title", "itemid;title", "item_id\ttitle"])
def test_titles_of_well_known_sets_are_read(tmp_path: Path, head: str) -> None:
    mark = head[-6]
    titles = [f"i{100 + n}{mark}Title {n}" for n in range(ITEMS)]
    log = loaded(tmp_path, text(clicks()), text(titles, head))
    assert log.titles == tuple(f"Title {n}" for n in range(ITEMS))


def test_a_log_given_as_its_own_titles_is_told_which_column_it_lacks(tmp_path: Path) -> None:
    log = text(clicks())
    with pytest.raises(DataError, match=r"items\.csv has no column title"):
        loaded(tmp_path, log, log)


def test_an_empty_choice_of_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(text(clicks()))
    with pytest.raises(DataError, match="is none of user=NAME"):
        load(tmp_path / "log.csv", folder=tmp_path, columns="")
