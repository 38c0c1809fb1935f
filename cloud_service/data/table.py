"""Files of rows: CSV, gzipped CSV and Parquet, with an error that helps for every bad one.

Text is parted by commas, tabs, semicolons or bars, whichever the first line uses.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

import polars as pl

from cloud_service.data.columns import Choice, choose_columns
from cloud_service.data.csv_text import header_of, not_utf8, read_rows, read_text
from shared.errors import DataError

FORMATS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".inter", ".item", ".parquet")
"""The endings `read_table` knows; .inter and .item are RecBole's."""

T = TypeVar("T")
_GZIP_MAGIC = b"\x1f\x8b"
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Table:
    """The wanted columns of a file, and sentences about what was odd and could be read."""

    frame: pl.DataFrame
    notes: tuple[str, ...] = ()


def format_of(path: Path) -> str | None:
    """The member of `FORMATS` that the name of `path` ends in, or None."""
    name = path.name.lower()
    return next((ending for ending in FORMATS if name.endswith(ending)), None)


def read_table(path: Path, columns: Sequence[str], given: Mapping[str, str] = _NONE) -> Table:
    """The wanted columns of `path`, in this order and under these names; others are ignored.

    Text columns come as strings, an empty field as null, a blank line as a row of nulls; Parquet
    columns keep their types. Every line of a text is a row, or the line is named in an error.

    Args:
        given: the file's names of some of the `columns`; see `choose_columns` for the rest.

    Raises:
        DataError: the file is missing, of no known format, damaged, empty, or lacks a column.
    """
    ending = _check_file(path)
    read = _parquet if ending == ".parquet" else _text
    table = _guarded(path, lambda: read(path, columns, given))
    if table.frame.height == 0:
        raise DataError(f"{path} has a header but no rows: give a file with data in it.")
    return table


def _parquet(path: Path, columns: Sequence[str], given: Mapping[str, str]) -> Table:
    choice = choose_columns(path, list(pl.read_parquet_schema(path)), columns, given)
    names = [choice.names[column] for column in columns]
    frame = pl.read_parquet(path, columns=names, glob=False).select(names)
    return Table(_named(frame, columns), choice.notes)


def _text(path: Path, columns: Sequence[str], given: Mapping[str, str]) -> Table:
    data = read_text(path)
    if not data.strip():
        raise DataError(f"{path} is empty: give a file with a header and data.")
    separator, header = header_of(path, data)
    choice: Choice = choose_columns(path, header, columns, given)
    frame = read_rows(path, data, separator, header, [choice.names[column] for column in columns])
    return Table(_named(frame, columns), choice.notes)


def _named(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    return frame.rename(dict(zip(frame.columns, columns, strict=True)))


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
            start = file.read(2)
    except OSError as error:
        raise DataError(f"{path} cannot be opened ({error.strerror}): check it.") from error
    if not start:
        raise DataError(f"{path} is empty (0 bytes): give a file with data in it.")
    if ending.endswith(".gz") and start != _GZIP_MAGIC:
        raise DataError(
            f"{path} is named .gz but is not gzip: compress it, or drop .gz from its name."
        )
    return ending


def _guarded(path: Path, read: Callable[[], T]) -> T:
    """Runs `read` and turns whatever the reader raises into a DataError."""
    try:
        return read()
    except UnicodeDecodeError as error:
        raise not_utf8(path, error.object) from error
    except (pl.exceptions.PolarsError, OSError, EOFError) as error:
        raise _damaged(path) from error
    except BaseException as error:
        # A damaged Parquet page can panic in Rust, and that is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise _damaged(path) from error


def _damaged(path: Path) -> DataError:
    what = "Parquet file" if path.name.lower().endswith(".parquet") else "file"
    return DataError(f"{path} is not a readable {what}: it is damaged; write it again.")
