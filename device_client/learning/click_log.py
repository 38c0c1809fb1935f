"""The bytes of a click log: records written one by one, and found again after damage.

All numbers are little-endian. A file begins with a head, 12 bytes: `DCRL`, the format version
(uint32), and the CRC-32 of these 8 bytes. Records follow:

| bytes | content |
|---|---|
| 2 | the marker ff c1. No UTF-8 text contains ff, so no item id contains a marker |
| 2 | number of bytes of the payload |
| 4 | CRC-32 of the payload |
| 1 | payload: the kind, 1 for a click, 2 for a list shown |
| 8 | the running number, which alone decides the order |
| 8 | the time in Unix milliseconds, as the app gave it |
| n | a click: the item id in UTF-8 |
| | a list shown: uint16 n, uint16 m, m positions clicked and n lengths of ids (uint16), n ids |

A process that is killed leaves a torn record at the tail. After damage, reading goes on at the
next marker whose record is whole.
"""

import struct
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar
from zlib import crc32

FORMAT: Final = 1
MARKER: Final = b"\xff\xc1"
CLICK: Final = 1
LIST: Final = 2
HEAD_BYTES: Final = 12
LARGEST_RECORD: Final = 16 * 1024
"""Limit of a record in bytes: what is larger is not stored, and not taken for a record."""
LARGEST_NUMBER: Final = 1 << 62
_MOST_FALSE_MARKERS: Final = 4096
"""Markers without a whole record before the remainder of a file counts as lost: a bound on the
work for a file that consists of markers."""

_RECORD = struct.Struct("<2sHIBQq")
_FRAME = struct.Struct("<2sHI")
FIXED = struct.Struct("<BQq")
_Record = TypeVar("_Record")

Click: TypeAlias = tuple[str, int]
"""A click of the user: a catalogue id and its time in Unix milliseconds."""


@dataclass
class LogContent:
    """The whole records of a log, each kind in the order of the running numbers."""

    clicks: list[Click] = field(default_factory=list)
    click_numbers: list[int] = field(default_factory=list)
    lists: list[bytes] = field(default_factory=list)
    """Payloads of lists shown (lists_shown.py): most starts need none of them."""
    list_numbers: list[int] = field(default_factory=list)
    size: int = 0
    """Bytes up to the end of the last whole record: where to append."""
    torn_bytes: int = 0
    """Bytes after the last whole record, which a killed process leaves."""
    damaged_bytes: int = 0
    """Bytes between whole records, or of the head, that are not what was written."""

    def drop_oldest(self, max_clicks: int, max_lists: int) -> None:
        """Keeps the newest clicks and lists."""
        for records, limit in (
            (self.clicks, max_clicks), (self.click_numbers, max_clicks),
            (self.lists, max_lists), (self.list_numbers, max_lists),
        ):  # fmt: skip
            del records[: max(len(records) - limit, 0)]

    def encode(self, room: int) -> bytes:
        """A log of at most `room` bytes with this content, from which it drops what finds no room:
        the oldest lists, and if the clicks alone are too many, the oldest of these."""
        clicks = [encode_click(*pair) for pair in zip(self.click_numbers, self.clicks, strict=True)]
        clicks = _newest(clicks, room - HEAD_BYTES)
        lists = [frame(payload) for payload in self.lists]
        lists = _newest(lists, room - HEAD_BYTES - sum(map(len, clicks)))
        self.drop_oldest(len(clicks), len(lists))
        return b"".join((encode_head(), *lists, *clicks))


def _newest(records: list[bytes], room: int) -> list[bytes]:
    """The newest records that have at most `room` bytes together."""
    for at in range(len(records), 0, -1):
        room -= len(records[at - 1])
        if room < 0:
            return records[at:]
    return records


def encode_head() -> bytes:
    """The head of a log (12 bytes)."""
    start = b"DCRL" + FORMAT.to_bytes(4, "little")
    return start + crc32(start).to_bytes(4, "little")


def format_of(head: bytes) -> int | None:
    """The format version in a head; None if the head is damaged."""
    if len(head) < HEAD_BYTES or head[:4] != b"DCRL":
        return None
    if crc32(head[:8]) != int.from_bytes(head[8:HEAD_BYTES], "little"):
        return None
    return int.from_bytes(head[4:8], "little")


class RecordTooLarge(ValueError):
    """A record would have more than `LARGEST_RECORD` bytes."""


def encode_click(number: int, click: Click) -> bytes:
    """The record of a click. Raises UnicodeEncodeError for text that is not Unicode, struct.error
    if the time is not an int64, and RecordTooLarge."""
    item, time_ms = click
    return frame(FIXED.pack(CLICK, number, time_ms) + item.encode())


def frame(payload: bytes) -> bytes:
    """The record of a payload. Raises RecordTooLarge."""
    if len(payload) > LARGEST_RECORD:
        raise RecordTooLarge(f"{len(payload):,} bytes, and {LARGEST_RECORD:,} are the limit")
    return _FRAME.pack(MARKER, len(payload), crc32(payload)) + payload


def read_log(data: bytes, *, is_tail: bool = False) -> LogContent:
    """Reads the whole records of a log, and counts the bytes that are lost.

    With `is_tail`, `data` begins anywhere in a log: what precedes its first whole record is not
    lost, but older than what is asked for.
    """
    at = HEAD_BYTES if not is_tail and format_of(data[:HEAD_BYTES]) is not None else 0
    content = LogContent(size=at)
    gap, false_markers, is_older = 0, 0, is_tail
    while at < len(data):
        stop = _read_records(content, data, at)
        if stop > at:
            content.damaged_bytes += 0 if is_older else gap
            gap, is_older = 0, False
            content.size = at = stop
            continue
        following = data.find(MARKER, at + 1) if false_markers < _MOST_FALSE_MARKERS else -1
        following = following if following >= 0 else len(data)
        false_markers += 1
        gap += following - at
        at = following
    content.torn_bytes = gap
    _order(content)
    return content


def _read_records(content: LogContent, data: bytes, at: int) -> int:
    """Adds whole records from `at` on to the content; returns where the first one that is not
    whole, or that this program does not write, begins. One loop without calls: it is the time
    that opening takes."""
    fixed, payload_at, unpack, size = _RECORD.size, _FRAME.size, _RECORD.unpack_from, len(data)
    clicks, numbers = content.clicks, content.click_numbers
    while at + fixed <= size:
        marker, length, check, kind, number, time_ms = unpack(data, at)
        start, stop = at + payload_at, at + payload_at + length
        if marker != MARKER or not fixed - payload_at <= length <= LARGEST_RECORD or stop > size:
            break
        if crc32(data[start:stop]) != check or number >= LARGEST_NUMBER:
            break
        if kind == CLICK:
            try:
                item = data[at + fixed : stop].decode()
            except UnicodeDecodeError:
                break
            clicks.append((item, time_ms))
            numbers.append(number)
        elif kind == LIST:
            content.lists.append(data[start:stop])
            content.list_numbers.append(number)
        else:
            break
        at = stop
    return at


def _order(content: LogContent) -> None:
    """Puts records in the order of their numbers, each number once. A log that only this program
    wrote is in order already."""
    content.click_numbers, content.clicks = _ordered(content.click_numbers, content.clicks)
    content.list_numbers, content.lists = _ordered(content.list_numbers, content.lists)


def _ordered(numbers: list[int], records: list[_Record]) -> tuple[list[int], list[_Record]]:
    if all(map(int.__lt__, numbers, numbers[1:])):
        return numbers, records
    by_number = dict(zip(numbers, records, strict=True))
    return sorted(by_number), [by_number[number] for number in sorted(by_number)]
