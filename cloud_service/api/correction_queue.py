"""What is waiting for a correction: computed together, without a timer, and never for long.

Whatever arrived while the last batch was computed is the next one. Nothing waits for company, so a
single device is answered as soon as it would be alone.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

from cloud_service.api.problems import Expired, Overloaded
from cloud_service.services.corrections import Corrections, Corrector
from shared.errors import RecommendationError

BATCH: Final = 32
"""Corrections computed at once, at most: the first of them waits for the last."""
ALWAYS: Final = 8
"""As many may wait whatever they cost."""
_SMOOTHING: Final = 0.1


class Asker(Protocol):
    """Whoever is told how it ended; one of the two is called, once."""

    def answer(self, corrector: Corrector, body: bytes, queue_s: float, compute_s: float) -> None:
        """Takes the correction."""

    def refuse(self, error: RecommendationError) -> None:
        """Takes what went wrong."""


@dataclass(slots=True)
class Waiting:
    """One H in the queue. Times are `time.perf_counter`."""

    asker: Asker
    version: str
    row: bool
    body: bytes | memoryview
    arrived: float
    deadline: float


class CorrectionQueue:
    """Answers in batches on the event loop; sheds what would wait longer than `longest_s`."""

    def __init__(self, corrections: Corrections, *, longest_s: float) -> None:
        self._corrections, self._longest = corrections, longest_s
        self._waiting: deque[Waiting] = deque()
        self._cost = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, each: Waiting) -> None:
        """Answers or refuses `each.asker` later in this turn of the loop, or refuses it now."""
        count = len(self._waiting)
        if count >= ALWAYS and count * self._cost > self._longest:
            each.asker.refuse(Overloaded("more corrections are asked for than can be computed"))
            return
        if not count:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._work)
        self._waiting.append(each)

    def _work(self) -> None:
        begun = time.perf_counter()
        batch = self._take(begun)
        if batch:
            self._answer(batch, begun)
            spent = (time.perf_counter() - begun) / len(batch)
            self._cost += _SMOOTHING * (spent - self._cost) if self._cost else spent
        if self._waiting:
            assert self._loop is not None
            self._loop.call_soon(self._work)

    def _take(self, now: float) -> list[Waiting]:
        """The longest waiting, and all of its model and form; the expired are refused."""
        batch: list[Waiting] = []
        others: list[Waiting] = []
        while self._waiting and len(batch) < BATCH:
            each = self._waiting.popleft()
            if now > each.deadline:
                each.asker.refuse(Expired("the deadline named in the request has passed"))
            elif batch and (each.version, each.row) != (batch[0].version, batch[0].row):
                others.append(each)
            else:
                batch.append(each)
        self._waiting.extendleft(reversed(others))
        return batch

    def _answer(self, batch: list[Waiting], begun: float) -> None:
        corrector = self._corrections.get(batch[0].version)
        if corrector is None:  # retired, or closed to make room, since the head was read
            for each in batch:
                each.asker.refuse(Overloaded("the model was closed a moment ago: ask again"))
            return
        found = corrector.correct([each.body for each in batch], row=batch[0].row)
        spent = time.perf_counter() - begun
        for each, answer in zip(batch, found, strict=True):
            if isinstance(answer, RecommendationError):
                each.asker.refuse(answer)
            else:
                each.asker.answer(corrector, answer, begun - each.arrived, spent)
