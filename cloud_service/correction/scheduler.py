"""What is waiting for a correction: computed together, without a timer, and never for long.

A turn of the event loop reads every socket that is ready: what it brings is computed together, at
its end or as soon as a batch is full. Nothing waits for company: in a quiet moment an H is answered
on the spot, as if its device were alone.

A cloud that has too much to do has long turns, and what is read late in one has waited in its
socket since before it began. That is shed: it takes less time than an answer, so the next turn is
shorter.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from cloud_service.correction.corrector_cache import Corrector
from cloud_service.http.problems import Expired, Internal, Overloaded
from shared.errors import RecommendationError
from shared.wire import Form, check_of

_log = logging.getLogger(__name__)

BATCH: Final = 32
"""Corrections computed at once, at most: the first of them waits for the last."""
_BROKEN: Final = Internal("the cloud's log says more")
_FULL: Final = Overloaded("more corrections are asked for than can be computed")
_SMOOTHING: Final = 0.1
_QUIET: Final = 1.5
"""Times the cost of a correction without one, after which there is no crowd."""


class Asker(Protocol):
    """Whoever is told how it ended; one of the two is called, once."""

    def answer(self, computed: "Computed") -> None:
        """Takes the correction."""

    def refuse(self, error: RecommendationError) -> None:
        """Takes what went wrong."""


class Computed(NamedTuple):
    """A correction as it is sent."""

    body: bytes
    check: str
    queue_s: float
    compute_s: float


@dataclass(slots=True)
class Waiting:
    """One H in the queue. Times are `time.perf_counter`."""

    asker: Asker
    corrector: Corrector
    form: Form
    body: bytes | memoryview
    arrived: float
    deadline: float


class CorrectionQueue:
    """Answers in batches on the event loop; sheds what comes later than `longest_s` in a turn."""

    def __init__(self, *, longest_s: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._longest, self._clock = longest_s, clock
        self._waiting: deque[Waiting] = deque()
        self._cost = self._last = 0.0
        self._begun: float | None = None
        """When the present turn of the loop brought its first H; None before that."""
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, each: Waiting) -> None:
        """Answers or refuses `each.asker`, now or as soon as it can."""
        quiet = each.arrived - self._last > _QUIET * self._cost
        self._last = each.arrived
        if self._begun is None:
            if quiet and each.deadline > each.arrived:
                self._answer_one(each, each.arrived)
                return
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._begun = self._clock()
            self._loop.call_soon(self._end_turn)
        elif each.arrived - self._begun > self._longest:
            each.asker.refuse(_FULL)
            return
        self._waiting.append(each)
        if len(self._waiting) >= BATCH:
            self._work()

    def _end_turn(self) -> None:
        self._begun = None
        while self._waiting:
            self._work()

    def _work(self) -> None:
        begun = self._clock()
        batch = self._take(begun)
        if len(batch) == 1:
            self._answer_one(batch[0], begun)
        elif batch:
            self._answer(batch, begun)

    def _take(self, now: float) -> list[Waiting]:
        """The longest waiting, and all of its model and form; the expired are refused."""
        batch: list[Waiting] = []
        others: list[Waiting] = []
        while self._waiting and len(batch) < BATCH:
            each = self._waiting.popleft()
            if now > each.deadline:
                each.asker.refuse(Expired("the deadline named in the request has passed"))
            elif batch and (each.corrector, each.form) != (batch[0].corrector, batch[0].form):
                others.append(each)
            else:
                batch.append(each)
        self._waiting.extendleft(reversed(others))
        return batch

    def _answer_one(self, each: Waiting, begun: float) -> None:
        try:
            body = each.corrector.one(each.body, each.form)
        except RecommendationError as error:
            each.asker.refuse(error)
        except Exception:
            self._failed([each])
        else:
            self._sent(each, body, begun, self._spent(begun, 1))

    def _answer(self, batch: list[Waiting], begun: float) -> None:
        try:
            found = batch[0].corrector.correct([each.body for each in batch], batch[0].form)
        except Exception:
            self._failed(batch)
            return
        spent = self._spent(begun, len(batch))
        for each, answer in zip(batch, found, strict=True):
            if isinstance(answer, RecommendationError):
                each.asker.refuse(answer)
            else:
                self._sent(each, answer, begun, spent)

    def _spent(self, begun: float, count: int) -> float:
        """The time that `count` corrections took since `begun`; it goes into what one costs."""
        spent = self._clock() - begun
        each = spent / count
        self._cost += _SMOOTHING * (each - self._cost) if self._cost else each
        return spent

    @staticmethod
    def _sent(each: Waiting, body: bytes, begun: float, spent: float) -> None:
        check = check_of(each.body, body)
        each.asker.answer(Computed(body, check, begun - each.arrived, spent))

    @staticmethod
    def _failed(batch: list[Waiting]) -> None:
        """A fault of ours: whoever asked is told, and never waits for nothing."""
        _log.exception("corrections failed")
        for each in batch:
            each.asker.refuse(_BROKEN)
