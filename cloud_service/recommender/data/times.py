"""Reads times as integers, one kind per file, and reports what makes them doubtful.

A column of numbers does not state its unit. If all numbers would be dates from 1980 to 2100 in one
unit (seconds, milliseconds, microseconds or nanoseconds since 1970), this unit is assumed, but only
for warnings: the numbers are not changed.
"""

import math
from datetime import UTC, datetime
from typing import Final

import polars as pl

from cloud_service.recommender.data.table import Table
from shared.errors import DataError

_MICROSECONDS: Final = 1_000_000
_ISO_FORMATS: Final = (
    "%Y-%m-%dT%H:%M:%S%.f",
    "%+",
    "%Y-%m-%d",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M%#z",
)
"""Date and time with a T (or a blank), with or without a zone (then UTC), or only a date."""

_NUMBER: Final = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_EXPONENT: Final = r"^[+-]?\d+(?:\.(\d*))?[eE]\+?(\d+)$"
_ISO: Final = r"^\d{4}-\d\d-\d\d([T ]|$)"
_ZONE: Final = r"(Z|[+-]\d\d:?(\d\d)?)$"
_SLASHES: Final = r"^\d{1,4}[/.]\d{1,2}[/.]\d{1,4}"
_SHORT_YEAR: Final = r"^\d{1,2}-\d{1,2}-\d{1,4}"

_1980, _2100 = 315_532_800, 4_102_444_800
_UNITS: Final = (
    ("seconds", 1),
    ("milliseconds", 1_000),
    ("microseconds", 1_000_000),
    ("nanoseconds", 1_000_000_000),
)
_DAYS: Final = (29_221, 73_050)
"""1980 and 2100 as the day numbers of a spreadsheet."""
_ROUNDED_FROM: Final = 6
"""Power of ten from which a program that prints six digits rounds."""
_FLOAT32_EXACT: Final = 2**24
_FLOAT64_EXACT: Final = 2**53
_FLOAT_DIGITS: Final = 15
"""Number of digits after the point at which a float has all its digits."""


def read_times(table: Table, name: str) -> tuple[pl.Series, list[str]]:
    """Reads column `name` of a table as times.

    Returns:
        The times (Int64, without nulls; see `read_log`), and a note for everything unusual.

    Raises:
        DataError: a time is missing or cannot be read, or the times are of several kinds; says
            where.
    """
    column = table.frame[name]
    dtype = column.dtype
    if isinstance(dtype, pl.Categorical | pl.Enum) or dtype.is_decimal():
        column = column.cast(pl.String)
    notes: list[str] = []
    if column.dtype == pl.String:
        times, unit = _from_text(table, column, notes)
    elif dtype.is_integer():
        times, unit = column.cast(pl.Int64, strict=False), None
    elif dtype.is_float():
        _check_float(table, column)
        times, unit = _from_floats(column), None
    elif dtype == pl.Date:
        times, unit = column.cast(pl.Datetime("us")).to_physical(), _MICROSECONDS
    elif isinstance(dtype, pl.Datetime):
        units = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
        times, unit = column.to_physical(), units[dtype.time_unit]
    else:
        raise DataError(
            f"{table.path}: column {name} has the type {dtype}: give numbers or ISO-8601 "
            "dates and times."
        )
    _check_all_read(table, table.frame[name], times)
    unit = unit or _unit(table, table.frame[name], times)
    if unit is not None:
        _check_early(table, table.frame[name], times, unit)
        if not (times >= _1980 * unit).any():
            notes.append(f"{name}: no time is after 1980: check the unit that it was written in")
        notes.extend(_late(times, unit))
    elif _are_days(column, times):
        notes.append(f"{name}: the numbers look like days of a spreadsheet, not like seconds")
    return times, notes


