"""CSV text as programs and people write it, read so that no row is lost in silence.

A quote opens a quoted field only at the field's beginning (RFC 4180); anywhere else it is text.
Files without quoted fields are read by polars and their rows counted against the file's lines; all
others are read by Python's csv module, which names the line where something is wrong.
"""

import codecs
import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from shared.errors import DataError

SEPARATORS = (",", "\t", ";", "|")
"""What may part the fields of a line, the likeliest first."""

_GZIP_MAGIC = b"\x1f\x8b"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path) -> bytes:
    """The content of a CSV file, unzipped, with `\\n` alone as line end and no byte order mark.

    Several gzip members follow each other, and zeros after the last one are padding.

    Raises:
        DataError: the gzip stream is damaged, or the file holds a zero byte or UTF-16.
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    if data.startswith(_GZIP_MAGIC):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{path} is damaged or cut short: copy or download it again."
            ) from error
    if not data.startswith(_UTF16):
        data = data.removeprefix(codecs.BOM_UTF8)
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
            if b"\n" not in data:  # the line ends of old Macs
                data = data.replace(b"\r", b"\n")
    return data.lstrip(b"\n")


def header_of(path: Path, data: bytes) -> tuple[str, list[str]]:
    """The separator of a file and the names in its first line, without blanks around them.

    Raises DataError where the line is not UTF-8 or its quotes do not close.
    """
    end = data.find(b"\n")
    line = data[: end if end >= 0 else len(data)]
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(path, data) from error
    # A comma wins where there is one: names hold no commas, but "a;b" may be a name.
    separator = max(SEPARATORS, key=lambda mark: (text.count(mark), -SEPARATORS.index(mark)))
    try:
        (fields,) = csv.reader([text], delimiter=separator, strict=True)
    except (csv.Error, ValueError) as error:
        raise DataError(
            f"{path}: the first line cannot be read ({error}): check its quotes."
        ) from (error)
    return separator, [field.strip() for field in fields]


def read_rows(
    path: Path, data: bytes, separator: str, header: Sequence[str], columns: Sequence[str]
) -> pl.DataFrame:
    """The named columns as strings, an empty field and a field that is missing as null.

    A blank line is a row of nulls. Fields beyond the header must be empty.

    Args:
        header: the names in the first line, in their order.
        columns: of `header`, each there once.

    Raises:
        DataError: a line has more fields than the header, a quote does not close, or the text is
            not UTF-8; names the line.
    """
    opening = re.compile(b"[\n" + re.escape(separator.encode()) + b'] *"')
    plain = b"\r" not in data and b"\0" not in data and not opening.search(data)
    if plain and not data.startswith(b'"'):
        frame = _fast(data, separator, len(header))
        if frame is not None and frame.height == _lines(data) - 1:
            return frame.select(frame.to_series(header.index(name)).alias(name) for name in columns)
    places = {name: header.index(name) for name in columns}
    return _careful(path, data, separator, len(header), places)


def _fast(data: bytes, separator: str, width: int) -> pl.DataFrame | None:
    """All columns, or None where polars does not take the text as it is.

    All, though few are wanted: rows with more fields than the header are errors only then.
    """
    try:
        return pl.read_csv(
            data,
            has_header=False,
            skip_lines=1,
            separator=separator,
            schema={f"{place}": pl.String for place in range(width)},
            quote_char=None,
        )
    except pl.exceptions.PolarsError:
        return None


def _lines(data: bytes) -> int:
    return data.count(b"\n") + (not data.endswith(b"\n"))


def _careful(
    path: Path, data: bytes, separator: str, width: int, columns: dict[str, int]
) -> pl.DataFrame:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(path, data) from error
    values: dict[str, list[str | None]] = {name: [] for name in columns}
    for row in _records(path, text, separator, width, tuple(columns.values())):
        for name, index in columns.items():
            values[name].append((row[index] or None) if index < len(row) else None)
    return pl.DataFrame(values, schema=dict.fromkeys(columns, pl.String))


def _records(
    path: Path, text: str, separator: str, width: int, wanted: Sequence[int]
) -> Iterator[list[str]]:
    """The rows after the header. Raises DataError with the line of what is wrong."""
    # A blank after the separator would hide that a quote opens the field.
    blanks = separator != "\t" and re.search(re.escape(separator) + ' +"', text) is not None
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=blanks
    )
    first = 1
    try:
        next(reader, None)
        for count in itertools.count(1):
            first = reader.line_num + 1
            row = next(reader, None)
            if row is None:
                return
            if len(row) > width and any(row[width:]):
                raise DataError(
                    f"{path}: data row {count} has more fields than the header (line {first}): put "
                    "quotes around fields that hold a separator."
                )
            if reader.line_num > first and _holds_rows(row, separator, width, wanted):
                raise DataError(
                    f"{path}: a quote in line {first} opens a field that goes on to line "
                    f"{reader.line_num} and holds what look like rows: remove the quote, or write "
                    "it twice within quotes."
                )
            yield row
    except csv.Error as error:
        raise DataError(
            f"{path}: line {first} cannot be read ({error}): check its quotes; a quote within a "
            "quoted field is written twice."
        ) from error


def _holds_rows(row: list[str], separator: str, width: int, wanted: Sequence[int]) -> bool:
    """Whether a quoted field holds lines like its own row: as many fields, the wanted ones not
    empty, and numbers where it has numbers."""
    for line in (line for field in row if "\n" in field for line in field.split("\n")):
        fields = line.split(separator)
        if len(fields) == width and all(
            fields[index]
            and index < len(row)
            and _is_number(fields[index]) == _is_number(row[index])
            for index in wanted
        ):
            return True
    return False


def _is_number(text: str) -> bool:
    return text.strip().lstrip("-").replace(".", "", 1).isdecimal()


def not_utf8(path: Path, data: bytes) -> DataError:
    """The error for a text that is not UTF-8: the first line (1 is the header) and its byte."""
    if data.startswith(_UTF16):
        return DataError(
            f'{path} is UTF-16 text, as "Unicode text" of a spreadsheet is: line 1 holds the byte '
            f"0x{data[0]:02x}; save it as UTF-8."
        )
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
        return DataError(
            f"{path} is not UTF-8 text (line {line} holds the byte 0x{data[error.start]:02x}): "
            "save it as UTF-8."
        )
    return DataError(f"{path} cannot be read as text: save it as UTF-8.")
