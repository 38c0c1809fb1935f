"""Lists that the app showed: their payload in a click log, and the positions clicked."""

import struct
from bisect import bisect_left
from typing import Final, NamedTuple

from device_client.learning.click_log import FIXED, LIST, LogContent

LONGEST_LIST: Final = 200
"""Items of a list that are stored; nobody looks at more."""
_COUNTS = struct.Struct("<HH")


class ListShown(NamedTuple):
    """A list that the app showed: ids from top to bottom, and positions (from 0) clicked."""

    items: tuple[str, ...]
    clicked: tuple[int, ...]
    time_ms: int


def encode_list(number: int, shown: ListShown) -> bytes:
    """The payload of a list. Raises UnicodeEncodeError for text that is not Unicode, and
    struct.error if the time is not an int64."""
    ids = [item.encode() for item in shown.items]
    return b"".join(
        (
            FIXED.pack(LIST, number, shown.time_ms),
            _COUNTS.pack(len(ids), len(shown.clicked)),
            struct.pack(f"<{len(shown.clicked)}H", *shown.clicked),
            # A length that 16 bits do not hold makes a record that is too large in any case.
            struct.pack(f"<{len(ids)}H", *(min(len(item), 0xFFFF) for item in ids)),
            *ids,
        )
    )


def decode_list(payload: bytes) -> ListShown | None:
    """The list of a payload; None if its counts contradict its length, or its text is not UTF-8."""
    try:
        _, _, time_ms = FIXED.unpack_from(payload)
        count, clicks = _COUNTS.unpack_from(payload, FIXED.size)
        at = FIXED.size + _COUNTS.size
        clicked = struct.unpack_from(f"<{clicks}H", payload, at)
        at += 2 * clicks
        lengths = struct.unpack_from(f"<{count}H", payload, at)
        at += 2 * count
        if at + sum(lengths) != len(payload) or any(position >= count for position in clicked):
            return None
        items = []
        for length in lengths:
            items.append(payload[at : at + length].decode())
            at += length
    except (struct.error, UnicodeDecodeError):
        return None
    return ListShown(tuple(items), clicked, time_ms)


def lists_with_clicks(content: LogContent) -> list[ListShown]:
    """The lists of a log, oldest first. A click between a list and the next one that was shown is
    one on that list, if the item is in it."""
    clicks, numbers = content.clicks, content.click_numbers
    shown = []
    stops = [*(bisect_left(numbers, number) for number in content.list_numbers), len(numbers)]
    for payload, start, stop in zip(content.lists, stops, stops[1:], strict=False):
        decoded = decode_list(payload)
        if decoded is None:  # whole, but by another hand
            continue
        items = {item for item, _ in clicks[start:stop]}
        later = {at for at, item in enumerate(decoded.items) if item in items}
        shown.append(decoded._replace(clicked=tuple(sorted(later | set(decoded.clicked)))))
    return shown