def _check_all_read(table: Table, column: pl.Series, times: pl.Series) -> None:
    bad = times.is_null()
    if not bad.any():
        return
    row = int(bad.arg_max() or 0)
    value = column[row]
    text = str(value).strip()
    odd = column.dtype == pl.String and value is not None
    if odd and pl.Series([text]).str.contains(_SLASHES).item():
        remedy = "write dates as 2024-05-31, so that nobody can take the day for the month"
    elif odd and pl.Series([text]).str.contains(_SHORT_YEAR).item():
        remedy = "write dates with the whole year first, as 2024-05-31"
    elif odd and text.replace(",", "").isdigit() and "," in text:
        remedy = "write numbers without thousands separators, and a point before a fraction"
    else:
        remedy = (
            "give every row a number or an ISO-8601 time such as 2024-05-31T18:30:00Z, one kind "
            "per file"
        )
    shown = "is missing" if value is None or not text else f"is {text[:60]!r}"
    raise DataError(
        f"{table.path}: the {column.name} of {table.where(row)} {shown}{_such_rows(bad)}: {remedy}."
    )


def _from_text(table: Table, column: pl.Series, notes: list[str]) -> tuple[pl.Series, int | None]:
    """Reads numbers if the first value is one, else ISO-8601; also returns its unit."""
    first_value = column.drop_nulls().head(1).str.strip_chars()
    if first_value.str.contains(_NUMBER).all():
        integers = column.cast(pl.Int64, strict=False)
        if integers.null_count() == column.null_count():
            return integers, None
        return _parse_numbers(table, column.str.strip_chars()), None
    return _dates(column, notes), _MICROSECONDS


def _parse_numbers(table: Table, column: pl.Series) -> pl.Series:
    """Parses numbers, of which some have fractions or exponents, from stripped text."""
    integers = column.cast(pl.Int64, strict=False)
    if integers.null_count() == column.null_count():
        return integers
    if column.str.contains(r"[eE]").any():
        exponent_parts = column.str.extract_groups(_EXPONENT).struct
        digits = exponent_parts.field("1").fill_null("").str.len_bytes().cast(pl.Int64)
        power = exponent_parts.field("2").cast(pl.Int64, strict=False)
        # A program that writes larger numbers in full, as R does, has not rounded these.
        full = math.log10(max(int(str(integers.max() or 1)), 1))
        lost = ((power > digits) & (power > max(full, _ROUNDED_FROM - 1))).fill_null(False)
        # A program that writes all digits, as Java does, omits trailing zeros of some.
        whole_too = ((power <= digits) & (digits > _ROUNDED_FROM)) | (digits >= _FLOAT_DIGITS)
        if lost.any() and not whole_too.any():
            row = int(lost.arg_max() or 0)
            raise DataError(
                f"{table.path}: the {column.name} of {table.where(row)} is {column[row]!r}, a "
                f"number that a spreadsheet or a dataframe rounded{_such_rows(lost)}: export the "
                "times again from their source with all digits."
            )
    # As floats, integers of many digits would lose their order without an error.
    exact = column.str.replace(r"\.0*$", "")
    integers = exact.cast(pl.Int64, strict=False)
    if (integers.is_not_null() | exact.str.contains(r"^[+-]?\d+$") | column.is_null()).all():
        return integers
    large = (integers.abs() >= _FLOAT64_EXACT).fill_null(False)
    if large.any():
        row = int(large.arg_max() or 0)
        raise DataError(
            f"{table.path}: the {column.name} of {table.where(row)} is {column[row]!r}, and others "
            "have fractions, beside which so large a number loses digits: write all times as whole "
            "numbers."
        )
    return _from_floats(column.cast(pl.Float64, strict=False))


def _dates(column: pl.Series, notes: list[str]) -> pl.Series:
    """Parses ISO-8601 texts as microseconds since 1970 in UTC; null for any other text."""
    name = column.name
    column = column.str.strip_chars().str.replace(r" ?(UTC|GMT)$", "Z")
    column = pl.select(
        pl.when(column.str.contains(_ISO)).then(column.str.replace(" ", "T", n=1, literal=True))
    ).to_series()
    times = pl.Series(name, [None] * len(column), dtype=pl.Int64)
    for pattern in _ISO_FORMATS:
        parsed = column.str.to_datetime(pattern, strict=False, time_unit="us")
        times = times.fill_null(parsed.to_physical())
        if times.null_count() == column.null_count():
            break
    timed = column.str.contains("T", literal=True)
    zoned = column.str.slice(10).str.contains(_ZONE) & timed
    bare = int((timed & ~zoned).sum())
    days = int((~timed).sum())
    if timed.any() and days:
        notes.append(
            f"{name}: {days:,} of {len(column):,} times are dates alone, and were taken as midnight"
        )
    if zoned.any() and bare:
        notes.append(
            f"{name}: {bare:,} of {len(column):,} times have no zone where others have one, and "
            "were taken as UTC"
        )
    return times.alias(name)


