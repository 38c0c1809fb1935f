"""Reads the first sheet of an .xlsx file with the standard library.

An .xlsx file is a zip of XML parts (ECMA-376). Only the parts of a plain table are read:
shared strings, inline strings and numbers. Formulas, styles and dates are not interpreted: a date
is read as it is stored, as the number of days since 1899-12-30.
"""

import zipfile
import zlib
from collections.abc import Iterator
from typing import IO
from xml.etree import ElementTree

from shared.errors import DataError

SHEET = "xl/worksheets/sheet1.xml"
STRINGS = "xl/sharedStrings.xml"
MAX_PART_BYTES = 1 << 30

_EXACT = 2**53
_SPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def open_member(archive: zipfile.ZipFile, member: str, max_bytes: int) -> IO[bytes]:
    """Opens one member of a zip by its exact name, if it unpacks to at most `max_bytes`.

    Raises:
        DataError: there is no such member, or it is larger.
    """
    try:
        info = archive.getinfo(member)
    except KeyError as error:
        raise DataError(
            f"The archive has no member {member!r}: it is not the published one; download it again."
        ) from error
    if info.file_size > max_bytes:
        raise DataError(
            f"{member!r} would unpack to {info.file_size:,} bytes, more than the {max_bytes:,} "
            "expected: it is not the published file."
        )
    return archive.open(info)


def sheet_rows(file: IO[bytes]) -> Iterator[list[str | None]]:
    """Yields the rows of the first sheet, each a list from column A on; an empty cell is None.

    Args:
        file: a seekable .xlsx file.

    Raises:
        DataError: the file is not a workbook of this kind.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            strings = _strings(archive) if STRINGS in archive.namelist() else []
            with open_member(archive, SHEET, MAX_PART_BYTES) as xml:
                row_number = 0
                for row in _elements(xml, "row"):
                    row_number = _after(row.get("r"), row_number)
                    yield _row(row, strings)
    except (
        zipfile.BadZipFile,
        ElementTree.ParseError,
        ValueError,
        IndexError,
        EOFError,
        zlib.error,
    ) as error:
        raise DataError(f"The workbook cannot be read ({error}): download it again.") from error


def _elements(xml: IO[bytes], tag: str) -> Iterator[ElementTree.Element]:
    """Yields the elements with a tag and frees each after use: a sheet may exceed memory."""
    events = ElementTree.iterparse(xml, events=("start", "end"))
    parents: list[ElementTree.Element] = []
    for event, element in events:
        if event == "start":
            parents.append(element)
            continue
        parents.pop()
        if element.tag == _SPACE + tag:
            yield element
            parents[-1].clear()


def _after(reference: str | None, previous: int) -> int:
    """The number of a row. Raises ValueError if it is not larger than the previous one."""
    row = int(reference) if reference is not None else previous + 1
    if row <= previous:
        raise ValueError(f"row {row} comes after row {previous}")
    return row


def _strings(archive: zipfile.ZipFile) -> list[str]:
    with open_member(archive, STRINGS, MAX_PART_BYTES) as xml:
        return [_text(entry) for entry in _elements(xml, "si")]


def _text(entry: ElementTree.Element) -> str:
    return "".join(run.text or "" for run in entry.iter(_SPACE + "t"))


def _row(row: ElementTree.Element, strings: list[str]) -> list[str | None]:
    values: list[str | None] = []
    for cell in row.iter(_SPACE + "c"):
        reference = cell.get("r")
        column = _column(reference) if reference else len(values)
        if column < len(values):
            raise ValueError(f"cell {reference} comes after a later one")
        values.extend([None] * (column - len(values)))
        values.append(_value(cell, strings))
    return values


def _value(cell: ElementTree.Element, strings: list[str]) -> str | None:
    written = cell.get("t", "n")
    if written == "inlineStr":
        return _text(cell)
    stored = cell.findtext(_SPACE + "v")
    if stored is None:
        return None
    if written == "s":
        return strings[int(stored)]
    return _digits(stored) if written == "n" else stored


def _digits(stored: str) -> str:
    """A stored number as text; an integer ("1.0002E4", "10002.0") by its digits only."""
    if stored.lstrip("-").isdigit():
        return stored
    value = float(stored)
    return str(int(value)) if value.is_integer() and abs(value) < _EXACT else stored


def _column(reference: str) -> int:
    """The column of a cell reference, from 0: "A1" is 0, "AB12" is 27."""
    column = 0
    for letter in reference.rstrip("0123456789"):
        column = column * 26 + ord(letter) - ord("A") + 1
    if not 1 <= column <= 16_384:
        raise ValueError(f"bad cell reference {reference!r}")
    return column - 1
