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


class ReplySink(Protocol):
    """Whoever is told how it ended; one of the two is called, once."""

    def answer(self, computed: "CorrectionReply") -> None:
        """Takes the correction."""

    def refuse(self, error: RecommendationError) -> None:
        """Takes what went wrong."""


class CorrectionReply(NamedTuple):
    """A correction as it is sent."""

    body: bytes
    check: str
    queue_s: float
    compute_s: float


@dataclass(slots=True)
class PendingCorrection:
    """One H in the queue. Times are `time.perf_counter`."""

    asker: ReplySink
    corrector: Corrector
    form: Form
    body: bytes | memoryview
    arrived: float
    deadline: float


class CorrectionScheduler:
    """Answers in batches on the event loop; sheds what comes later than `longest_s` in a turn."""

    def __init__(self, *, longest_s: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._longest, self._clock = longest_s, clock
        self._waiting: deque[PendingCorrection] = deque()
        self._cost = self._last_arrival = 0.0
        self._begun: float | None = None
        """When the present turn of the loop brought its first H; None before that."""
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, pending: PendingCorrection) -> None:
        """Answers or refuses `each.asker`, now or as soon as it can."""
        quiet = pending.arrived - self._last_arrival > _QUIET * self._cost
        self._last_arrival = pending.arrived
        if self._begun is None:
            if quiet and pending.deadline > pending.arrived:
                self._answer_one(pending, pending.arrived)
                return
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._begun = self._clock()
            self._loop.call_soon(self._end_turn)
        elif pending.arrived - self._begun > self._longest:
            pending.asker.refuse(_FULL)
            return
        self._waiting.append(pending)
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

    def _take(self, clock_s: float) -> list[PendingCorrection]:
        """The longest waiting, and all of its model and form; the expired are refused."""
        batch: list[PendingCorrection] = []
        deferred: list[PendingCorrection] = []
        while self._waiting and len(batch) < BATCH:
            pending = self._waiting.popleft()
            if clock_s > pending.deadline:
                pending.asker.refuse(Expired("the deadline named in the request has passed"))
            elif batch and (pending.corrector, pending.form) != (batch[0].corrector, batch[0].form):
                deferred.append(pending)
            else:
                batch.append(pending)
        self._waiting.extendleft(reversed(deferred))
        return batch

    def _answer_one(self, pending: PendingCorrection, begun: float) -> None:
        try:
            body = pending.corrector.one(pending.body, pending.form)
        except RecommendationError as error:
            pending.asker.refuse(error)
        except Exception:
            self._failed([pending])
        else:
            self._sent(pending, body, begun, self._spent(begun, 1))

    def _answer(self, batch: list[PendingCorrection], begun: float) -> None:
        try:
            answers = batch[0].corrector.correct([pending.body for pending in batch], batch[0].form)
        except Exception:
            self._failed(batch)
            return
        spent = self._spent(begun, len(batch))
        for pending, answer in zip(batch, answers, strict=True):
            if isinstance(answer, RecommendationError):
                pending.asker.refuse(answer)
            else:
                self._sent(pending, answer, begun, spent)

    def _spent(self, begun: float, count: int) -> float:
        """The time that `count` corrections took since `begun`; it goes into what one costs."""
        spent = self._clock() - begun
        pending = spent / count
        self._cost += _SMOOTHING * (pending - self._cost) if self._cost else pending
        return spent

    @staticmethod
    def _sent(pending: PendingCorrection, body: bytes, begun: float, spent: float) -> None:
        check = check_of(pending.body, body)
        pending.asker.answer(CorrectionReply(body, check, begun - pending.arrived, spent))

    @staticmethod
    def _failed(batch: list[PendingCorrection]) -> None:
        """A fault of ours: whoever asked is told, and never waits for nothing."""
        _log.exception("corrections failed")
        for pending in batch:
            pending.asker.refuse(_BROKEN)
