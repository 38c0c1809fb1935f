"""A device's line to the cloud: at most one request on its way, the newest H always next."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from device_client.breaker import Breaker
from device_client.budget import Budget
from device_client.bundle import Bundle
from device_client.connection import Answer, Connect, Connection
from shared.errors import WireError, WrongModel
from shared.outcomes import Outcome
from shared.wire import FULL_TYPE, ROW_TYPE, RowCorrection, Wire, check_hidden, row_at

Form = Literal["full", "row"]
_ERROR_BODY_LIMIT = 64 * 1024


@dataclass(slots=True)
class Received:
    """What became of one request. With a correction, `outcome` is `applied`.

    Times are `time.perf_counter_ns`, 0 where it did not come that far; `queue_ms` and
    `compute_ms` are the cloud's own, from Server-Timing.
    """

    ticket: int
    outcome: Outcome
    correction: RowCorrection | None = None
    sent_ns: int = 0
    uploaded_ns: int = 0
    first_byte_ns: int = 0
    received_ns: int = 0
    queue_ms: float = 0.0
    compute_ms: float = 0.0


class CorrectionLink:
    """Asks for corrections in a thread of its own. Make it with `CorrectionLink.to`.

    `ask` never blocks and replaces an H that has not been sent yet. Faults become outcomes;
    after three in a row the cloud is left alone for a while (`Breaker`).
    """

    def __init__(
        self, connection: Connection, wire: Wire, version: str, form: Form, timeout_s: float
    ) -> None:
        self._connection, self._wire, self._version = connection, wire, version
        self._form: Form = form
        self._timeout = timeout_s
        s = wire.settings
        self._body_limit = max(
            s.correction_bytes if form == "full" else s.row_bytes, _ERROR_BODY_LIMIT
        )
        self._body: NDArray[np.float32] = np.frombuffer(connection.body, "<f4").reshape(
            s.segment, s.dim
        )
        self._pending = np.empty_like(self._body)
        self._place = 0
        self._asked = self._taken = 0
        self._busy = False
        self._latest: Received | None = None
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._closed = False
        self.breaker = Breaker(time.monotonic)
        self.outcomes: Counter[Outcome] = Counter()
        """What became of the requests, whether or not a rerank waited for them."""
        self.watch: Callable[[Received], None] | None = None
        """Called in the link's thread with every answer, late ones too: for measuring."""

    @classmethod
    def to(
        cls,
        url: str,
        bundle: Bundle,
        *,
        form: Form = "row",
        budget: Budget | None = None,
        connect: Connect | None = None,
    ) -> "CorrectionLink":
        """A link to the cloud at `url` for the model of `bundle`.

        `form` is the correction's form on the wire: `row` (416 B) or `full` (4,160 B), with the
        same scores. `connect` opens sockets in place of plain TCP or TLS.
        """
        wire = Wire(bundle.manifest.model)
        accept = FULL_TYPE if form == "full" else ROW_TYPE
        size = bundle.manifest.model.hidden_bytes
        connection = Connection(url, bundle.version, size, accept, connect)
        timeout = (budget or Budget()).request_timeout_s
        return cls(connection, wire, bundle.version, form, timeout)

    def ask(self, hidden: NDArray[np.float32], place: int) -> int:
        """Asks for the correction of H (K, D) whose last click is at `place`; gives a ticket."""
        with self._changed:
            self._asked += 1
            if self.breaker.open:
                self._latest = Received(self._asked, Outcome.OFFLINE)
                self.outcomes[Outcome.OFFLINE] += 1
                self._taken = self._asked
                return self._asked
            self._pending[...] = hidden
            self._place = place
            self._start()
            self._changed.notify_all()
            return self._asked

    def open(self) -> None:
        """Connects ahead of the first request, in the background; a failure says nothing yet."""
        with self._changed:
            self._start()

    def wait(self, ticket: int, deadline_ns: int) -> Received:
        """What became of `ticket`, waiting until `deadline_ns` at most.

        `late` if it is still on its way then, `stale` if the line was still busy with earlier
        clicks, so that these have not even been asked about.
        """
        with self._changed:
            while True:
                if self._latest is not None and self._latest.ticket == ticket:
                    return self._latest
                left = deadline_ns - time.perf_counter_ns()
                if left <= 0 or self._closed:
                    waiting = self._busy and self._taken < ticket
                    return Received(ticket, Outcome.STALE if waiting else Outcome.LATE)
                self._changed.wait(left / 1e9)

    def close(self) -> None:
        """Ends the thread and the connection."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(self._timeout)

    def _start(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, daemon=True, name="corrections")
            self._thread.start()

    def _run(self) -> None:
        with suppress(Exception):  # the first request meets the same fault, and counts it
            self._connection.open(self._timeout)
        while True:
            with self._changed:
                while self._taken == self._asked and not self._closed:
                    self._changed.wait()
                if self._closed:
                    break
                self._body[...] = self._pending
                ticket, place = self._asked, self._place
                self._taken, self._busy = ticket, True
            received = self._request(ticket, place)
            if self.watch is not None:
                self.watch(received)
            with self._changed:
                self._busy = False
                if ticket >= (self._latest.ticket if self._latest else 0):
                    self._latest = received
                self.outcomes[received.outcome] += 1
                self._changed.notify_all()
        self._connection.close()

    def _request(self, ticket: int, place: int) -> Received:
        try:
            check_hidden(self._body)
            answer = self._connection.exchange(self._timeout, self._body_limit)
            received = self._read(ticket, place, answer)
        except WireError:  # of our own H: the cloud has no part in it
            return Received(ticket, Outcome.BAD_PAYLOAD)
        except TimeoutError:
            return self._failed(ticket, Outcome.TIMEOUT)
        except OSError:
            return self._failed(ticket, Outcome.OFFLINE)
        except Exception:  # BadAnswer, or what nobody thought of: this thread must go on
            return self._failed(ticket, Outcome.BAD_PAYLOAD)
        received.sent_ns, received.uploaded_ns = answer.sent_ns, answer.uploaded_ns
        received.first_byte_ns, received.received_ns = answer.first_byte_ns, answer.received_ns
        return received

    def _read(self, ticket: int, place: int, answer: Answer) -> Received:
        if answer.status in (404, 409, 410):
            return self._failed(ticket, Outcome.WRONG_MODEL)
        if answer.status != 200:
            return self._failed(ticket, Outcome.REFUSED, _seconds(answer.retry_after))
        try:
            correction = self._decode(answer, place)
        except WrongModel:
            return self._failed(ticket, Outcome.WRONG_MODEL)
        except WireError:
            return self._failed(ticket, Outcome.BAD_PAYLOAD)
        self.breaker.succeeded()
        timing = _server_timing(answer.server_timing)
        return Received(
            ticket,
            Outcome.APPLIED,
            correction,
            queue_ms=timing.get("queue", 0.0),
            compute_ms=timing.get("gcn", 0.0),
        )

    def _decode(self, answer: Answer, place: int) -> RowCorrection:
        if answer.version != self._version:
            raise WrongModel(f"asked {self._version}, answered {answer.version or 'without one'}")
        if self._form == "full":
            if answer.content_type != FULL_TYPE:
                raise WireError(f"the answer is {answer.content_type}")
            return row_at(self._wire.decode_full(answer.body), place)
        if answer.content_type != ROW_TYPE:
            raise WireError(f"the answer is {answer.content_type}")
        return self._wire.decode_row(answer.body)

    def _failed(self, ticket: int, outcome: Outcome, retry_after: float | None = None) -> Received:
        self.breaker.failed(retry_after)
        return Received(ticket, outcome)


def _seconds(value: str) -> float | None:
    """Retry-After in seconds; its other form, a date, is treated as absent."""
    return float(value) if value.isascii() and value.isdigit() and len(value) < 6 else None


def _server_timing(value: str) -> dict[str, float]:
    """`queue;dur=0.02, gcn;dur=0.11` to milliseconds by name; what does not parse is left out."""
    found = {}
    for part in value.split(","):
        name, _, duration = part.strip().partition(";dur=")
        try:
            found[name] = float(duration)
        except ValueError:
            continue
    return found
