"""How long users pause between a click and the rerank after it.

A list is reranked when its user comes back to it, at some moment between two clicks. So a human
pause is a gap between two clicks of a real log, times a random share of it: that the moment is
uniform within the gap is an assumption, on the short side.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GAPS_S = (
    1, 1, 17, 20, 23, 25, 27, 29, 31, 33, 36, 39, 43, 48, 54, 62, 73, 92, 126, 209, 1783,
)  # fmt: skip
"""Seconds between two clicks of a user: every twentieth part of the gaps in MovieLens 100K
(GroupLens; Harper and Konstan 2015) over 0 s and under 30 minutes, 46,646 of 99,057. Made by
scripts/pause_quantiles.py."""

LONGEST_MS = 600_000


@dataclass(frozen=True)
class Pauses:
    """A distribution of pauses: `quantiles_s` at even levels from 0 to 1, in seconds.

    `within`: a pause is a random share of such a time, not all of it.
    """

    source: str
    quantiles_s: tuple[float, ...]
    within: bool = False

    def draw(self, count: int, seed: int) -> NDArray[np.float64]:
        """Draws `count` pauses, in seconds: the same for the same seed."""
        random = np.random.default_rng(seed)
        levels = np.linspace(0, 1, len(self.quantiles_s))
        times = np.interp(random.random(count), levels, self.quantiles_s)
        return times * random.random(count) if self.within else times


HUMAN = Pauses(
    "a random moment between two clicks, as far apart as those of users of MovieLens 100K within "
    "a session",
    GAPS_S,
    within=True,
)


@dataclass(frozen=True)
class Think:
    """When lists are reranked: at once, after a pause, or both of the same clicks."""

    at_once: bool
    pauses: Pauses | None


def parse_think(text: str) -> Think:
    """The cases that `--think` names. Raises ValueError for what it cannot be."""
    named = {
        "both": Think(True, HUMAN),
        "none": Think(True, None),
        "human": Think(False, HUMAN),
    }
    if text in named:
        return named[text]
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = -1.0
    if not 0 <= milliseconds <= LONGEST_MS:
        raise ValueError(
            f"--think is both, none, human or a number of ms up to {LONGEST_MS:,}, got {text!r}"
        )
    if milliseconds == 0:
        return named["none"]
    return Think(False, Pauses(f"always {milliseconds:g} ms", (milliseconds / 1e3,) * 2))
