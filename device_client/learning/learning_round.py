"""One round of learning: trains a patch on own clicks, and judges it by the newest.

`run` is a generator that works in steps of less than 2 ms and gives control back after each.
"""

import math
from collections.abc import Generator
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from device_client.bundle import Bundle
from device_client.learning.own_clicks import OwnClicks
from device_client.learning.patch import Basis, Patch, is_sound
from device_client.learning.training_graph import AmortisedGraph, TrainingGraph, decayed_sums
from shared.learning import HALF_LIVES, PatchSettings
from shared.outcomes import LearningOutcome

Floats = NDArray[np.float32]
Int64 = NDArray[np.int64]

LEAST_CLICKS: Final = 5
"""Own clicks to train on, below which there is no round."""
LEAST_HELD_OUT: Final = 3
HELD_OUT_SHARE: Final = 5
"""One click in so many is held out."""


class DrawNegatives(Protocol):
    """Draws distinct rows of the item table."""

    def __call__(self, items: int, count: int) -> Int64: ...


def held_out(clicks: int) -> int:
    """How many of so many clicks judge a patch, the newest: a fifth, and at least 3."""
    return max(LEAST_HELD_OUT, clicks // HELD_OUT_SHARE)


class LearningRound:
    """Rounds for one user; arrays and graphs are made once."""

    def __init__(
        self,
        bundle: Bundle,
        settings: PatchSettings,
        basis: Basis | None = None,
        draw: DrawNegatives | None = None,
    ) -> None:
        """`draw` draws the negatives; at random by default."""
        self._settings, self._basis = settings, basis
        self._table: Floats = bundle.item_table.view(np.float32)
        self._items = bundle.manifest.items
        self._graph = TrainingGraph(bundle, settings)
        self._amortised = AmortisedGraph(bundle) if settings.start == "amortised" else None
        self._draw = draw or _drawn_at_random(np.random.default_rng())
        self.best: Floats | None = None
        """After a round: the numbers that rank best, or None if that is no patch."""

    def run(self, clicks: OwnClicks, patch: Patch | None) -> Generator[None, None, LearningOutcome]:
        """A round on `clicks` with `patch` in use. Returns the outcome; `best` has the numbers."""
        self.best = None if patch is None else patch.numbers
        yield from clicks.replay()
        end = clicks.count
        begin = end - held_out(min(end, self._settings.window))
        states, rows = clicks.newest(begin - self._settings.window, begin)
        if len(rows) < LEAST_CLICKS:
            return LearningOutcome.TOO_FEW
        judged = clicks.newest(begin, end)
        yield
        negatives = self._draw(self._items, min(self._settings.negatives, self._items))
        yield
        self._graph.begin(self._start(clicks, begin, judged[0][0]))
        yield
        # `np.isin` and `np.unique` import a megabyte at their first call.
        is_clicked = np.zeros(self._items + 1, np.bool_)
        is_clicked[clicks.rows(begin)] = True
        self._graph.fill(states, rows, negatives, is_clicked[negatives])
        is_clicked[clicks.rows(end)] = True
        unseen = negatives[~is_clicked[negatives]]
        for step in range(1, self._settings.steps + 1):
            yield
            if not math.isfinite(self._graph.step(step)):
                return LearningOutcome.DIVERGED
        numbers = self._graph.patch.copy()
        if not is_sound(numbers):
            return LearningOutcome.DIVERGED
        yield
        return self._judge(numbers, *judged, unseen)

    def forget(self) -> None:
        """Clears what came from the user."""
        self._graph.forget()
        self.best = None

    def _start(self, clicks: OwnClicks, place: int, state: Floats) -> Floats | None:
        """What the round begins from: None, or the shift of all clicks before a place."""
        if self._amortised is None:
            return None
        sums = decayed_sums(self._table, clicks.rows(place), HALF_LIVES)
        return self._amortised.shift(sums, place, state)

    def _judge(
        self, numbers: Floats, states: Floats, rows: Int64, negatives: Int64
    ) -> LearningOutcome:
        """Keeps in `best` what ranks the held-out clicks best: what was there at equal ranks."""
        vectors, own = self._table[negatives], self._table[rows]

        def quality(patch: Floats | None) -> float:
            """The mean reciprocal rank of the clicks among the negatives."""
            patched = states if patch is None else self._patched(states, patch)
            scores, clicked = patched @ vectors.T, (patched * own).sum(1)[:, None]
            ranks = 1 + (scores > clicked).sum(1) + 0.5 * (scores == clicked).sum(1)
            return float((1 / ranks).mean())

        kept = quality(self.best)
        none = quality(None) if self.best is not None else kept
        learned = quality(numbers)
        if learned > max(kept, none):
            self.best = numbers
            return LearningOutcome.IMPROVED
        if none > kept:
            self.best = None
        return LearningOutcome.KEPT

    def _patched(self, states: Floats, patch: Floats) -> Floats:
        if self._basis is None:
            return states + patch
        matrix, bias = self._basis.map(patch)
        return states + states @ matrix + bias


def _drawn_at_random(random: np.random.Generator) -> DrawNegatives:
    def draw(items: int, count: int) -> Int64:
        rows: Int64 = random.choice(items, count, replace=False).astype(np.int64) + 1
        return rows

    return draw
