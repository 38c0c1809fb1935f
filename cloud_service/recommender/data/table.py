"""Reads text and Parquet files: every row, or an error that says what to do.

The separator of a text (comma, tab, semicolon or bar) is the one that splits the first line into
the required columns.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cloud_service.recommender.data.columns import advice, choose_columns
from cloud_service.recommender.data.csv_text import ATOMIC, Text, not_utf8, open_text
from cloud_service.recommender.data.rows import read_rows
from shared.errors import DataError

_TEXTS = (".csv", ".tsv", ".txt", *ATOMIC)
FORMATS = (*(ending for text in _TEXTS for ending in (text, f"{text}.gz")), ".parquet")
"""The endings that `read_table` accepts; .inter and .item are RecBole's."""

T = TypeVar("T")
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Table:
    """The required columns of a file.

    Attributes:
        path: of the file.
        frame: the columns under the required names. Columns of a text are strings, with empty
            fields null and without blank lines; Parquet columns keep their types.
        lines: the line of the file that each row begins on, (rows,); None in Parquet.
        description: how a file that is not plain CSV was read.
    """

    path: Path
    frame: pl.DataFrame
    lines: NDArray[np.int64] | None
    description: str

    def where(self, row: int) -> str:
        """The place of row `row` (from 0) in the file: "line 2", or "row 1" in Parquet."""
        return f"row {row + 1}" if self.lines is None else f"line {self.lines[row]}"


def format_of(path: Path) -> str | None:
    """The member of `FORMATS` that the name of `path` ends in, or None."""
    name = path.name.lower()
    return next((ending for ending in FORMATS if name.endswith(ending)), None)


def read_table(
    path: Path,
    columns: Sequence[str],
    header_names: Mapping[str, str] = _NONE,
    optional: Sequence[str] = (),
) -> Table:
    """Reads the required columns, in this order, then the optional ones that are there.

    Args:
        header_names: the file's names of some of the `columns`; see `choose_columns` for the rest.

    Raises:
        DataError: the file is missing, of no known format, damaged, empty, lacks a column, or
            has a row that cannot be split into fields; says where and what to do.
    """
    ending = _check_file(path)
    if ending == ".parquet":
        table = _read_parquet(path, columns, header_names, optional)
    else:
        text = _guarded(path, lambda: open_text(path, ending))
        rows = _guarded(path, lambda: read_rows(text, columns, header_names, optional), text)
        table = Table(path, rows.frame, rows.lines, rows.description)
    if table.frame.height == 0:
        raise DataError(f"{path} has a header but no rows: give a file with data in it.")
    return table


def _check_file(path: Path) -> str:
    if path.is_dir():
        raise DataError(f"{path} is a directory: name one file in it ({', '.join(FORMATS)}).")
    if not path.exists():
        raise DataError(f"There is no file {path}: check the path.")
    ending = format_of(path)
    if ending is None:
        raise DataError(
            f"{path} {f'ends in {path.suffix}' if path.suffix else 'has no ending'}, which is not "
            f"read here: save it as one of {', '.join(FORMATS)}."
        )
    try:
        with path.open("rb") as file:
            start = file.read(1)
    except OSError as error:
        raise DataError(f"{path} cannot be opened ({error.strerror}): check it.") from error
    if not start:
        raise DataError(f"{path} is empty (0 bytes): give a file with data in it.")
    return ending


def _read_parquet(
    path: Path,
    columns: Sequence[str],
    header_names: Mapping[str, str],
    optional: Sequence[str],
) -> Table:
    header = _guarded(path, lambda: list(pl.read_parquet_schema(path)))
    choice = choose_columns(header, columns, header_names, optional)
    if not choice.complete:
        raise DataError(f"{path} {advice(choice, columns)}")
    names = {header[index]: name for name, index in choice.columns.items()}
    frame = _guarded(path, lambda: pl.read_parquet(path, columns=list(names), glob=False))
    frame = frame.rename(names).select(choice.ordered(columns))
    return Table(path, frame, None, choice.description())


def _guarded(path: Path, read: Callable[[], T], text: Text | None = None) -> T:
    """Runs `read` and converts whatever it raises into a DataError."""
    try:
        return read()
    except MemoryError as error:
        raise DataError(
            f"{path} needs more memory than there is: give a part of it, or a larger machine."
        ) from error
    except (pl.exceptions.PolarsError, OSError, EOFError, UnicodeError, csv.Error) as error:
        raise _explained(path, text, error) from error
    except BaseException as error:
        # A damaged Parquet page can panic in Rust, which raises a BaseException.
        if type(error).__name__ != "PanicException":
            raise
        raise _explained(path, text, error) from error


def _explained(path: Path, text: Text | None, error: BaseException) -> DataError:
    if text is None and format_of(path) == ".parquet":
        return DataError(
            f"{path} is not a readable Parquet file: it is damaged, or has columns of types that "
            "are not read here; write it again, with the columns of the clicks alone."
        )
    if text is None:
        return DataError(f"{path} cannot be read ({error}): check it.")
    reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
    return not_utf8(text) or DataError(
        f"{path} cannot be read as CSV ({reason}): check its quotes and separators."
    )
