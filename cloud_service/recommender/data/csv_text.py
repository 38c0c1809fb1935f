"""Text files: unpacks and decodes them, and splits them into records with Python's `csv`.

By RFC 4180 a quote opens a field only at its beginning; anywhere else it is a plain character.
"""

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from shared.errors import DataError

ATOMIC = (".inter", ".item")
"""RecBole's files: separated by tabs, never quoted."""

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
"""Field separators, and what messages call them."""

Row = list[str]
CHUNK = 1 << 22
"""Bytes read at once."""
_START = 32
_GZIP_MAGIC = b"\x1f\x8b"
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_OTHERS = {
    b"PAR1": "a Parquet file",
    b"PK\x03\x04": "a zip archive or workbook",
    b"SQLi": "a database",
    _GZIP_MAGIC: "gzip within gzip",
    b'{"': "JSON",
    b"[{": "JSON",
}
_PLACEHOLDERS = (b"<!doctype", b"<html", b"version https://git-lfs")
"""First bytes, in lower case, of a web page or a Git LFS pointer downloaded instead of a file."""

# A column that is not read may hold whole documents; the default limit is 128 KiB.
csv.field_size_limit((1 << 31) - 1)


@dataclass(frozen=True)
class Text:
    """The bytes of a text file as UTF-8, in memory or on the disk.

    Attributes:
        path: of the file, for messages.
        content: the bytes; None if the file is read as it is.
        literal: quotes have no special meaning in this kind of file.
        description: how the file was decoded.
    """

    path: Path
    content: bytes | None
    literal: bool
    description: str = ""

    def open(self) -> IO[bytes]:
        """Opens the bytes for reading."""
        return self.path.open("rb") if self.content is None else io.BytesIO(self.content)

    def blocks(self) -> Iterator[bytes]:
        """Yields the bytes in blocks of whole lines; adds a missing line end to the last line."""
        with self.open() as file:
            unfinished: list[bytes] = []
            while block := file.read(CHUNK):
                cut = block.rfind(b"\n") + 1
                if cut:
                    yield b"".join((*unfinished, block[:cut]))
                    unfinished = []
                unfinished.append(block[cut:])
            if any(unfinished):
                yield b"".join((*unfinished, b"\n"))


@dataclass(frozen=True)
class Record:
    """The fields of a record, with its first and last line (from 1)."""

    fields: Row
    line: int
    last_line: int


def records(text: Text, separator: str, padded: bool = False) -> Iterator[Record]:
    """Yields the records of a text, the header first; a blank line is a record without fields.

    Args:
        padded: skip blanks after a separator, so that a quote after them opens a field.

    Raises:
        DataError: a quote is not closed, or not doubled in a quoted field; names the line.
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


def _fault(path: Path, reason: str, line: int, last_line: int) -> str:
    if "expected after" in reason:
        where = f"line {last_line}" if last_line == line else f"lines {line} to {last_line}"
        return (
            f"{path}: {where}: a quote within a quoted field is not doubled, or the field was "
            'never meant to be quoted: check its quotes, and write "" for one in a quoted field.'
        )
    return (
        f"{path}: a quote opened in the row at line {line} is not closed (looked up to line "
        f'{last_line}): check its quotes, and write "" for one in a quoted field.'
    )


def open_text(path: Path, ending: str) -> Text:
    """Unpacks and decodes a file as far as needed.

    Raises:
        DataError: the file is damaged, or is of another kind than its name says.
    """
    with path.open("rb") as file:
        start = file.read(_START)
    content = None
    encoding = ""
    if start.startswith(_GZIP_MAGIC):
        content = _unpacked(path)
        start = content[:_START]
    elif ending.endswith(".gz"):
        raise DataError(
            f"{path} is named .gz but is not gzip: compress it, or drop .gz from its name."
        )
    for magic, name in _OTHERS.items():
        if start.startswith(magic):
            raise DataError(f"{path} is {name} by its first bytes: name it so, or save it as CSV.")
    if start.lower().startswith(_PLACEHOLDERS):
        raise DataError(
            f"{path} is a web page or a pointer that came in place of the file: download the file "
            "itself."
        )
    if start[:2] in _WIDE_MARKS:
        content = _decoded(path, path.read_bytes() if content is None else content)
        encoding = "UTF-16 text"
    literal = ending.removesuffix(".gz") in ATOMIC
    return Text(path, content, literal, encoding)


def bad_byte(text: Text) -> tuple[int, int] | None:
    """The first line (from 1) that is not UTF-8, and its offending byte."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines = 1
    with text.open() as file:
        while True:
            held = decoder.getstate()[0]
            chunk = file.read(CHUNK)
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                data = held + chunk
                return lines + data.count(b"\n", 0, error.start), data[error.start]
            if not chunk:
                return None
            lines += chunk.count(b"\n")


def not_utf8(text: Text) -> DataError | None:
    """The error for a text with a byte that is not UTF-8, or None."""
    bad = bad_byte(text)
    if bad is None:
        return None
    return DataError(
        f"{text.path} is not UTF-8 text (line {bad[0]} holds the byte 0x{bad[1]:02x}): save it "
        "as UTF-8."
    )


def _unpacked(path: Path) -> bytes:
    """Unpacks all members of a gzip file; zeros after the last member are ignored."""
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
