"""Checks the lines of a text as bytes, with numpy: is each line a record as wide as the header?

If no field begins with a quote, quotes are plain characters and every line is a record. Every line
is also a record if all quotes follow RFC 4180 and none encloses a line end. All other texts are
left to `csv_text.records`, which is slower.
"""

import codecs
import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cloud_service.recommender.data import csv_text
from cloud_service.recommender.data.csv_text import Row, Text
from shared.errors import DataError

_LINE_END: Final = ord("\n")
_QUOTE: Final = ord('"')

Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Style:
    """How a text uses quotes and line ends.

    Attributes:
        quoted: some field begins with a quote.
        padded: some quoted field has blanks before its quote.
        lone: some line may end in a single carriage return.
    """

    quoted: bool
    padded: bool
    lone: bool


def style_of(text: Text, separator: str) -> Style:
    """Determines the style in one pass over a text."""
    quoted = padded = lone = False
    opening = [f'{before}"'.encode() for before in (separator, "\n", "\r")]
    hidden = re.compile(re.escape(separator).encode() + b' +"')
    window = b"\n"
    with text.open() as file:
        while chunk := file.read(csv_text.CHUNK):
            if window == b"\n":
                chunk = chunk.removeprefix(codecs.BOM_UTF8)
            lone = lone or _lone_returns(window[-1:] + chunk)
            window = window[-2:] + chunk
            if not text.literal and b'"' in chunk:
                quoted = quoted or any(mark in window for mark in opening)
                padded = padded or (separator != "\t" and hidden.search(window) is not None)
    return Style(quoted or padded, padded, lone or window.endswith(b"\r"))


def with_line_feeds(text: Text) -> Text:
    """The text with every line end replaced by a line feed, also within quoted fields."""
    with text.open() as file:
        content = file.read().replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return replace(text, content=content)


def count_lines(
    text: Text,
    separator: str,
    irregular: Callable[[int, Row], None],
    width: int,
    *,
    quoted: bool,
) -> int | None:
    """Counts the lines of a text, and reports those with another number of fields.

    Args:
        irregular: called with the line (from 1) and the fields of every line that does not
            have `width` fields; raises an error if the line cannot be accepted.
        quoted: fields may be quoted.

    Returns:
        The number of lines; None if not every line is a record.
    """
    mark = ord(separator)
    lines = 0
    for block in text.blocks():
        letters = np.frombuffer(block.removeprefix(codecs.BOM_UTF8), np.uint8)
        marks = (letters == _LINE_END) | (letters == mark)
        if quoted:
            inside = _inside(letters, mark)
            if inside is None:
                return None
            marks &= ~inside
        is_end = letters[marks] == _LINE_END
        ends = int(np.count_nonzero(is_end))
        if ends * width != len(is_end) or not is_end[width - 1 :: width].all():
            for line, content in _irregular(letters, np.flatnonzero(marks), is_end, width):
                fields = (
                    next(csv.reader([content], delimiter=separator), [])
                    if quoted
                    else content.split(separator)
                )
                irregular(lines + line, fields)
        lines += ends
    return lines


def blank_lines(text: Text, separator: str, skipped: int, rows: NDArray[np.int64]) -> set[int]:
    """Those of `rows` (from 0, after `skipped` lines) that hold only separators and blanks."""
    suspects = set(rows.tolist())
    blank = set()
    nothing = separator.encode() + b' "\t\r\n'
    with text.open() as file:
        for row, line in enumerate(file, -skipped):
            if row in suspects and not line.strip(nothing):
                blank.add(row)
    return blank


def _lone_returns(window: bytes) -> bool:
    """Whether a carriage return before the last byte has no line feed behind it."""
    return b"\r" in window and window[:-1].count(b"\r") != window.count(b"\r\n")


def _inside(letters: NDArray[np.uint8], mark: int) -> Bool | None:
    """Marks the bytes within quotes; None if a quote or line end is not as RFC 4180 has it."""
    is_quote = letters == _QUOTE
    # The 8-bit count overflows, but its last bit stays correct.
    inside = (np.cumsum(is_quote, dtype=np.uint8) & 1).astype(bool)
    if inside[letters == _LINE_END].any():
        return None
    quotes = np.flatnonzero(is_quote)
    opening, closing = quotes[0::2], quotes[1::2]
    before = letters[opening[opening > 0] - 1]
    behind = letters[closing + 1]
    edges = (_LINE_END, mark, _QUOTE)
    if not np.isin(before, edges).all() or not np.isin(behind, (*edges, ord("\r"))).all():
        return None
    return inside


def _irregular(
    letters: NDArray[np.uint8], marks: NDArray[np.int64], is_end: Bool, width: int
) -> Iterator[tuple[int, str]]:
    """Yields the lines (from 1) that do not have `width` fields, without their line ends."""
    ends = np.flatnonzero(is_end)
    fields = np.diff(ends, prepend=-1)
    for index in np.flatnonzero(fields != width).tolist():
        start = int(marks[ends[index - 1]]) + 1 if index else 0
        line = letters[start : int(marks[ends[index]])].tobytes()
        yield index + 1, line.decode("utf-8", "replace").rstrip("\r")


@dataclass
class Widths:
    """Refuses records that have more or fewer fields than the header, with three exceptions.

    Accepted are blank lines, missing fields below columns without a name, and empty fields beyond
    the last column if all records have them. If only some have, a separator within an unquoted
    field may have moved the rest of the record.

    Attributes:
        movable: such a separator could change the columns that are read.
        first_wider: the line of the first record with empty fields beyond the last column.
        regular: some record has the width of the header.
    """

    path: Path
    header: Sequence[str]
    movable: bool
    first_wider: int | None = None
    regular: bool = False

    def check(self, line: int, row: Row) -> None:
        """Raises DataError, with the line (from 1), if a record's fields cannot be assigned."""
        _check_width(self.path, self.header, line, row)
        width = len(self.header)
        if len(row) > width and self.first_wider is None and any(map(str.strip, row)):
            self.first_wider = line
        self.regular = self.regular or len(row) == width

    def finish(self) -> None:
        """Raises DataError if only some records have fields beyond the header."""
        if self.movable and self.first_wider is not None and self.regular:
            raise DataError(
                f"{self.path}: line {self.first_wider} has more fields than the header, others "
                "have not: put quotes around fields that hold a separator, or end all lines alike."
            )


def _check_width(path: Path, header: Sequence[str], line: int, row: Row) -> None:
    width = len(header)
    if len(row) > width and any(field.strip() for field in row[width:]):
        raise DataError(
            f"{path}: line {line} has more fields than the header ({len(row)}, not {width}): put "
            "quotes around fields that hold a separator, or name the columns that have no name."
        )
    if len(row) < width and any(field.strip() for field in row):
        named = next((n for n in range(width, 0, -1) if header[n - 1].strip()), 0)
        if len(row) < named:
            raise DataError(
                f"{path}: line {line} has {len(row)} of the header's {width} fields, so nobody "
                "can tell which: write every field, an empty one too."
            )
