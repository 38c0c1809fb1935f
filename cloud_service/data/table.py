"""Files of rows: CSV, gzipped CSV and Parquet, with an error that helps for every bad one."""

import codecs
import csv
import difflib
import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TypeVar, cast

import polars as pl

from shared.errors import DataError

FORMATS = (".csv", ".csv.gz", ".parquet")
"""The endings `read_table` knows."""

T = TypeVar("T")
_CHUNK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"


def format_of(path: Path) -> str | None:
    """The member of `FORMATS` that the name of `path` ends in, or None."""
    name = path.name.lower()
    return next((ending for ending in FORMATS if name.endswith(ending)), None)


def read_table(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """The named columns of `path`, in this order; other columns are ignored.

    CSV columns come as strings, an empty field as null; Parquet columns keep their types.

    Raises:
        DataError: the file is missing, of no known format, damaged, empty, or lacks a column.
    """
    ending = _check_file(path)
    found = _guarded(path, ending, lambda: _header(path, ending))
    _check_columns(path, ending, found, columns)
    frame = _guarded(path, ending, lambda: _rows(path, ending, columns))
    if frame.height == 0:
        raise DataError(f"{path} has a header but no rows: give a file with data in it.")
    return frame.select(columns)


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
    if ending == ".csv.gz" and start != _GZIP_MAGIC:
        raise DataError(
            f"{path} is named .gz but is not gzip: compress it, or drop .gz from its name."
        )
    return ending


def _header(path: Path, ending: str) -> list[str]:
    if ending == ".parquet":
        return list(pl.read_parquet_schema(path))
    return pl.read_csv(path, n_rows=0, infer_schema=False, glob=False).columns


def _rows(path: Path, ending: str, columns: Sequence[str]) -> pl.DataFrame:
    if ending == ".parquet":
        return pl.read_parquet(path, columns=list(columns), glob=False)
    return pl.read_csv(path, columns=list(columns), infer_schema=False, glob=False)


def _guarded(path: Path, ending: str, read: Callable[[], T]) -> T:
    """Runs `read` and turns whatever the reader raises into a DataError."""
    try:
        return read()
    except pl.exceptions.NoDataError as error:
        raise DataError(f"{path} is empty: give a file with a header and data.") from error
    except (pl.exceptions.PolarsError, OSError, EOFError) as error:
        raise _explain(path, ending, error) from error
    except BaseException as error:
        # A damaged Parquet page can panic in Rust, and that is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise _explain(path, ending, error) from error


def _explain(path: Path, ending: str, error: BaseException) -> DataError:
    if ending == ".parquet":
        return DataError(f"{path} is not a readable Parquet file: it is damaged; write it again.")
    try:
        where = _bad_line(path)
        if where is not None:
            return DataError(
                f"{path} is not UTF-8 text (line {where[0]} holds the byte "
                f"0x{where[1]:02x}): save it as UTF-8."
            )
        row = _long_row(path)
    except (OSError, EOFError, csv.Error, zlib.error):
        row = None
        if ending == ".csv.gz":
            return DataError(f"{path} is damaged or cut short: copy or download it again.")
    if row is not None:
        return DataError(
            f"{path}: data row {row} has more fields than the header: put quotes around "
            "fields that hold a comma."
        )
    reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
    return DataError(f"{path} cannot be read as CSV ({reason}): check its quotes and commas.")


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        zipped = file.read(2) == _GZIP_MAGIC
    return cast(IO[bytes], gzip.open(path)) if zipped else path.open("rb")


def _bad_line(path: Path) -> tuple[int, int] | None:
    """The first line (1 is the header) that is not UTF-8, and its offending byte."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines = 1
    with _open(path) as file:
        while True:
            held = decoder.getstate()[0]
            chunk = file.read(_CHUNK)
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                data = held + chunk
                return lines + data.count(b"\n", 0, error.start), data[error.start]
            if not chunk:
                return None
            lines += chunk.count(b"\n")


def _long_row(path: Path) -> int | None:
    """The first row (the header not counted) with more fields than the header."""

    def texts(file: IO[bytes]) -> Iterator[str]:
        return (line.decode("utf-8", "replace") for line in file)

    with _open(path) as file:
        rows = csv.reader(texts(file))
        width = len(next(rows, []))
        return next((n for n, row in enumerate(rows, 1) if len(row) > width), None)


def _check_columns(path: Path, ending: str, found: list[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in found:
            # The reader of headers puts this mark in place of what is not UTF-8.
            if ending != ".parquet" and any("\ufffd" in column for column in found):
                raise _explain(path, ending, DataError("the header cannot be read"))
            raise DataError(f"{path} has no column {name}: {_hint(ending, found, name)}")
        if f"{name}_duplicated_0" in found:
            raise DataError(f"{path} has the column {name} twice: keep one of them.")


def _hint(ending: str, found: list[str], name: str) -> str:
    shown = ", ".join(repr(column) for column in found[:12]) + (", ..." if len(found) > 12 else "")
    lower = {column.strip().lower().replace(" ", "_"): column for column in found}
    # Shorter than the library's 0.6: "user" for "user_id" is what people write.
    near = difflib.get_close_matches(name, lower, n=1, cutoff=0.5)
    if near:
        return f"it has {shown}; rename {lower[near[0]]!r} to {name}."
    if ending != ".parquet" and len(found) == 1 and any(mark in found[0] for mark in ";\t|"):
        return f"it has {shown}; separate the columns with commas."
    return f"it has {shown}; the first line must name the columns."
