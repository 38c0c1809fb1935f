"""What the user clicked before, as offsets of scores: the device's part of `MemorySettings`.

base + count * log(1 + clicks on the item) - age * log(1 + clicks since the last of them)
"""

import numpy as np
from numpy.typing import NDArray

from shared.learning import MemorySettings


class DeviceMemory:
    """Offsets of the items that the user clicked, one for each row of the item table."""

    def __init__(self, settings: MemorySettings, rows: int) -> None:
        """`rows` is the length of the item table, V + 1."""
        self._settings = settings
        # Dense, so that a ranking looks candidates up in one call. Pages that are never written
        # to take no memory.
        self.offsets = np.zeros(rows, np.float32)
        """(V + 1,) 0 for items without a click."""
        self._place: dict[int, int] = {}
        self._clicks = 0
        self._items: NDArray[np.int64] = np.zeros(64, np.int64)
        self._last: NDArray[np.int64] = np.zeros(64, np.int64)
        self._counts: NDArray[np.float32] = np.zeros(64, np.float32)
        self._fixed: NDArray[np.float32] = np.zeros(64, np.float32)

    def note(self, row: int) -> None:
        """Counts a click; the offsets are those after it."""
        self._count(row)
        self._write()

    def note_all(self, rows: NDArray[np.int64]) -> None:
        """Counts clicks, oldest first."""
        for row in rows.tolist():
            self._count(row)
        self._write()

    def forget(self) -> None:
        """Forgets every click."""
        self.offsets[self._items[: len(self._place)]] = 0.0
        for array in (self._items, self._last, self._counts, self._fixed):
            array[:] = 0
        self._place, self._clicks = {}, 0

    def _count(self, row: int) -> None:
        at = self._place.setdefault(row, len(self._place))
        if at == len(self._items):
            self._items, self._last = np.resize(self._items, 2 * at), np.resize(self._last, 2 * at)
            self._counts = np.concatenate((self._counts, np.zeros(at, np.float32)))
            self._fixed = np.concatenate((self._fixed, np.zeros(at, np.float32)))
        self._items[at], self._last[at] = row, self._clicks
        self._counts[at] += 1
        settings = self._settings
        self._fixed[at] = settings.base + settings.count * np.log1p(self._counts[at])
        self._clicks += 1

    def _write(self) -> None:
        # Every click makes all others older.
        known = slice(len(self._place))
        ages = np.log1p((self._clicks - 1 - self._last[known]).astype(np.float32))
        self.offsets[self._items[known]] = (
            self._fixed[known] - np.float32(self._settings.age) * ages
        )
