"""Files of lines: unpacked and decoded, and their records told apart by the rules of RFC 4180.

Two readers that agree about every record. Where no field begins with a quote, a quote is a letter
like any other, and every line is a record: these are counted and measured as bytes, fast. Else
Python's `csv` reads, which knows quoted fields that hold separators and line ends.
"""

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError

ATOMIC = (".inter", ".item")
"""RecBole's files: fields between tabs, and never quoted."""

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
"""What may part the fields, and its name."""

Row = list[str]
_CHUNK = 1 << 22
_GZIP_MAGIC = b"\x1f\x8b"
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_OTHERS = {
    b"PAR1": "a Parquet file",
    b"PK\x03\x04": "a zip archive or workbook",
    b"SQLi": "a database",
    _GZIP_MAGIC: "gzip within gzip",
}
_LINE_END = 10


@dataclass(frozen=True)
class Text:
    """The bytes of a text file as UTF-8: in memory, or as they lie on the disk.

    Attributes:
        path: of the file, for what is said of it.
        content: the bytes, or None where the file's own are read.
        literal: a quote never has a meaning in this kind of file.
        words: what was done to it, in words.
    """

    path: Path
    content: bytes | None
    literal: bool
    words: str = ""

    def open(self) -> IO[bytes]:
        """The bytes from their beginning."""
        return self.path.open("rb") if self.content is None else io.BytesIO(self.content)

    def blocks(self) -> Iterator[bytes]:
        """The bytes in pieces that end where a line ends; a missing last line end is added."""
        with self.open() as file:
            rest: list[bytes] = []
            while block := file.read(_CHUNK):
                cut = block.rfind(b"\n") + 1
                if cut:
                    yield b"".join((*rest, block[:cut]))
                    rest = []
                rest.append(block[cut:])
            if any(rest):
                yield b"".join((*rest, b"\n"))


@dataclass(frozen=True)
class Record:
    """The fields of a record, and the lines (from 1) that it begins and ends on."""

    fields: Row
    line: int
    last_line: int


def records(text: Text, separator: str, padded: bool = False) -> Iterator[Record]:
    """The records of a text, the header first; a blank line is a record without fields.

    Args:
        padded: blanks after a separator do not count, so that a quote behind them opens a field.

    Raises:
        DataError: a quote is not closed, or not doubled within a quoted field; names the line.
    """
    quoting: Literal[0, 3] = csv.QUOTE_NONE if text.literal else csv.QUOTE_MINIMAL
    with io.TextIOWrapper(text.open(), "utf-8-sig", errors="surrogateescape", newline="") as stream:
        reader = csv.reader(
            stream, delimiter=separator, quoting=quoting, strict=True, skipinitialspace=padded
        )
        line = 1
        try:
            for row in reader:
                yield Record(row, line, reader.line_num)
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(_fault(text.path, str(error), line, reader.line_num)) from error


def _fault(path: Path, reason: str, line: int, last: int) -> str:
    if "expected after" in reason:
        where = f"line {last}" if last == line else f"lines {line} to {last}"
        return (
            f"{path}: {where}: a quote within a quoted field is not doubled, or the field was "
            'never meant to be quoted: check its quotes, and write "" for one in a quoted field.'
        )
    return (
        f"{path}: a quote opened in the row at line {line} is not closed (looked up to line "
        f'{last}): check its quotes, and write "" for one in a quoted field.'
    )


def open_text(path: Path, ending: str) -> Text:
    """Unpacks and decodes a file as far as needed.

    Raises:
        DataError: it is damaged, or of another kind than its name says.
    """
    with path.open("rb") as file:
        start = file.read(4)
    content = None
    words = ""
    if start.startswith(_GZIP_MAGIC):
        content = _unpacked(path)
        start = content[:4]
    elif ending.endswith(".gz"):
        raise DataError(
            f"{path} is named .gz but is not gzip: compress it, or drop .gz from its name."
        )
    for magic, name in _OTHERS.items():
        if start.startswith(magic):
            raise DataError(f"{path} is {name} by its first bytes: name it so, or save it as CSV.")
    if start[:2] in _WIDE_MARKS:
        content = _decoded(path, path.read_bytes() if content is None else content)
        words = "UTF-16 text"
    literal = ending.removesuffix(".gz") in ATOMIC
    return Text(path, content, literal, words)


