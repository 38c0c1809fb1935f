"""Inner states of all windows that have begun, where a window holds several inner steps.

"Inner steps" in shared/GRAPHS.md explains them. They are moved after a click's ranking is prepared
and before the next one is, never before H has left.
"""

import numpy as np
from numpy.typing import NDArray

from shared.model import ModelSettings

Floats = NDArray[np.float32]


class InnerWindows:
    """The inner states of one user's windows: inputs and outputs of `prepare`, in place.

    Shapes: h heads, b positions of an inner step, f + 1 rows, `rounds` of b windows, width f. The
    window that began i clicks ago lies at position i mod b of round i // b.
    """

    def __init__(self, settings: ModelSettings, first_state: Floats) -> None:
        """`first_state` (h, f + 1, f) is that of a user without history."""
        h, f, b = settings.heads, settings.head_dim, settings.clicks_per_update
        shape = h, b, f + 1, settings.window_rounds, f
        self._states: Floats = np.empty(shape, np.float32)
        self._states[...] = first_state[:, None, :, None]
        self._next_states = self._states.copy()
        self._taken, self._next_taken = np.zeros_like(self._states), np.zeros_like(self._states)
        flat = h * b, f + 1, settings.window_rounds * f
        self.inputs = {"states": self._states.reshape(flat)}
        self.outputs = {"next_states": self._next_states.reshape(flat)}
        if b > 1:
            self.inputs["taken"] = self._taken.reshape(flat)
            self.outputs["next_taken"] = self._next_taken.reshape(flat)

    def move(self) -> None:
        """Every window is one click older; the oldest goes, and a new one has begun."""
        if len(self.inputs) > 1:
            self._states[:, 1:] = self._states[:, :-1]
            self._taken[:, 1:] = self._next_taken[:, :-1]
        # A window at the end of an inner step begins the next one, in the next round.
        self._states[:, 0, :, 1:] = self._next_states[:, -1, :, :-1]
