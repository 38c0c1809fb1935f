"""Times as programs write them, as whole numbers whose order is that of the clicks."""

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from cloud_service.data.ids import EXACT, refuse_row
from shared.errors import DataError

_MICROSECONDS = 1_000_000
_ISO_FORMATS = (
    "%Y-%m-%dT%H:%M:%S%.f",
    "%+",
    "%Y-%m-%d",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%dT%H:%M%#z",
)
"""Date and time with a T (a blank becomes one), a zone or none (then UTC), or a date alone."""

_YEARS: Final = (315_532_800, 4_102_444_800)
"""1980 to 2100, in seconds."""
_UNITS: Final = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}


def read_times(
    path: Path, column: pl.Series, blank: pl.Series
) -> tuple[pl.Series, tuple[str, ...]]:
    """A column of times as Int64, and what is odd about them.

    Whole numbers stay as they are, numbers with fractions are multiplied by 10^6, ISO-8601 texts
    become microseconds since 1970 (UTC), Parquet datetimes keep their unit: only the order of
    times is to be relied on.

    Raises:
        DataError: a time is missing or no time, has lost digits, or the column mixes units.
    """
    kind = column.dtype
    if kind == pl.String:
        times = _from_text(path, column)
    elif kind.is_integer():
        times = column.cast(pl.Int64, strict=False)
    elif kind.is_float():
        times = _from_floats(path, column)
    elif isinstance(kind, pl.Decimal):
        times = (
            (column * _MICROSECONDS).cast(pl.Int64, strict=False)
            if kind.scale
            else (column.cast(pl.Int64, strict=False))
        )
    elif kind == pl.Date:
        times = column.cast(pl.Datetime("us")).to_physical()
    elif isinstance(kind, pl.Datetime):
        times = column.to_physical()
    else:
        raise DataError(
            f"{path}: column timestamp has the type {kind}: give numbers or ISO-8601 dates and "
            "times."
        )
    bad = times.is_null() & ~blank
    _refuse_missing(path, column, bad)
    notes = _odd(path, times.filter(~blank)) if kind == pl.String or kind.is_numeric() else ()
    return times, notes


def _refuse_missing(path: Path, column: pl.Series, bad: pl.Series) -> None:
    row = bad.arg_max()
    if row is None or not bad[row]:
        return
    value = column[row]
    shown = "is missing" if value is None else f"is {str(value)[:60]!r}"
    count = int(bad.sum())
    others = f" ({count:,} such rows)" if count > 1 else ""
    todo = (
        "that is the header again: remove it, as of files put one after the other"
        if value == column.name
        else "give every row a number or an ISO-8601 time such as 2024-05-31T18:30:00Z, one kind "
        "per file"
    )
    raise DataError(f"{path}: the timestamp of data row {row + 1} {shown}{others}: {todo}.")


def _from_text(path: Path, column: pl.Series) -> pl.Series:
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
        _refuse_cut(path, column)
        return _from_floats(path, column.cast(pl.Float64, strict=False))
    column = (
        column.str.strip_chars()
        .str.replace(r"^(\d{4}-\d\d-\d\d) ", "${1}T")
        .str.replace(r" ?(UTC|GMT)$", "Z")
    )
    times = pl.Series(column.name, [None] * len(column), dtype=pl.Int64)
    for pattern in _ISO_FORMATS:
        parsed = column.str.to_datetime(pattern, strict=False, time_unit="us")
        times = times.fill_null(parsed.to_physical())
        if times.null_count() == column.null_count():
            break
    return times


def _refuse_cut(path: Path, column: pl.Series) -> None:
    """A spreadsheet's 1.7E+09 stands for all times of three years: refused."""
    parts = column.str.extract_groups(
        r"^-?(?P<whole>\d+)(?:\.(?P<rest>\d+))?[eE]\+?(?P<power>\d+)$"
    )
    digits = parts.struct.field("rest").str.len_chars().fill_null(0).cast(pl.Int64)
    power = parts.struct.field("power").cast(pl.Int64, strict=False)
    refuse_row(
        path,
        column,
        (power > 6) & (digits < power),
        "has the {name} {value}, as spreadsheets write long numbers: digits are lost; export the "
        "column as text",
    )


def _from_floats(path: Path, column: pl.Series) -> pl.Series:
    """Whole numbers as they are, others as millionths; null where not finite or too large."""
    if column.dtype == pl.Float32:
        limit = EXACT[pl.Float32]
        refuse_row(
            path,
            column,
            column.abs() >= limit,
            f"has the {{name}} {{value}}: from {limit:,} on the type Float32 rounds times to whole "
            "minutes and more; export the column as integers",
        )
    finite = column.cast(pl.Float64).fill_nan(None)
    whole = finite.cast(pl.Int64, strict=False)
    if (whole.cast(pl.Float64) == finite).all():
        return whole
    return (finite * _MICROSECONDS).round().cast(pl.Int64, strict=False)


def _odd(path: Path, times: pl.Series) -> tuple[str, ...]:
    """What is odd about numbers as times. Raises DataError where they mix units."""
    values = np.abs(times.drop_nulls().to_numpy())
    early, late = _YEARS
    counts = {
        unit: int(((values >= early * scale) & (values < late * scale)).sum())
        for unit, scale in _UNITS.items()
    }
    used = {unit: count for unit, count in counts.items() if count}
    if not used:
        return ()
    rest = len(values) - sum(used.values())
    if len(used) > 1 and rest < 0.01 * len(values):
        listed = " and ".join(f"{count:,} in {unit}" for unit, count in used.items())
        raise DataError(
            f"{path}: the timestamps mix units ({listed}): give all clicks in one unit."
        )
    if 0 < rest < 0.5 * len(values):
        return (
            f"{rest:,} timestamps are outside the years 1980 to 2100, the others within: they may "
            "stand for missing times, and sort before or after all others",
        )
    return ()