def guarded_lines(text: Text, separator: str) -> tuple[Text, bool, bool]:
    """How the records of a text are to be read.

    Returns:
        The text, with line ends of a carriage return alone made plain ones; whether some field
        begins with a quote, so that `records` must read it; and whether blanks stand before one.
    """
    quoted = padded = lone = False
    opening = [f'{before}"'.encode() for before in (separator, "\n", "\r")]
    hidden = re.compile(re.escape(separator).encode() + b' +"')
    window = b"\n"
    with text.open() as file:
        while chunk := file.read(_CHUNK):
            if window == b"\n":
                chunk = chunk.removeprefix(codecs.BOM_UTF8)
            lone = lone or _lone_returns(window[-1:] + chunk)
            window = window[-2:] + chunk
            if not text.literal and b'"' in chunk:
                quoted = quoted or any(mark in window for mark in opening)
                padded = padded or (separator != "\t" and hidden.search(window) is not None)
    if quoted or padded or not (lone or window.endswith(b"\r")):
        return text, quoted or padded, padded
    with text.open() as file:
        content = file.read().replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return replace(text, content=content), False, False


def _lone_returns(window: bytes) -> bool:
    """Whether a carriage return before the last byte has no line feed behind it."""
    return b"\r" in window and window[:-1].count(b"\r") != window.count(b"\r\n")


def count_lines(
    text: Text, separator: str, irregular: Callable[[int, Row], None], width: int
) -> int:
    """Counts the lines of a text without quoted fields, and finds those of another width.

    Args:
        irregular: called with the line (from 1) and the fields of every line that has not
            `width` fields; raises what is to be said of it.
    """
    mark = ord(separator)
    lines = 0
    for block in text.blocks():
        letters = np.frombuffer(block, np.uint8)
        marks = (letters == _LINE_END) | (letters == mark)
        is_end = letters[marks] == _LINE_END
        ends = int(np.count_nonzero(is_end))
        if ends * width != len(is_end) or not is_end[width - 1 :: width].all():
            places = np.flatnonzero(marks)
            for line, row in _irregular(block, places, is_end, width, separator):
                irregular(lines + line, row)
        lines += ends
    return lines


def blank_lines(text: Text, separator: str, skipped: int, rows: NDArray[np.int64]) -> set[int]:
    """Which of `rows` (from 0, after `skipped` lines) hold nothing but separators and blanks."""
    suspects = set(rows.tolist())
    blank = set()
    nothing = separator.encode() + b" \t\r\n"
    with text.open() as file:
        for row, line in enumerate(file, -skipped):
            if row in suspects and not line.strip(nothing):
                blank.add(row)
    return blank


def bad_byte(text: Text) -> tuple[int, int] | None:
    """The first line (from 1) that is not UTF-8, and its offending byte."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines = 1
    with text.open() as file:
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


def _irregular(
    block: bytes,
    marks: NDArray[np.int64],
    is_end: NDArray[np.bool_],
    width: int,
    separator: str,
) -> Iterator[tuple[int, Row]]:
    ends = np.flatnonzero(is_end)
    fields = np.diff(ends, prepend=-1)
    for index in np.flatnonzero(fields != width).tolist():
        start = int(marks[ends[index - 1]]) + 1 if index else 0
        line = block[start : int(marks[ends[index]])].decode("utf-8", "replace").rstrip("\r")
        yield index + 1, line.split(separator)


def _unpacked(path: Path) -> bytes:
    """All members of a gzip file; zeros after the last, as tapes and downloads leave, are none."""
    try:
        with gzip.open(path) as file:
            return file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged or cut short: copy or download it again.") from error


def _decoded(path: Path, content: bytes) -> bytes:
    try:
        return content.decode("utf-16").encode("utf-8")
    except UnicodeError as error:
        raise DataError(
            f"{path} begins as UTF-16 text but is not: it is damaged; save it as UTF-8."
        ) from error


def check_width(path: Path, header: Sequence[str], line: int, row: Row) -> None:
    """Refuses a record of another width than the header's, unless only nothing differs.

    Empty fields beyond the last column do no harm, nor do missing ones below columns without a
    name, nor does a blank line.

    Raises:
        DataError: names the line.
    """
    width = len(header)
    if len(row) > width and any(field.strip() for field in row[width:]):
        raise DataError(
            f"{path}: line {line} has more fields than the header ({len(row)}, not {width}): put "
            "quotes around fields that hold a separator."
        )
    if len(row) < width and any(field.strip() for field in row):
        named = next((n for n in range(width, 0, -1) if header[n - 1].strip()), 0)
        if len(row) < named:
            raise DataError(
                f"{path}: line {line} has {len(row)} of the header's {width} fields, so nobody "
                "can tell which: write every field, an empty one too."
            )
