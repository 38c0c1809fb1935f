"""The user's own clicks, and the unpatched user state before each of the newest."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device_client.scn import DeviceSCN, Graphs

Floats = NDArray[np.float32]
Int64 = NDArray[np.int64]

MOST: Final = 4096
"""Clicks that are kept; when there are more, the older half goes."""


class OwnClicks:
    """Rows of the item table, oldest first; states of the last `kept` of them.

    A click's place is its number, from 0, and stays when older ones go. A user's first click has
    no state before it. States of clicks that came without one (after a restart) are computed by
    `replay`.
    """

    def __init__(self, graphs: Graphs, kept: int) -> None:
        self._graphs = graphs
        self._rows: Int64 = np.zeros(MOST, np.int64)
        self._states: Floats = np.zeros((kept, graphs.bundle.manifest.model.dim), np.float32)
        self._has_state = np.zeros(kept, np.bool_)
        self._first = 0
        """The place of the oldest click that is kept."""
        self.count = 0
        """Clicks so far."""

    @property
    def kept(self) -> int:
        """How many clicks have states."""
        return len(self._states)

    def add(self, row: int, state: Floats | None) -> None:
        """Adds a click, with the state before it (1, D) if it is known."""
        if self.count - self._first == MOST:
            self._first += MOST // 2
            self._rows[: MOST // 2] = self._rows[MOST // 2 :]
        self._rows[self.count - self._first] = row
        at = self.count % self.kept
        self._has_state[at] = state is not None
        if state is not None:
            self._states[at] = state
        self.count += 1

    def rows(self, end: int) -> Int64:
        """The rows of clicks before a place, oldest first."""
        return self._rows[: end - self._first]

    def newest(self, begin: int, end: int) -> tuple[Floats, Int64]:
        """States (n, D) and rows (n,) of clicks from `begin` to before `end`, both places."""
        places = np.arange(max(begin, 1, self.count - self.kept), end)
        return self._states[places % self.kept], self._rows[places - self._first]

    def replay(self) -> Iterator[None]:
        """Computes missing states, a click at a time."""
        end = self.count
        oldest = max(1, end - self.kept, self._first)
        places = np.arange(oldest, end)
        missing = places[~self._has_state[places % self.kept]]
        if not len(missing):
            return
        settings = self._graphs.bundle.manifest.model
        device = DeviceSCN(self._graphs)
        # A window of clicks decides the state; with carrying, those before it do too.
        begin = int(missing[0]) - settings.length if settings.history == "window" else 0
        for place in range(max(begin, self._first), int(missing[-1]) + 1):
            if place >= missing[0] and device.count and device.user is not None:
                device.prepare()
                self._states[place % self.kept] = device.user
                self._has_state[place % self.kept] = True
            device.click(int(self._rows[place - self._first]))
            yield

    def forget(self) -> None:
        """Forgets every click."""
        self._rows[:], self._states[:], self._has_state[:] = 0, 0.0, False
        self._first = self.count = 0
