"""Reads the rows of a text: finds the separator and the header, then every record below it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cloud_service.recommender.data.columns import Choice, advice, choose_columns, data_for_names
from cloud_service.recommender.data.csv_text import SEPARATORS, Record, Row, Text, not_utf8, records
from cloud_service.recommender.data.lines import (
    Widths,
    blank_lines,
    count_lines,
    style_of,
    with_line_feeds,
)
from shared.errors import DataError

Names = Mapping[str, str]
_ROWS: Final = 1 << 16
_HEADER_LINES: Final = 20
_TELLING_LENGTH: Final = 8
"""Shorter times are too much like other numbers to be recognised."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The required columns of a text.

    Attributes:
        frame: strings, empty fields as null, without blank lines.
        lines: the line of the file that each row begins on, (rows,).
        description: how a text that is not plain CSV was read.
    """

    frame: pl.DataFrame
    lines: NDArray[np.int64]
    description: str


@dataclass(frozen=True)
class _Layout:
    """Separator, header and required columns of a text."""

    separator: str
    choice: Choice
    header_line: int

    @property
    def header(self) -> tuple[str, ...]:
        return self.choice.header

    def widths(self, path: Path) -> Widths:
        """A new check of the records' widths, for one pass over the text."""
        at = self.choice.columns
        leading = max(at.values()) < len(at)
        # Titles may contain separators; ids and times do not.
        cut = "title" in at and len(self.header) > len(at)
        return Widths(path, self.header, movable=cut or not leading)

    def names(self) -> list[str]:
        """The required columns, in the order of the file."""
        return sorted(self.choice.columns, key=lambda name: self.choice.columns[name])


def read_rows(
    text: Text, columns: Sequence[str], header_names: Names, optional: Sequence[str] = ()
) -> Rows:
    """Reads the required columns of a text, and the optional ones that are there.

    Args:
        header_names: the file's names of some of the `columns`; see `choose_columns` for the rest.

    Raises:
        DataError: a column is missing, a record cannot be split into fields, or the header is
            repeated; names the line.
    """
    layout = _layout(text, columns, header_names, optional)
    notes = [text.description]
    if layout.separator != ",":
        notes.append(f"{SEPARATORS[layout.separator]} between fields")
    notes.append(layout.choice.description())
    frame, lines = _all_rows(text, layout)
    _check_repeated_header(text.path, frame, lines, layout.choice)
    description = ", ".join(filter(None, notes))
    return Rows(frame.select(layout.choice.ordered(columns)), lines, description)


def _layout(
    text: Text, columns: Sequence[str], header_names: Names, optional: Sequence[str]
) -> _Layout:
    """Finds the separator that splits the first line into the required columns, or raises."""
    closest: tuple[tuple[int, int], _Layout] | None = None
    for separator in SEPARATORS:
        line, header = next(_headers(text, separator), (1, []))
        choice = choose_columns(header, columns, header_names, optional)
        layout = _Layout(separator, choice, line)
        if choice.complete:
            if fault := data_for_names(choice, columns):
                raise DataError(f"{text.path} {fault}")
            return layout
        score = len(choice.columns) + len(choice.doubtful), len(header)
        if closest is None or score > closest[0]:
            closest = score, layout
    assert closest is not None
    choice = closest[1].choice
    if not choice.header:
        for _ in records(text, ","):
            pass
        raise DataError(f"{text.path} is empty: give a file with a header and data.")
    if any("\udc80" <= letter <= "\udcff" for name in choice.header for letter in name):
        raise not_utf8(text) or DataError(f"{text.path} is not UTF-8 text: save it as UTF-8.")
    if any("\0" in name for name in choice.header):
        raise DataError(
            f"{text.path} has zero bytes in its first line, as UTF-16 text without its mark has: "
            "save it as UTF-8."
        )
    for separator in SEPARATORS:
        for line, header in islice(_headers(text, separator), 1, _HEADER_LINES):
            if choose_columns(header, columns, header_names).complete:
                raise DataError(
                    f"{text.path}: the line that names the columns is line {line}: remove what is "
                    "above it."
                )
    raise DataError(f"{text.path} {advice(choice, columns)}")


def _headers(text: Text, separator: str) -> Iterator[tuple[int, Row]]:
    """Yields the records that are not blank, with their lines, up to the first malformed one."""
    try:
        for record in records(text, separator, padded=separator != "\t"):
            if any(record.fields):
                yield record.line, record.fields
    except DataError:
        return


def _all_rows(text: Text, layout: _Layout) -> tuple[pl.DataFrame, NDArray[np.int64]]:
    """Reads the rows with polars if every line is a record, else with Python's csv module."""
    style = style_of(text, layout.separator)
    if style.lone and not style.quoted:
        text = with_line_feeds(text)
    if not style.quoted or not (style.padded or style.lone):
        rows = _line_rows(text, layout, quoted=style.quoted)
        if rows is not None:
            return rows
    return _record_rows(text, layout, padded=style.padded)


