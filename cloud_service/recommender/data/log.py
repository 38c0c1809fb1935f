"""Reads click logs and item files: any ids, any order, ISO-8601 or numeric times.

log = read_log(Path("clicks.csv.gz"))   # log.frame: user_id, item_id, timestamp
items = read_titles(Path("items.csv"))  # items.titles: item_id to title

Whatever was unusual but could be read is reported in `notes`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cloud_service.recommender.data.column_names import AGREED, parse_columns
from cloud_service.recommender.data.consent import read_agreed
from cloud_service.recommender.data.ids import MISSING, Ids, alike, read_ids
from cloud_service.recommender.data.table import Table, read_table
from cloud_service.recommender.data.times import read_times
from shared.errors import DataError

LOG_COLUMNS = ("user_id", "item_id", "timestamp")
TITLE_COLUMNS = ("item_id", "title")


@dataclass(frozen=True, eq=False)
class LogFile:
    """A click log as it was read.

    Attributes:
        frame: user_id (String), item_id (String) and timestamp (Int64), sorted by user (by
            bytes), then timestamp; ties keep the file's order. A log with a column of consent
            also has agreed (Boolean).
        description: how a file that is not plain CSV was read (separators, column names).
        notes: what was unusual but accepted, one clause each.
    """

    frame: pl.DataFrame
    description: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ItemFile:
    """An item file as it was read: item id to title; the other fields are as in LogFile."""

    titles: Mapping[str, str]
    description: str = ""
    notes: tuple[str, ...] = ()


def read_log(path: Path, columns: str | None = None) -> LogFile:
    """Reads a click log: text (.csv, .tsv, .txt, RecBole's .inter, each also .gz) or .parquet.

    Times that are integers stay unchanged, numbers with fractions are multiplied by 10^6, ISO-8601
    texts become microseconds since 1970 (UTC), Parquet datetimes keep their unit: rely only on the
    order of times.

    Args:
        columns: the names of its columns, `user=NAME,item=NAME,time=NAME`; None takes user_id,
            item_id and timestamp, or the names of a well-known set. `agreed=NAME` names a column of
            consent; else it is the column `agreed`, if there is one.

    Raises:
        DataError: the file cannot be used; says why, where, and what to do.
    """
    header_names = parse_columns(columns) if columns is not None else {}
    is_named = AGREED in header_names
    required = (*LOG_COLUMNS, AGREED) if is_named else LOG_COLUMNS
    table = read_table(path, required, header_names, () if is_named else (AGREED,))
    users, items = read_ids(table, "user_id"), read_ids(table, "item_id")
    times, notes = read_times(table, "timestamp")
    _check_content(path, users, items)
    frame = pl.DataFrame({"user_id": users.column, "item_id": items.column, "timestamp": times})
    if AGREED in table.frame.columns:
        frame = frame.with_columns(read_agreed(table))
    return LogFile(
        frame.sort("user_id", "timestamp", maintain_order=True),
        table.description,
        (*users.notes, *items.notes, *notes),
    )


def read_titles(path: Path, columns: str | None = None) -> ItemFile:
    """Reads an item file with the columns item_id and title, in the formats of `read_log`.

    The first title of a repeated item counts; line breaks, tabs and runs of blanks become one
    blank. Items without a title are left out.

    Args:
        columns: as for the log; the item column may have the same name in the item file.

    Raises:
        DataError: the file cannot be used; says why, where, and what to do.
    """
    header_names = parse_columns(columns) if columns is not None else {}
    of_items = {name: header_names[name] for name in ("item_id",) if name in header_names}
    table = _item_table(path, of_items)
    ids = read_ids(table, "item_id")
    notes = list(ids.notes)
    titles = _titles(table).str.replace_all(r"\s+", " ").str.strip_chars()
    frame = pl.DataFrame({"item_id": ids.column, "title": titles}).filter(
        titles.is_not_null() & (titles != "")
    )
    if frame.height == 0:
        raise DataError(f"{path} has no title in any row: fill the column title.")
    if missing := int(frame["title"].is_in(list(MISSING)).sum()):
        notes.append(f"{missing:,} titles are what a program wrote for a missing one, such as nan")
    different = frame.unique().height
    frame = frame.unique("item_id", keep="first", maintain_order=True)
    if different > frame.height:
        count = different - frame.height
        notes.append(
            f"{count:,} {'row gives' if count == 1 else 'rows give'} an item another title than "
            "its first, which counts"
        )
    return ItemFile(
        dict(zip(frame["item_id"].to_list(), frame["title"].to_list(), strict=True)),
        table.description,
        tuple(f"{path.name}: {note}" for note in notes),
    )


def match_titles(path: Path, titles: Mapping[str, str], items: pl.Series) -> tuple[str, ...]:
    """A note about items of the log that have no title; none if every item has one.

    Args:
        path: of the item file.
        titles: of the item file, by item id; at least one.
        items: item ids of the log, in any order, String.

    Raises:
        DataError: no item has a title; shows an id of each side, and how they differ.
    """
    ids = items.unique().sort()
    named = ids.is_in(pl.Series(list(titles), dtype=pl.String).implode())
    count = int(named.sum())
    if count == len(ids):
        return ()
    lone = ids.filter(~named).to_list()
    free = sorted(titles.keys() - set(ids.to_list()))
    pair = alike(lone, free)
    if not count:
        mine, theirs, reason = pair or (lone[0], free[0], "")
        hint = (
            f"they differ in {reason}; write both the same way, as text"
            if reason
            else "check that both files are of the same catalogue"
        )
        raise DataError(
            f"{path}: no title is of an item of the log; the log has the item_id {mine!r}, the "
            f"titles have {theirs!r}: {hint}."
        )
    share = math.floor(1000 * count / len(ids)) / 10
    coverage = f"{count:,} of {len(ids):,} items ({share:.1f}%) have a title in {path.name}"
    if pair:
        return (f"{coverage}: {pair[0]!r} has none, and {pair[1]!r} differs from it in {pair[2]}",)
    return (f"{coverage}: {lone[0]!r} has none",)


def _item_table(path: Path, header_names: Mapping[str, str]) -> Table:
    """Reads the item file with the log's name for the item column, else with a usual name."""
    if header_names:
        try:
            return read_table(path, TITLE_COLUMNS, header_names)
        except DataError:
            # The second attempt reports the error if the usual names are absent, too.
            pass
    return read_table(path, TITLE_COLUMNS)


def _titles(table: Table) -> pl.Series:
    column = table.frame["title"]
    if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Object):
        raise DataError(f"{table.path}: column title has the type {column.dtype}: make it text.")
    return column.cast(pl.String)


def _check_content(path: Path, users: Ids, items: Ids) -> None:
    if users.count == 1:
        raise DataError(
            f"{path} has only one user ({users.column[0]!r}): a recommender needs several; "
            "check that user_id is the user's column."
        )
    if items.count == len(items.column):
        raise DataError(
            f"{path}: no item is seen twice, so there is nothing to learn: check that item_id "
            "names the item and not the row."
        )
