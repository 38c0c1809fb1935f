"""Click logs and item files as they come: any ids, any order, ISO-8601 or numeric times.

frame = read_log(Path("clicks.csv.gz"))   # user_id, item_id, timestamp
titles = read_titles(Path("items.csv"))   # item_id to title
"""

from pathlib import Path

import polars as pl

from cloud_service.data.table import read_table
from shared.errors import DataError

LOG_COLUMNS = ("user_id", "item_id", "timestamp")
TITLE_COLUMNS = ("item_id", "title")

_MICROSECONDS = 1_000_000
_ISO_FORMATS = (
    "%Y-%m-%dT%H:%M:%S%.f",
    "%+",
    "%Y-%m-%d",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%dT%H:%M%#z",
)
"""Date and time with a T (a blank becomes one), a zone or none (then UTC), or a date alone."""


ID_BYTES = 256
"""No id is longer: devices hold all item ids at the width of the longest."""


def read_log(path: Path) -> pl.DataFrame:
    """Reads a click log (.csv, .csv.gz or .parquet).

    Returns:
        user_id (String), item_id (String) and timestamp (Int64), sorted by user (by bytes), then
        timestamp; ties keep the file's order. Whole numbers stay as they are, numbers with
        fractions are multiplied by 10^6, ISO-8601 texts become microseconds since 1970 (UTC),
        Parquet datetimes keep their unit: only the order of times is to be relied on.

    Raises:
        DataError: the file cannot be used; says why, where, and what to do.
    """
    raw = read_table(path, LOG_COLUMNS)
    # A blank line of a CSV is a row of nulls: no click, and no fault either.
    blank = raw.select(pl.all_horizontal(pl.all().is_null())).to_series()
    frame = pl.DataFrame(
        {
            "user_id": _ids(path, raw["user_id"], blank),
            "item_id": _ids(path, raw["item_id"], blank),
            "timestamp": _times(path, raw["timestamp"], blank),
        }
    )
    del raw
    if blank.any():
        frame = frame.filter(~blank)
    _check_content(path, frame)
    return frame.sort("user_id", "timestamp", maintain_order=True)


def read_titles(path: Path) -> dict[str, str]:
    """Reads an item file with the columns item_id and title, in the formats of `read_log`.

    Returns:
        The title of each item. Of a repeated item the first row counts; line breaks, tabs and
        runs of blanks become one blank. Items without a title are left out.

    Raises:
        DataError: the file cannot be used; says why, where, and what to do.
    """
    raw = read_table(path, TITLE_COLUMNS)
    blank = raw.select(pl.all_horizontal(pl.all().is_null())).to_series()
    ids = _ids(path, raw["item_id"], blank)
    titles = _text(path, raw["title"]).str.replace_all(r"\s+", " ").str.strip_chars()
    frame = pl.DataFrame({"item_id": ids, "title": titles}).filter(
        ids.is_not_null() & titles.is_not_null() & (titles != "")
    )
    frame = frame.unique("item_id", keep="first", maintain_order=True)
    if frame.height == 0:
        raise DataError(f"{path} has no title in any row: fill the column title.")
    return dict(zip(frame["item_id"].to_list(), frame["title"].to_list(), strict=True))


def _text(path: Path, column: pl.Series) -> pl.Series:
    """`column` as strings; an id that pandas made 17850.0 is 17850 again."""
    if column.dtype == pl.String:
        return column
    if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Object):
        raise DataError(
            f"{path}: column {column.name} has the type {column.dtype}: make it text or integers."
        )
    if column.dtype.is_float():
        column = column.fill_nan(None)
        whole = column.cast(pl.Int64, strict=False)
        if (whole.cast(column.dtype) == column).all():
            column = whole
    return column.cast(pl.String)


def _ids(path: Path, column: pl.Series, blank: pl.Series) -> pl.Series:
    ids = _text(path, column)
    bad = (ids.is_null() | (ids == "")) & ~blank
    row = bad.arg_max()
    if row is not None and bad[row]:
        raise DataError(
            f"{path}: data row {row + 1} has no {column.name}{_others(bad)}: "
            "fill it in or remove the row."
        )
    odd = (ids.str.len_bytes() > ID_BYTES) | ids.str.contains("\0", literal=True)
    row = odd.fill_null(False).arg_max()
    if row is not None and odd[row]:
        raise DataError(
            f"{path}: the {column.name} of data row {row + 1} is longer than {ID_BYTES} bytes or "
            f"holds a zero byte{_others(odd)}: shorten it, or number your ids."
        )
    return ids


def _others(bad: pl.Series) -> str:
    count = int(bad.sum())
    return f" ({count:,} such rows)" if count > 1 else ""


def _times(path: Path, column: pl.Series, blank: pl.Series) -> pl.Series:
    """`column` as Int64 (see `read_log`)."""
    if column.dtype == pl.String:
        times = _times_from_text(column)
    elif column.dtype.is_integer():
        times = column.cast(pl.Int64, strict=False)
    elif column.dtype.is_float():
        times = _times_from_floats(column)
    elif column.dtype == pl.Date:
        times = column.cast(pl.Datetime("us")).to_physical()
    elif isinstance(column.dtype, pl.Datetime):
        times = column.to_physical()
    else:
        raise DataError(
            f"{path}: column timestamp has the type {column.dtype}: give numbers or ISO-8601 "
            "dates and times."
        )
    bad = times.is_null() & ~blank
    row = bad.arg_max()
    if row is not None and bad[row]:
        value = column[row]
        shown = "is missing" if value is None else f"is {str(value)[:60]!r}"
        raise DataError(
            f"{path}: the timestamp of data row {row + 1} {shown}{_others(bad)}: give every row "
            "a number or an ISO-8601 time such as 2024-05-31T18:30:00Z, one kind per file."
        )
    return times


def _times_from_text(column: pl.Series) -> pl.Series:
    """Numbers if the first value is one, else ISO-8601: a file has one kind of time."""
    first = column.drop_nulls().head(1).str.strip_chars()
    if first.cast(pl.Float64, strict=False).is_not_null().all():
        whole = column.cast(pl.Int64, strict=False)
        if whole.null_count() == column.null_count():
            return whole
        column = column.str.strip_chars()
        whole = column.cast(pl.Int64, strict=False)
        if whole.null_count() == column.null_count():
            return whole
        return _times_from_floats(column.cast(pl.Float64, strict=False))
    column = column.str.strip_chars().str.replace(r"^(\d{4}-\d\d-\d\d) ", "${1}T")
    times = pl.Series(column.name, [None] * len(column), dtype=pl.Int64)
    for pattern in _ISO_FORMATS:
        parsed = column.str.to_datetime(pattern, strict=False, time_unit="us")
        times = times.fill_null(parsed.to_physical())
        if times.null_count() == column.null_count():
            break
    return times


def _times_from_floats(column: pl.Series) -> pl.Series:
    """Whole numbers as they are, others as millionths; null where not finite or too large."""
    finite = column.cast(pl.Float64).fill_nan(None)
    whole = finite.cast(pl.Int64, strict=False)
    if (whole.cast(pl.Float64) == finite).all():
        return whole
    return (finite * _MICROSECONDS).round().cast(pl.Int64, strict=False)


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
