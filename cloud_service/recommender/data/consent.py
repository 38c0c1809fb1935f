"""Reads the optional column of a click log that says which users agreed to share their clicks.

A user agrees with every row of the log or not at all: a state before a click is computed from the
clicks before it, so a sample of one click holds something of the others.
"""

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cloud_service.recommender.data.column_names import AGREED
from cloud_service.recommender.data.table import Table
from shared.errors import DataError

_YES: Final = ("1", "1.0", "true", "yes", "y", "t")
_NO: Final = ("0", "0.0", "false", "no", "n", "f", "", "nan", "none", "null", "na")
"""What a field says in lower case; no answer is a no."""


def read_agreed(table: Table) -> pl.Series:
    """The column `agreed` of a table as Boolean, (rows,). Raises DataError, which names the row."""
    column = table.frame[AGREED]
    if column.dtype == pl.Boolean:
        return column.fill_null(False)
    if not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Null)):
        raise DataError(
            f"{table.path}: column {AGREED} has the type {column.dtype}: make it true or false."
        )
    texts = column.cast(pl.String).fill_null("").str.strip_chars().str.to_lowercase()
    is_yes = texts.is_in(list(_YES))
    unclear = ~(is_yes | texts.is_in(list(_NO)))
    if unclear.any():
        row = int(unclear.arg_max() or 0)
        raise DataError(
            f"{table.path}: {table.where(row)} has {texts[row][:60]!r} in the column of consent, "
            "which is neither yes nor no: write 1 or 0, true or false, yes or no."
        )
    return is_yes.alias(AGREED)


def agreed_users(frame: pl.DataFrame, users: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """Which users agreed with every row, (users,); None if the log has no column of consent.

    `users` are the user numbers of the rows, (rows,), from 0.
    """
    if AGREED not in frame.columns:
        return None
    refused = ~frame[AGREED].to_numpy()
    agreed: NDArray[np.bool_] = np.bincount(users, refused) == 0
    return agreed