def _line_rows(
    text: Text, layout: _Layout, *, quoted: bool
) -> tuple[pl.DataFrame, NDArray[np.int64]] | None:
    """Reads a text in which every line is a record; None if that is not so."""
    header, separator = layout.header, layout.separator
    widths = layout.widths(text.path)
    odd = 0

    def irregular(line: int, row: Row) -> None:
        nonlocal odd
        odd += 1
        if line > layout.header_line:
            widths.check(line, row)

    lines = count_lines(text, separator, irregular, len(header), quoted=quoted)
    if lines is None:
        return None
    widths.regular = lines - odd > 1  # the header is one
    widths.finish()
    frame = pl.read_csv(
        text.path if text.content is None else text.content,
        skip_lines=layout.header_line - 1,
        columns=sorted(layout.choice.columns.values()),
        separator=separator,
        quote_char='"' if quoted else None,
        infer_schema=False,
        truncate_ragged_lines=True,
        glob=False,
    )
    frame.columns = layout.names()
    if frame.height != lines - layout.header_line:
        raise DataError(
            f"{text.path} has {lines - layout.header_line:,} lines below its header, of which "
            f"{frame.height:,} could be read as rows: save it again as plain CSV."
        )
    if quoted:
        frame = frame.with_columns(pl.when(pl.all() != "").then(pl.all()))
    line_numbers = np.arange(frame.height, dtype=np.int64) + layout.header_line + 1
    first_column = frame.to_series(0)
    empty = (first_column.is_null() | first_column.str.contains(r"^\s")).to_numpy()
    if not empty.any():
        return frame, line_numbers
    blank = blank_lines(text, separator, layout.header_line, np.flatnonzero(empty))
    keep = np.ones(frame.height, bool)
    keep[list(blank)] = False
    return frame.filter(pl.Series(keep)), line_numbers[keep]


def _record_rows(
    text: Text, layout: _Layout, *, padded: bool
) -> tuple[pl.DataFrame, NDArray[np.int64]]:
    """Reads a text in which quoted fields may contain separators and line ends."""
    rows = _checked(text, layout, padded)
    names = layout.names()
    at = [layout.choice.columns[name] for name in names]
    schema = dict.fromkeys(names, pl.String)
    frames = [pl.DataFrame(schema=schema)]
    lines = [np.zeros(0, np.int64)]
    while batch := list(islice(rows, _ROWS)):
        values = {
            name: [(fields[index] if index < len(fields) else "") or None for _, fields in batch]
            for name, index in zip(names, at, strict=True)
        }
        frames.append(pl.DataFrame(values, schema=schema))
        lines.append(np.array([line for line, _ in batch], np.int64))
    return pl.concat(frames), np.concatenate(lines)


def _checked(text: Text, layout: _Layout, padded: bool) -> Iterator[tuple[int, Row]]:
    """Yields the non-blank records below the header, with their lines."""
    widths = layout.widths(text.path)
    for record in records(text, layout.separator, padded):
        if record.line <= layout.header_line or not any(map(str.strip, record.fields)):
            continue
        widths.check(record.line, record.fields)
        if record.last_line > record.line:
            _check_swallowed(text.path, record, layout)
        yield record.line, record.fields
    widths.finish()


def _check_swallowed(path: Path, record: Record, layout: _Layout) -> None:
    """Refuses a quoted field that contains a line like a row: the quote was not meant as one.

    A line is like a row if it has as many fields as the header, the required ones are filled, and
    its time (or its id, if no time is required) is written as in the surrounding record. Two rows
    were also merged if the first and the last line of a record are like rows, or if the record
    has fields enough for two rows and a second time among them.
    """
    columns = layout.choice.columns
    telling = columns.get("timestamp", columns["item_id"])
    written = _shape(record.fields[telling])

    def like_row(line: str) -> bool:
        fields = line.split(layout.separator)
        return (
            len(fields) == len(layout.header)
            and all(fields[index].strip() for index in columns.values())
            and _shape(fields[telling]) == written
        )

    within = [line for field in record.fields for line in field.splitlines()[1:]]
    first_line, *_, last_line = re.split(r"\r\n?|\n", layout.separator.join(record.fields))
    swallowed = next(filter(like_row, within), None)
    if swallowed is None and like_row(first_line) and like_row(last_line):
        swallowed = last_line
    time = record.fields[telling].strip()
    if swallowed is None and "timestamp" in columns and len(time) >= _TELLING_LENGTH:
        lines = [line for field in record.fields if "\n" in field for line in field.splitlines()]
        fields = [field.strip() for line in lines for field in line.split(layout.separator)]
        if len(record.fields) + len(fields) > 2 * len(layout.header):
            like_time = (field for field in fields if len(field) == len(time))
            swallowed = next((field for field in like_time if _shape(field) == written), None)
    if swallowed is not None:
        raise DataError(
            f"{path}: a quoted field in the row at lines {record.line} to {record.last_line} holds "
            f"a line that looks like a row ({swallowed[:60]!r}): check its quotes, one is not "
            "closed where it should be."
        )


def _shape(text: str) -> str:
    """The pattern of a value: "2024-05-31" gives "9-9-9"."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", text.strip()))


def _check_repeated_header(
    path: Path, frame: pl.DataFrame, lines: NDArray[np.int64], choice: Choice
) -> None:
    """Refuses a second header: files were joined, and their columns may differ."""
    repeated = np.ones(frame.height, bool)
    for name, index in reversed(list(choice.columns.items())):
        alike = frame[name].str.contains(choice.header[index], literal=True).fill_null(False)
        repeated &= alike.to_numpy()
        if not repeated.any():
            return
    rows = frame.filter(pl.Series(repeated)).select(pl.all().str.strip_chars()).rows()
    header = tuple(choice.header[choice.columns[name]] for name in frame.columns)
    if header not in rows:
        return
    line = lines[repeated][rows.index(header)]
    raise DataError(
        f"{path}: line {line} repeats the header, as files that were joined have it: remove that "
        "line if the columns below it are the same."
    )