def _from_floats(column: pl.Series) -> pl.Series:
    """Converts floats to integers: unchanged if all are whole, else times 10^6 (or 10^3 or 1
    if they are too large for that); null if not finite or out of range."""
    finite = column.cast(pl.Float64).fill_nan(None)
    integers = finite.cast(pl.Int64, strict=False)
    if (integers.cast(pl.Float64) == finite).all():
        return integers
    largest = float(str(finite.filter(finite.is_finite()).abs().max() or 0))
    scale = next((scale for scale in (_MICROSECONDS, 1_000) if largest * scale < 2**63), 1)
    return (finite * scale).round().cast(pl.Int64, strict=False)


def _check_float(table: Table, column: pl.Series) -> None:
    if column.dtype == pl.Float64:
        return
    largest = column.cast(pl.Float64).fill_nan(None).abs().max()
    if largest is not None and float(str(largest)) >= _FLOAT32_EXACT:
        raise DataError(
            f"{table.path}: column {column.name} has the type {column.dtype}, which holds times "
            "such as these only to the minute or worse: write it again from its source as Int64."
        )


def _unit(table: Table, column: pl.Series, times: pl.Series) -> int | None:
    """The units per second, if the numbers are dates; None if they are not.

    Raises:
        DataError: the numbers are dates in several units.
    """
    counts = {name: times.is_between(_1980 * unit, _2100 * unit) for name, unit in _UNITS}
    used = [name for name, mask in counts.items() if mask.any()]
    if len(used) > 1 and not _continuous(times, [dict(_UNITS)[name] for name in used]):
        rows = [int(counts[name].arg_max() or 0) for name in used[:2]]
        raise DataError(
            f"{table.path}: {column.name} mixes {used[0]} and {used[1]} since 1970 ("
            + " and ".join(f"{column[row]} in {table.where(row)}" for row in rows)
            + "): give all times in one unit."
        )
    # Zeros and the like stand for missing times, even if they are the majority.
    if len(used) != 1 or 2 * int(counts[used[0]].sum()) < int((times > 0).sum()):
        return None
    return dict(_UNITS)[used[0]]


def _continuous(times: pl.Series, units: list[int]) -> bool:
    """Whether times also lie between the dates of these units, as times since a start do."""
    between = times.is_between(_1980 * units[0], _2100 * units[-1])
    dated = sum(int(times.is_between(_1980 * unit, _2100 * unit).sum()) for unit in units)
    return int(between.sum()) - dated > 0.01 * len(times)


def _check_early(table: Table, column: pl.Series, times: pl.Series, unit: int) -> None:
    """Refuses times before 1971 if others are after 1980: they stand for missing times.

    If there are times in between, the clock may have started anywhere, and none is refused.
    """
    late = times >= _1980 * unit
    early = times < 366 * 86_400 * unit
    between = len(times) - int(late.sum()) - int(early.sum())
    if early.any() and late.any() and between <= 0.01 * len(times):
        row = int(early.arg_max() or 0)
        raise DataError(
            f"{table.path}: the {column.name} of {table.where(row)} is {str(column[row])[:60]!r}, "
            f"before 1971 where others are after 1980{_such_rows(early)}, as missing times are "
            "written: remove these rows, or give their times."
        )


def _late(times: pl.Series, unit: int) -> list[str]:
    tomorrow = int(datetime.now(UTC).timestamp()) + 86_400
    future = int((times > tomorrow * unit).sum())
    if not future:
        return []
    return [f"{times.name}: {future:,} of {len(times):,} times lie in the future"]


def _are_days(column: pl.Series, times: pl.Series) -> bool:
    """Whether all numbers are days since 1900 between 1980 and 2100, with fractions or without."""
    first_value = str(column[0]).strip()
    unit = _MICROSECONDS if not first_value.isdigit() and times[0] > _DAYS[1] else 1
    return bool(times.is_between(_DAYS[0] * unit, _DAYS[1] * unit).all())


def _such_rows(bad: pl.Series) -> str:
    count = int(bad.sum())
    return f" ({count:,} such rows)" if count > 1 else ""
