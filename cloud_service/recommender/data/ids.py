"""Reads ids as text, exactly, and detects what spreadsheets and dataframes did to them.

Only two changes are made, both reported: blanks around an id are removed, and so is a `.0` at the
end of every id of a column. Ids that look damaged are kept and reported. Ids that cannot be read
exactly are refused.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from cloud_service.recommender.data.table import Table
from shared.errors import DataError

ID_BYTES = 256
"""Longest id: devices store all item ids at the width of the longest."""

_EXACT: Final = {pl.Float32: 24, pl.Float64: 53}
"""Bits of an integer that a floating-point type holds exactly."""

_INVISIBLE: Final = " \t\r\n\v\f\u00a0\u2007\u202f\u3000\u200b\u2060\ufeff"
MISSING: Final = frozenset(
    (
        *("nan", "NaN", "NAN", "None", "null", "NULL", "Null", "<NA>", "NaT", "nil", "undefined"),
        *("(null)", r"\N", "#N/A", "#NAME?", "#REF!", "#VALUE!", "#NUM!", "#DIV/0!", "#NULL!"),
        *("#SPILL!", "#CALC!", "[object Object]", *("#" * width for width in range(3, 33))),
    )
)
"""What programs write for a missing value."""
_ROUNDED: Final = r"^-?\d(\.\d+)?[eE]\+\d+$|^-?\d\.\d+[eE]\d+$"
_POINT_ZERO: Final = r"^-?\d+\.0+$"
_ODD: Final = (
    (r"^-?\d+\.\d*[1-9]\d*$", "are numbers with a fraction: check that this is a column of ids"),
    (r"^\d{1,3}(,\d{3})+$", "look like numbers with thousands separators"),
    (r"^(\d{1,2}-(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
     r"|(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)-\d{2})$",
     "look like dates that a spreadsheet made of ids"),
    (r"^(NA|N/A|n/a|na|-|\?)$", "may stand for a missing value"),
    (r"^='?\"", "are formulas of a spreadsheet"),
    (r"^'", "begin with the apostrophe of a spreadsheet"),
    (r"^\".*\"$", "have quotes around them"),
    (r"^b['\"].*['\"]$", "are bytes that Python wrote"),
    (r"\x{FFFD}", "hold the mark of a letter that could not be read"),
    (r"[\x00-\x1f\x7f]", "hold line breaks or control characters"),
)  # fmt: skip
_DIGITS_OF_A_SPREADSHEET: Final = 15
_SUSPICIOUS_BITS: Final = 20


@dataclass(frozen=True, eq=False)
class Ids:
    """A column of ids.

    Attributes:
        column: the ids as String, without nulls.
        count: number of distinct ids.
        notes: everything unusual about them, one clause each.
    """

    column: pl.Series
    count: int
    notes: tuple[str, ...]


def read_ids(table: Table, name: str) -> Ids:
    """Reads column `name` of a table as ids.

    Raises:
        DataError: an id is missing, too long, or was changed by a program; says where.
    """
    notes: list[str] = []
    ids = _as_text(table, table.frame[name], notes)
    values = ids.unique().drop_nulls().sort()
    stripped = values.str.strip_chars(_INVISIBLE)
    if (changed := values.filter(values != stripped)).len():
        count = int(ids.is_in(changed.implode()).sum())
        ids = ids.str.strip_chars(_INVISIBLE)
        notes.append(f"{_many(count, name)} had blanks around them, which were taken off")
        values = stripped.unique().sort()
    _refuse(table, name, ids, ids.is_null() | (ids == ""))
    _check_values(table, name, ids, values)
    if (pointed := values.str.contains(_POINT_ZERO)).any():
        ids, values = _without_points(table, ids, values, pointed, notes)
    notes.extend(f"{name}: {note}" for note in _doubts(values))
    return Ids(ids, len(values), tuple(notes))


def _as_text(table: Table, column: pl.Series, notes: list[str]) -> pl.Series:
    """Converts a column to strings. Raises DataError if its type cannot hold ids exactly."""
    dtype, where = column.dtype, f"{table.path}: column {column.name}"
    if dtype == pl.String or dtype.is_integer() or dtype == pl.Null:
        return column.cast(pl.String)
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    if dtype.is_decimal():
        text = column.cast(pl.String)
        if text.str.contains(r"\.\d*[1-9]").any():
            raise DataError(f"{where} holds fractions ({dtype}): ids are text or whole numbers.")
        return text.str.replace(r"\.0*$", "")
    if not dtype.is_float():
        raise DataError(f"{where} has the type {dtype}: make it text or integers.")
    bits = next((bits for exact, bits in _EXACT.items() if dtype == exact), 11)
    column = column.fill_nan(None)
    largest = column.abs().max()
    if largest is not None and float(str(largest)) >= 2**bits:
        raise DataError(
            f"{where} has the type {dtype}, which cannot hold whole numbers from 2^{bits} on "
            f"exactly (the largest here is {float(str(largest)):.0f}), so that different ids "
            "became one: write it again from its source as text or integers."
        )
    integers = column.cast(pl.Int64, strict=False)
    if not (integers.cast(dtype) == column).all():
        raise DataError(f"{where} holds fractions ({dtype}): ids are text or whole numbers.")
    notes.append(f"{column.name} was stored as {dtype}, and is read as the same whole numbers")
    return integers.cast(pl.String)


def _check_values(table: Table, name: str, ids: pl.Series, values: pl.Series) -> None:
    def refuse(bad: pl.Series, fault: str, remedy: str) -> None:
        if bad.any():
            rows = ids.is_in(values.filter(bad).implode())
            row = int(rows.arg_max() or 0)
            raise DataError(
                f"{table.path}: the {name} of {table.where(row)} {fault.format(ids[row][:60])}"
                f"{_such_rows(rows)}: {remedy}."
            )

    refuse(
        (values.str.len_bytes() > ID_BYTES) | values.str.contains("\0", literal=True),
        f"is longer than {ID_BYTES} bytes or holds a zero byte",
        "shorten it, or number your ids",
    )
    refuse(
        values.is_in(list(MISSING)),
        "is {!r}, which a program wrote for a missing value",
        "remove these rows, or give the id",
    )
    refuse(
        values.str.contains(_ROUNDED),
        "is {!r}, a number that a spreadsheet or a dataframe rounded",
        "export the ids again from their source as text",
    )
    if values.str.to_lowercase().is_in(["true", "false"]).all():
        refuse(values.is_not_null(), "is {!r}", "give the column of ids, this one says yes or no")


def _refuse(table: Table, name: str, ids: pl.Series, bad: pl.Series) -> None:
    bad = bad.fill_null(True)
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise DataError(
            f"{table.path}: {table.where(row)} has no {name}{_such_rows(bad)}: "
            "fill it in or remove the row."
        )


def _without_points(
    table: Table, ids: pl.Series, values: pl.Series, pointed: pl.Series, notes: list[str]
) -> tuple[pl.Series, pl.Series]:
    """Removes the `.0` that a dataframe adds to integers, if every id of the column ends in it."""
    name = ids.name
    bare = values.filter(pointed).str.replace(r"\.0+$", "")
    if pointed.all() and bare.n_unique() == len(bare):
        large = bare.cast(pl.Int128, strict=False).abs() >= 2**53
        if large.fill_null(True).any():
            raise DataError(
                f"{table.path}: the {name} {values.filter(large.fill_null(True))[0]!r} was a "
                "floating-point number, which from 2^53 on cannot hold every whole number, so that "
                "different ids became one: write it again from its source as text or integers."
            )
        notes.append(
            f"every {name} ended in .0, as numbers in a dataframe do, which was taken off "
            f"({values[0]!r} is {bare[0]!r})"
        )
        return ids.str.replace(r"\.0+$", ""), bare
    both = bare.filter(bare.is_in(values.implode()) | bare.is_duplicated())
    if len(both):
        raise DataError(
            f"{table.path}: the {name} {both[0]!r} comes with and without a .0 behind it, as "
            "numbers in a dataframe get it, so that one id became two: write all ids as text."
        )
    notes.append(
        f"{name}: {int(pointed.sum()):,} of {len(values):,} ids end in .0 as numbers in a "
        f"dataframe do ({values.filter(pointed)[0]!r}); they are kept so"
    )
    return ids, values


def _doubts(values: pl.Series) -> Iterator[str]:
    """Yields one clause for each unusual thing about the ids."""
    for pattern, oddity in _ODD:
        odd = values.str.contains(pattern)
        if odd.any():
            yield f"{int(odd.sum()):,} of {len(values):,} ids, such as " + (
                f"{values.filter(odd).sort()[0][:60]!r}, {oddity}"
            )
    yield from _twins(values)
    yield from _roundings(values)


def _twins(values: pl.Series) -> Iterator[str]:
    """Reports ids that look alike or are the same number: a program may have made two of one id."""
    wide = values.str.contains(r"[^\x00-\x7f]").any()
    composed = values.str.normalize("NFC") if wide else values
    small = composed.str.to_lowercase()
    bare = (small.str.normalize("NFKC") if wide else small).str.replace_all(r"[\s\p{Cf}]+", "")
    counted = 0
    for folded, relation, quoted in (
        (composed, "are the letters of another, composed differently", ascii),
        (small, "differ from another only in capitals", repr),
        (bare, "differ from another only in blanks, wide or invisible letters", ascii),
        (
            bare.str.replace(r"^\+?0*(\d)", "${1}"),
            "are the number of another, written with zeros or a sign in front",
            repr,
        ),
    ):
        count = len(folded) - folded.n_unique() - counted
        counted += count
        if count:
            repeated = folded.filter(folded.is_duplicated()).unique().sort()
            pairs = (values.filter(folded == value).to_list()[:2] for value in repeated)
            shown = " and ".join(map(quoted, next(pairs)))
            yield f"{count:,} of {len(values):,} ids {relation} ({shown}), and count as others"


def _roundings(values: pl.Series) -> Iterator[str]:
    """Reports long numbers that all end as if a spreadsheet or a float had rounded them."""
    long = values.filter(values.str.contains(r"^[1-9]\d{15,18}$")).to_list()
    if not long:
        return
    tails = [value[_DIGITS_OF_A_SPREADSHEET:] for value in long]
    large = [int(value) for value in long if int(value) >= 2**53]
    bits = sum(value.bit_length() - 53 for value in large)
    if len(tails) >= 3 and not any(tail.strip("0") for tail in tails):
        holder = "a spreadsheet"
    elif bits >= _SUSPICIOUS_BITS and all(int(float(value)) == value for value in large):
        holder = "a floating-point number"
    else:
        return
    yield (
        f"all {len(long):,} ids of 16 digits and more, such as {long[0]!r}, end as if {holder} "
        "had rounded them"
    )


def alike(left_ids: Sequence[str], right_ids: Sequence[str]) -> tuple[str, str, str] | None:
    """Finds an id on each side that differ only by what programs change; also says in what."""
    for change, difference in _CHANGES:
        changed = {change(value): value for value in reversed(right_ids)}
        for value in left_ids:
            if change(value) in changed:
                return value, changed[change(value)], difference
    return None


_CHANGES: Final[tuple[tuple[Callable[[str], str], str], ...]] = (
    (lambda text: unicodedata.normalize("NFC", text), "how their letters are composed"),
    (str.casefold, "capitals"),
    (lambda text: text.lstrip("0"), "zeros in front, which programs drop that take an id for a "
     "number"),
    (lambda text: re.sub(r"\.0+$", "", text), "a .0 behind, as numbers in a dataframe get it"),
    (lambda text: text.replace(",", ""), "thousands separators"),
    (lambda text: text.strip("'\"="), "quotes"),
)  # fmt: skip


def _many(count: int, name: str) -> str:
    return f"1 {name}" if count == 1 else f"{count:,} {name}s"


def _such_rows(bad: pl.Series) -> str:
    count = int(bad.sum())
    return f" ({count:,} such rows)" if count > 1 else ""
