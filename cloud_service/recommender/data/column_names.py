"""The names of a click log's columns, as a user gives them: `user=NAME,item=NAME,time=NAME`.

`agreed=NAME` names the optional column of consent (`consent.py`).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from shared.errors import DataError

EXAMPLE: Final = "user=NAME,item=NAME,time=NAME"

KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {"user": "user_id", "item": "item_id", "time": "timestamp"}
)
"""The keys of the option, and the column names that they stand for."""

AGREED: Final = "agreed"
"""The optional column, and its key: whether the user of a click agreed that it may be shared."""
_ALL_KEYS: Final[Mapping[str, str]] = MappingProxyType({**KEYS, AGREED: AGREED})


def parse_columns(text: str) -> dict[str, str]:
    """Reads `user=NAME,item=NAME,time=NAME`, in any order; a missing key keeps its usual name.

    A name may hold blanks or an equals sign, but no comma. Blanks around names do not count.

    Returns:
        The file's column names by user_id, item_id, timestamp and agreed, for the keys in `text`.

    Raises:
        DataError: a part is not KEY=NAME, its key is unknown, or a key or name is repeated.
    """
    names: dict[str, str] = {}
    for assignment in text.split(","):
        key, equals, name = (text_part.strip() for text_part in assignment.partition("="))
        if not equals or not name or key not in _ALL_KEYS:
            raise DataError(
                f"columns: {assignment.strip()!r} is none of user=NAME, item=NAME, time=NAME, "
                f"agreed=NAME: give {EXAMPLE} with the names of the file's first line."
            )
        if _ALL_KEYS[key] in names or name in names.values():
            raise DataError(
                f"columns: {assignment.strip()!r} names a column twice: give {EXAMPLE}."
            )
        names[_ALL_KEYS[key]] = name
    return names
