"""Ids as programs hand them over, as the texts they stand for, or refused where they are not.

Spreadsheets, databases and dataframes make numbers of ids: 0100 becomes 100, 17850 becomes 17850.0,
a long number loses its last digits. What can be undone exactly is undone and said; what was lost
is refused.
"""

import re
from pathlib import Path
from typing import Final

import polars as pl

from shared.errors import DataError

ID_BYTES: Final = 256
"""No id is longer: devices hold all item ids at the width of the longest."""

EXACT: Final = {pl.Float32: 1 << 24, pl.Float64: 1 << 53}
"""From here on a float stands for several whole numbers."""

_MISSING: Final = ("nan", "NaN", "NAN", "None", "null", "NULL", "<NA>", "NaT", "#N/A")
"""What programs write where there is no value."""

_FLOAT = r"^-?\d+\.0+$"
_EXPONENT = r"^-?\d+([.,]\d+)?[eE]\+\d+$"


def read_ids(path: Path, column: pl.Series, blank: pl.Series) -> tuple[pl.Series, tuple[str, ...]]:
    """A column of ids as texts, and what was made of them.

    Args:
        column: named as the errors name it.
        blank: rows that are no rows at all; their ids stay null.

    Raises:
        DataError: a type that holds no ids or not exactly, a missing id, or one that a program
            has changed; names the row (1 is the first after the header).
    """
    ids = _as_text(path, column)
    refuse_row(
        path,
        ids,
        (ids.is_null() | (ids == "")) & ~blank,
        "has no {name}: fill it in or remove the row",
    )
    different = ids.drop_nulls().unique()
    if not _plain(different):  # of a million clicks few ids differ: the rows are seldom looked at
        ids, notes = _mended(path, ids)
        different = ids.drop_nulls().unique()
        return ids, (*notes, *_lookalikes(different))
    return ids, tuple(_lookalikes(different))


def _plain(ids: pl.Series) -> bool:
    """Whether nothing is odd about these ids."""
    odd = (
        (ids.str.strip_chars() != ids)
        | ids.str.contains(_FLOAT)
        | ids.is_in(list(_MISSING))
        | ids.str.contains(_EXPONENT)
        | (ids.str.len_bytes() > ID_BYTES)
        | ids.str.contains("\0", literal=True)
    )
    return not odd.any()


def _mended(path: Path, column: pl.Series) -> tuple[pl.Series, list[str]]:
    """Ids with what can be undone undone, and what that was. Raises DataError for the rest."""
    ids = column.str.strip_chars()
    notes = []
    changed = int((ids != column).sum())
    if changed:
        notes.append(f"{changed:,} values of {ids.name} had blanks around them, which are gone")
    ids, said = _without_fraction(path, ids)
    refuse_row(
        path,
        ids,
        ids.is_in(list(_MISSING)),
        "has the {name} {value}, which programs write where a value is missing: remove the row, "
        "or fill it in",
    )
    refuse_row(
        path,
        ids,
        ids.str.contains(_EXPONENT),
        "has the {name} {value}, as spreadsheets write long numbers: digits are lost; export the "
        "column as text",
    )
    refuse_row(
        path,
        ids,
        (ids.str.len_bytes() > ID_BYTES) | ids.str.contains("\0", literal=True),
        f"has a {{name}} that is longer than {ID_BYTES} bytes or holds a zero byte: shorten it, or "
        "number your ids",
    )
    return ids, [*notes, *said]


def _as_text(path: Path, column: pl.Series) -> pl.Series:
    kind = column.dtype
    if kind == pl.String or kind.is_integer() or kind in (pl.Categorical, pl.Enum):
        return column.cast(pl.String)
    if kind.is_float():
        return _exact(path, column.fill_nan(None)).cast(pl.String)
    if isinstance(kind, pl.Decimal) and kind.scale == 0:
        return column.cast(pl.Int128).cast(pl.String)
    raise DataError(
        f"{path}: column {column.name} has the type {kind}, which holds no ids: make it text or "
        "integers."
    )


def _exact(path: Path, column: pl.Series) -> pl.Series:
    """Floats that are whole and stand for one number each, as integers."""
    limit = EXACT[type(column.dtype)]  # type: ignore[index]
    wide = column.cast(pl.Float64)
    whole = (wide == wide.floor()) & wide.is_finite()
    refuse_row(
        path,
        column,
        ~whole.fill_null(True),
        "has the {name} {value}, which is no whole number: make the column text or integers",
    )
    refuse_row(
        path,
        column,
        (wide.abs() >= limit).fill_null(False),
        f"has the {{name}} {{value}}: from {limit:,} on the type {column.dtype} holds only some "
        "whole numbers, so different ids may have become one; export the column as integers or "
        "text",
    )
    return wide.cast(pl.Int64)


def _without_fraction(path: Path, ids: pl.Series) -> tuple[pl.Series, list[str]]:
    """ "100.0" as "100" where every id looks so, as pandas writes a column that had a gap."""
    floats = ids.str.contains(_FLOAT).fill_null(False)
    if not floats.any():
        return ids, []
    plain = ids.str.replace(r"\.0+$", "")
    if floats.sum() == ids.len() - ids.null_count():
        large = plain.cast(pl.Int128, strict=False).abs() >= EXACT[pl.Float64]
        refuse_row(
            path,
            ids,
            large.fill_null(True) & ids.is_not_null(),
            "has the {name} {value}: so large a number has lost digits as a float; export the "
            "column as integers or text",
        )
        return plain, [f"every {ids.name} ended in .0, as pandas writes numbers: it is left out"]
    if plain.n_unique() < ids.n_unique():
        refuse_row(
            path,
            ids,
            floats,
            "has the {name} {value}, and other rows have it without .0: write all in one way",
        )
    return ids, []


def _lookalikes(ids: pl.Series) -> list[str]:
    """Ids that differ in letter case or Unicode form alone: often one thing by two names."""
    folded = ids.str.normalize("NFC").str.to_lowercase().n_unique()
    twins = ids.len() - folded
    if not twins:
        return []
    return [
        f"{twins:,} values of {ids.name} differ from another in letter case or Unicode form alone "
        "and count as different: write them in one way if they are the same"
    ]


def refuse_row(path: Path, column: pl.Series, bad: pl.Series, words: str) -> None:
    """Raises DataError for the first row that is bad, if one is.

    `words` go on after "data row N", with {name} and {value} of the column.
    """
    bad = bad.fill_null(False)
    row = bad.arg_max()
    if row is None or not bad[row]:
        return
    count = int(bad.sum())
    value = repr(str(column[row])[:60])
    text = words.format(name=column.name, value=value)
    others = f" ({count:,} such rows)" if count > 1 else ""
    what, colon, todo = text.partition(": ")
    raise DataError(f"{path}: data row {row + 1} {what}{others}{colon}{todo}.")


def bare(identifier: str) -> str:
    """An id without what programs add or take away: leading zeros, .0, case. For hints alone."""
    return re.sub(r"\.0+$", "", identifier.strip()).lstrip("0").lower()
