"""Validates catalogue ids from callers: what is accepted, what is rejected, and why.

A catalogue id is text. An integer stands for its digits, so 87 is the item "87", whatever row that
item has. Floats are refused even where they are whole: 87.0 comes from a table with a gap in its
column of ids, and then its large ids are no longer exact.
"""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import cast

import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidItem

ItemId = str | int
"""A catalogue id: text, or an integer that stands for its decimal digits."""
ItemIds = Iterable[ItemId] | NDArray[np.integer] | NDArray[np.str_]
Rows = Sequence[int] | NDArray[np.integer]
"""Rows of the item table, from 1."""
_SHOWN = 64


def id_text(item: object) -> str:
    """The catalogue id that `item` stands for. Raises InvalidItem."""
    if isinstance(item, str):
        return item
    if isinstance(item, Integral) and not isinstance(item, (bool, np.timedelta64)):
        return str(int(item))
    raise InvalidItem(
        f"{shown(item)} is no catalogue id but a {type(item).__name__}: {_advice(item)}"
    )


def id_texts(items: Sequence[object]) -> list[str]:
    """The catalogue ids that `items` stand for. Raises InvalidItem, naming the first wrong one."""
    return [item if type(item) is str else id_text(item) for item in items]


def listed(items: object, role: str) -> list[ItemId]:
    """Converts `items` to a list in the same order. `role` names the argument in messages.

    Takes lists, tuples, one-dimensional arrays, columns, views of a dict and generators. Raises
    InvalidItem for one item alone, a table, a mapping and a set, whose order means nothing; the
    ids in it are not looked at here.
    """
    if isinstance(items, (str, bytes, bytearray, memoryview)) or not isinstance(items, Iterable):
        raise InvalidItem(
            f"{role} are a list of catalogue ids, got {shown(items)} alone: give [{shown(items)}]"
        )
    if getattr(items, "ndim", 1) != 1:
        raise InvalidItem(
            f"{role} are one list of catalogue ids, got a table with {items.ndim} dimensions: "  # type: ignore[attr-defined]
            "give one row or one column of it"
        )
    if isinstance(items, Mapping):
        raise InvalidItem(f"{role} are a list of catalogue ids, got a mapping: give list(its keys)")
    if isinstance(items, (set, frozenset)):
        raise InvalidItem(
            f"{role} are a list of catalogue ids, got a set, whose order changes from run to run "
            "and would decide among equal scores: give sorted(it), or a list in the cloud's order"
        )
    # Only these: an array of times would give its times as integers.
    if isinstance(items, np.ndarray) and items.dtype.kind in "iuUO":
        return cast("list[ItemId]", items.tolist())
    return list(items)


def row_array(rows: Rows, role: str) -> NDArray[np.int64]:
    """Row numbers (N,) as int64 for ONNX Runtime. Raises InvalidItem if they are not integers."""
    array = rows if isinstance(rows, np.ndarray) else np.array(rows)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and len(array)):
        raise InvalidItem(
            f"{role} are a one-dimensional array of row numbers, got {array.dtype} of shape "
            f"{array.shape}: for catalogue ids use the method without _rows"
        )
    return np.ascontiguousarray(array, np.int64)


def shown(item: object) -> str:
    """`repr` of an argument, shortened for a message."""
    text = repr(item)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _advice(item: object) -> str:
    if isinstance(item, (bool, np.bool_)) or item is None:
        return "give text or an integer"
    if isinstance(item, (float, np.floating)):
        exact = float(item).is_integer() and abs(float(item)) < 2**53
        example = f", such as {int(item)}" if exact else ""
        return f"give text or an integer{example}, and read the column of ids as text"
    if isinstance(item, (bytes, bytearray)):
        return "decode it to text first"
    return "give text or an integer"
