"""Lines of a text as bytes: which are records, and whether all have the header's fields. Fast.

Where no field begins with a quote, a quote is a letter and every line is a record. Where all
quotes stand as RFC 4180 has them and none holds a line end, every line is a record as well. Of
anything else `csv_text.records` has to say what it is.
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
    """How quotes and line ends stand in a text.

    Attributes:
        quoted: some field begins with a quote.
        padded: of these, some begins with blanks before it.
        lone: some line may end in a carriage return alone.
    """

    quoted: bool
    padded: bool
    lone: bool


def style_of(text: Text, separator: str) -> Style:
    """Looks through a text once."""
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
    """The text with every line end as a line feed; quoted fields lose theirs too."""
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
    """Counts the lines of a text, and finds those of another width.

    Args:
        irregular: called with the line (from 1) and the fields of every line that has not
            `width` fields; raises what is to be said of it.
        quoted: fields may be quoted.

    Returns:
        How many there are; None if not every line is a record.
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
    """Which of `rows` (from 0, after `skipped` lines) hold nothing but separators and blanks."""
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
    """Which letters of whole lines are within quotes; None where a quote or line end is odd."""
    is_quote = letters == _QUOTE
    # The count overflows, and its last bit stays right.
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
    """The lines (from 1) that have not `width` fields, without their ends."""
    ends = np.flatnonzero(is_end)
    fields = np.diff(ends, prepend=-1)
    for index in np.flatnonzero(fields != width).tolist():
        start = int(marks[ends[index - 1]]) + 1 if index else 0
        line = letters[start : int(marks[ends[index]])].tobytes()
        yield index + 1, line.decode("utf-8", "replace").rstrip("\r")


@dataclass
class Widths:
    """Refuses records of another width than the header's, unless only nothing differs.

    Missing fields do no harm below columns without a name, nor does a blank line. Empty fields
    beyond the last column do none where all records have them: else a separator within a field
    without quotes may have moved the rest of a record.

    Attributes:
        movable: such a separator could change what is read.
        first_wider: the line of the first record with such fields.
        regular: some record has the width of the header.
    """

    path: Path
    header: Sequence[str]
    movable: bool
    first_wider: int | None = None
    regular: bool = False

    def check(self, line: int, row: Row) -> None:
        """Raises DataError for a record that cannot be told apart; names the line (from 1)."""
        _check_width(self.path, self.header, line, row)
        width = len(self.header)
        if len(row) > width and self.first_wider is None and any(map(str.strip, row)):
            self.first_wider = line
        self.regular = self.regular or len(row) == width

    def finish(self) -> None:
        """Raises DataError where only some records have fields beyond the header."""
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
