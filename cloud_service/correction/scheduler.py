"""Batches corrections on the event loop, without a timer, and bounds their waiting time.

One turn of the event loop reads every socket that is ready. All H of a turn are computed together,
at the end of the turn or as soon as a batch is full. Nothing waits for a batch to fill: when there
is no load, an H is answered immediately, as if its device were alone.

Under overload the turns are long, and an H that is read late in a turn has waited in its socket
since before the turn began. Such an H is refused: a refusal takes less time than a correction, so
the next turn is shorter.
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
"""Largest batch. The first H of a batch waits for the last one."""
_BROKEN: Final = Internal("the cloud's log says more")
_FULL: Final = Overloaded("more corrections are asked for than can be computed")
_SMOOTHING: Final = 0.1
_QUIET: Final = 1.5
"""The load counts as low after a pause of this many times the cost of one correction."""


class ReplySink(Protocol):
    """Receives the result of one correction: exactly one of the two methods is called, once."""

    def answer(self, reply: "CorrectionReply") -> None:
        """Receives the correction."""

    def refuse(self, error: RecommendationError) -> None:
        """Receives the reason why there is no correction."""


class CorrectionReply(NamedTuple):
    """A computed correction and what its response headers say."""

    body: bytes
    check: str
    """CRC-32 of H and the correction, in hex (Correction-Check)."""
    queue_s: float
    """Seconds in the queue."""
    compute_s: float
    """Seconds of computation, of the whole batch."""


@dataclass(slots=True)
class PendingCorrection:
    """One H in the queue. `arrived` and `deadline` are times of `time.perf_counter`."""

    sink: ReplySink
    corrector: Corrector
    form: Form
    body: bytes | memoryview
    arrived: float
    deadline: float


class CorrectionScheduler:
    """Computes corrections in batches on the event loop.

    Refuses an H that arrives more than `longest_s` seconds after the first one of its turn.
    """

    def __init__(self, *, longest_s: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._longest, self._clock = longest_s, clock
        self._waiting: deque[PendingCorrection] = deque()
        self._cost = self._last_arrival = 0.0
        self._begun: float | None = None
        """Time of the first H in the current turn of the loop, or None."""
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, pending: PendingCorrection) -> None:
        """Computes or queues one H. Calls its sink immediately or in this turn of the loop."""
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
            pending.sink.refuse(_FULL)
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

    def _take(self, now_s: float) -> list[PendingCorrection]:
        """Takes the oldest H and the next ones of the same model and form; refuses expired ones."""
        batch: list[PendingCorrection] = []
        deferred: list[PendingCorrection] = []
        while self._waiting and len(batch) < BATCH:
            pending = self._waiting.popleft()
            if now_s > pending.deadline:
                pending.sink.refuse(Expired("the deadline named in the request has passed"))
            elif batch and (pending.corrector, pending.form) != (batch[0].corrector, batch[0].form):
                deferred.append(pending)
            else:
                batch.append(pending)
        self._waiting.extendleft(reversed(deferred))
        return batch

    def _answer_one(self, pending: PendingCorrection, begun: float) -> None:
        try:
            body = pending.corrector.correct_one(pending.body, pending.form)
        except RecommendationError as error:
            pending.sink.refuse(error)
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
                pending.sink.refuse(answer)
            else:
                self._sent(pending, answer, begun, spent)

    def _spent(self, begun: float, count: int) -> float:
        """Returns the seconds since `begun` and updates the average cost of one correction."""
        spent = self._clock() - begun
        cost = spent / count
        self._cost += _SMOOTHING * (cost - self._cost) if self._cost else cost
        return spent

    @staticmethod
    def _sent(pending: PendingCorrection, body: bytes, begun: float, spent: float) -> None:
        check = check_of(pending.body, body)
        pending.sink.answer(CorrectionReply(body, check, begun - pending.arrived, spent))

    @staticmethod
    def _failed(batch: list[PendingCorrection]) -> None:
        """Refuses a batch after an internal error, so that no client waits in vain."""
        _log.exception("corrections failed")
        for pending in batch:
            pending.sink.refuse(_BROKEN)
