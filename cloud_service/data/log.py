"""Click logs and item files as they come: any ids, any order, ISO-8601 or numeric times.

log = read_log(Path("clicks.csv.gz"))     # log.frame: user_id, item_id, timestamp
titles = read_titles(Path("items.csv"))   # item_id to title
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cloud_service.data.columns import parse_columns
from cloud_service.data.ids import bare, read_ids
from cloud_service.data.table import read_table
from cloud_service.data.times import read_times
from shared.errors import DataError

LOG_COLUMNS = ("user_id", "item_id", "timestamp")
TITLE_COLUMNS = ("item_id", "title")


@dataclass(frozen=True, eq=False)
class LogFile:
    """A click log as read.

    Attributes:
        frame: user_id (String), item_id (String) and timestamp (Int64), sorted by user (by
            bytes), then timestamp; ties keep the file's order.
        notes: what was odd in the file and could be read all the same, a clause each.
    """

    frame: pl.DataFrame
    notes: tuple[str, ...] = ()


def read_log(path: Path, columns: str | None = None) -> LogFile:
    """Reads a click log, one row a click, in any order.

    Args:
        path: a file of one of `cloud_service.data.table.FORMATS`.
        columns: names of its columns, as `user=NAME,item=NAME,time=NAME`; without, they are
            user_id, item_id and timestamp, or those of a well-known set.

    Raises:
        DataError: the file cannot be used; says why, where, and what to do.
    """
    table = read_table(path, LOG_COLUMNS, parse_columns(columns) if columns else {})
    # A blank line of a CSV is a row of nulls: no click, and no fault either.
    blank = _blank(table.frame)
    users, user_notes = read_ids(path, table.frame["user_id"], blank)
    items, item_notes = read_ids(path, table.frame["item_id"], blank)
    times, time_notes = read_times(path, table.frame["timestamp"], blank)
    frame = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": times})
    if blank.any():
        frame = frame.filter(~blank)
    _check_content(path, frame)
    return LogFile(
        frame.sort("user_id", "timestamp", maintain_order=True),
        (*table.notes, *user_notes, *item_notes, *time_notes),
    )


def read_titles(path: Path) -> dict[str, str]:
    """Reads an item file with the columns item_id and title, in the formats of `read_log`.

    Returns:
        The title of each item. Of a repeated item the first row counts; line breaks, tabs and
        runs of blanks become one blank. Items without a title are left out.

    Raises:
        DataError: the file cannot be used; says why, where, and what to do.
    """
    table = read_table(path, TITLE_COLUMNS).frame
    ids, _ = read_ids(path, table["item_id"], _blank(table))
    if table["title"].dtype.is_nested() or table["title"].dtype == pl.Binary:
        raise DataError(f"{path}: column title has the type {table['title'].dtype}: make it text.")
    titles = table["title"].cast(pl.String).str.replace_all(r"\s+", " ").str.strip_chars()
    frame = pl.DataFrame({"item_id": ids, "title": titles}).filter(
        ids.is_not_null() & titles.is_not_null() & (titles != "")
    )
    frame = frame.unique("item_id", keep="first", maintain_order=True)
    if frame.height == 0:
        raise DataError(f"{path} has no title in any row: fill the column title.")
    return dict(zip(frame["item_id"].to_list(), frame["title"].to_list(), strict=True))


def match_titles(path: Path, titles: dict[str, str], items: Iterable[str]) -> tuple[str, ...]:
    """What to say of the titles of a log's items: nothing where every item has one.

    Raises DataError where no item has one, which shows an id of each side.
    """
    catalogue = set(items)
    matched = len(catalogue & titles.keys())
    if matched == len(catalogue):
        return ()
    if matched:
        share = matched / len(catalogue)
        return (f"{matched:,} of {len(catalogue):,} items ({share:.1%}) have a title",)
    by_bare = {bare(item): item for item in titles}
    item = next((item for item in sorted(catalogue) if bare(item) in by_bare), min(catalogue))
    other = by_bare.get(bare(item))
    hint = (
        "they differ in leading zeros, in .0 or in case, which spreadsheets and dataframes change; "
        "write both as text"
        if other is not None
        else "check that both files are of the same catalogue"
    )
    raise DataError(
        f"{path}: no title is of an item of the log; the log has the item_id {item!r}, the titles "
        f"have {other or next(iter(titles))!r}: {hint}."
    )


def _blank(frame: pl.DataFrame) -> pl.Series:
    return frame.select(pl.all_horizontal(pl.all().is_null())).to_series()


def _check_content(path: Path, frame: pl.DataFrame) -> None:
    if frame.height == 0:
        raise DataError(f"{path} has a header but no rows: give a file with data in it.")
    if frame["user_id"].n_unique() == 1:
        raise DataError(
            f"{path} has only one user ({frame['user_id'][0]!r}): a recommender needs several; "
            "check that user_id is the user's column."
        )
    if frame["item_id"].n_unique() == frame.height:
        raise DataError(
            f"{path}: no item is seen twice, so there is nothing to learn: check that item_id "
            "names the item and not the row."
        )
