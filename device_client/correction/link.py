"""A device's line to the cloud: at most one request on its way, the newest H always next."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_client.bundle import Bundle
from device_client.correction.breaker import Breaker
from device_client.correction.budget import Budget
from device_client.correction.connection import ERROR_BODY_LIMIT, Answer, ClosedIdle, Connection
from device_client.correction.sockets import Connect
from device_client.correction.trouble import Trouble, refusal
from shared.errors import WireError, WrongModel
from shared.outcomes import Outcome
from shared.reasons import reason_of
from shared.wire import FORMS, Form, RowCorrection, Wire, check_hidden

ON_ITS_WAY = "no answer had come when the budget ran out"
BUSY = "the line was still busy with earlier clicks when the budget ran out"
REPLACED = "the request gave way to that of a later click"
CLOSED = "the link to the cloud was closed"
LONGEST_NAME = 64
"""Characters of what a server calls something that a message repeats."""


@dataclass(slots=True)
class Received:
    """What became of one request. With a correction, `outcome` is `applied`, and `reason` empty.

    Times are `time.perf_counter_ns`, 0 where it did not come that far. `received_ns` is when the
    device took the answer: one that came while nobody waited has lain there since.
    """

    ticket: int
    outcome: Outcome
    correction: RowCorrection | None = None
    sent_ns: int = 0
    uploaded_ns: int = 0
    first_byte_ns: int = 0
    received_ns: int = 0
    server_timing: str = ""
    """The cloud's own account of its time; see `cloud_times`."""
    reason: str = ""
    """Why there is no correction, in words."""


class _Flight(NamedTuple):
    """A request that was sent and not yet answered."""

    ticket: int
    place: int
    give_up: float
    """When it is given up, in `time.monotonic`."""


class CorrectionLink:
    """A device's line to the cloud. Make it with `CorrectionLink.to`.

    `ask` never blocks and replaces an H that has not been sent yet. Faults become outcomes;
    after three in a row the cloud is left alone for a while (`Breaker`).

    Where all goes well nothing but the caller is involved: `ask` sends, `wait` reads. A thread
    has the line while it has to be opened, while a new H waits for the answer to an older one, and
    over simulated networks. For one caller at a time.
    """

    def __init__(
        self, connection: Connection, wire: Wire, version: str, form: Form, timeout_s: float
    ) -> None:
        self._connection, self._wire, self._version = connection, wire, version
        self._layout = FORMS[form]
        self._timeout = timeout_s
        s = wire.settings
        self._body: NDArray[Any] = np.frombuffer(connection.body, wire.number).reshape(
            s.segment, s.dim
        )
        self._pending = np.empty((s.segment, s.dim), np.float32)
        self._place = 0
        self._asked = self._waits = 0
        self._queued = False
        """Whether an H lies in `_pending` and waits for the thread to send it, by ticket `_waits`:
        not always the newest, which a breaker that opened meanwhile may have kept back."""
        self._flight: _Flight | None = None
        self._handed = False
        """Whether the thread has the line; the caller hands it over, the thread gives it back.
        While it is False all here is the caller's own, and needs no lock."""
        self._busy_with = 0
        self._latest: Received | None = None
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._closed = False
        self.breaker = Breaker(time.monotonic)
        self._trouble = Trouble(time.monotonic, connection.address)
        self.outcomes: Counter[Outcome] = Counter()
        """What became of the requests, whether or not a rerank waited for them."""
        self.replaced = 0
        """H that were never answered for, since a newer one went in their place."""
        self.watch: Callable[[Received], None] | None = None
        """Called with every answer, late ones too, by whoever read it: for measuring."""

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

        `form` is the form on the wire: `row` (416 B) or `full` (4,160 B), with the same scores;
        `row-half` and `full-half` send H and correction in float16, half the bytes for scores
        that agree to three digits. `connect` opens sockets in place of plain TCP or TLS.
        """
        layout = FORMS[form]
        wire = Wire(bundle.manifest.model, half=layout.half)
        timeout = (budget or Budget()).request_timeout_s
        connection = Connection(
            url,
            bundle.version,
            layout,
            wire.hidden_bytes,
            connect,
            body_limit=max(wire.answer_bytes(form), ERROR_BODY_LIMIT),
            deadline_ms=max(1, int(timeout * 1e3)),
        )
        return cls(connection, wire, bundle.version, form, timeout)

    def ask(self, hidden: NDArray[np.float32], position: int) -> int:
        """Asks for the correction of H (K, D) whose last click is at `place`; gives a ticket."""
        self._asked = ticket = self._asked + 1
        if not self._handed:
            if self._flight is not None:
                self._land(0.0)  # the answer to an older H may have come meanwhile
            if self._flight is None and not self.breaker.open and self._connection.ready():
                self._body[...] = hidden
                if self._send(ticket, position):
                    return ticket
        with self._changed:
            if self.breaker.open:
                reason = self._trouble.paused(self.breaker.left_s, self.breaker.failures)
                self._record(Received(ticket, Outcome.OFFLINE, reason=reason))
                return ticket
            self.replaced += self._queued
            self._pending[...] = hidden
            self._place, self._queued, self._waits = position, True, ticket
            if not self._handed:  # said here: the thread may be slow to begin
                self._busy_with = self._flight.ticket if self._flight else 0
            self._hand_over()
        return ticket

    @property
    def takes_calls(self) -> bool:
        """Whether a request would be sent now: neither closed nor paused after failures."""
        return not self._closed and not self.breaker.open

    def open(self) -> None:
        """Connects ahead of the first request, in the background; a failure says nothing yet."""
        with self._changed:
            self._hand_over()

    def wait(self, ticket: int, deadline_ns: int) -> Received:
        """What became of `ticket`, waiting until `deadline_ns` at most.

        `late` if it is still on its way then, `stale` if the line was still busy with earlier
        clicks, so that these have not even been asked about.
        """
        while True:
            if self._flight is not None and not self._handed:
                self._land(max((deadline_ns - time.perf_counter_ns()) / 1e9, 0.0))
                if self._latest is not None and self._latest.ticket == ticket:
                    return self._latest
            with self._changed:
                if self._latest is not None and self._latest.ticket == ticket:
                    return self._latest
                if self._closed:
                    return Received(ticket, Outcome.OFFLINE, reason=CLOSED)
                remaining_s = (deadline_ns - time.perf_counter_ns()) / 1e9
                if remaining_s <= 0:
                    if 0 < self._busy_with < ticket:
                        return Received(ticket, Outcome.STALE, reason=BUSY)
                    return Received(ticket, Outcome.LATE, reason=ON_ITS_WAY)
                if self._handed:
                    self._changed.wait(remaining_s)
                elif self._flight is None:
                    return Received(ticket, Outcome.LATE, reason=REPLACED)

    def close(self) -> None:
        """Ends the thread and the connection."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(self._timeout)
        self._connection.close()

    def _send(self, ticket: int, position: int) -> bool:
        """Whether the H in `_body` is on its way, or never will be."""
        try:
            check_hidden(self._body)
            sent = self._connection.send()
        except WireError as error:  # of our own H: the cloud has no part in it
            self._record(_unsendable(ticket, error))
            return True
        except OSError:  # closed since it was last used: the thread opens another
            return False
        if sent:
            self._flight = _Flight(ticket, position, time.monotonic() + self._timeout)
        return sent

    def _land(self, timeout_s: float) -> None:
        """Reads the answer to `_flight` if it comes within `timeout_s`."""
        flight = self._flight
        assert flight is not None
        remaining_s = flight.give_up - time.monotonic()
        self._take(flight, self._receive, timeout_s, remaining_s)

    def _receive(self, timeout_s: float, left_s: float) -> Answer | None:
        """None: still on its way, and not given up yet. Raises as `Connection.receive`."""
        answer = self._connection.receive(min(timeout_s, max(left_s, 0.0)))
        if answer is None and timeout_s >= left_s:
            self._connection.close()
            raise TimeoutError(f"no answer within {self._timeout:g} s")
        return answer

    def _take(self, flight: _Flight, read: Callable[..., Answer | None], *times: float) -> None:
        """What `read` gives for `flight`, or fails with, as its outcome. By who has the line."""
        try:
            answer = read(*times)
            if answer is None:
                return
        except ClosedIdle:
            self._ask_again(flight)
            return
        except Exception as error:
            received = self._fault(flight.ticket, error)
        else:
            received = self._read(flight.ticket, flight.place, answer)
        if not self._handed:
            self._flight = None
            self._record(received)
            return
        with self._changed:
            self._flight = None
            self._record(received)

    def _ask_again(self, flight: _Flight) -> None:
        """The connection was closed before the cloud saw the request: the thread sends it anew."""
        with self._changed:
            self._flight = None
            self.replaced += self._queued
            if not self._queued:  # else a newer H goes in its place
                self._pending[...] = self._body
                self._place, self._queued, self._waits = flight.place, True, flight.ticket
            self._hand_over()

    def _hand_over(self) -> None:
        """Gives the line to the thread. With the lock."""
        self._handed = True
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, daemon=True, name="corrections")
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        """The thread: opens, finishes what is on its way, sends what is queued, gives back."""
        while True:
            with self._changed:
                while not self._handed and not self._closed:
                    self._changed.wait()
                if self._closed:
                    break
                flight = self._flight
            if flight is not None:
                remaining_s = max(flight.give_up - time.monotonic(), 1e-3)
                self._take(flight, self._connection.finish, remaining_s)
            with suppress(Exception):  # a request meets the same fault, and counts it
                self._connection.open(self._timeout)
            while (queued := self._next()) is not None:
                received = self._request(*queued)
                with self._changed:
                    self._record(received)

    def _next(self) -> tuple[int, int] | None:
        """The queued H, moved to where it is sent from; without one the line is given back."""
        with self._changed:
            if not self._queued or self._closed:
                self._handed = False
                self._busy_with = 0
                self._changed.notify_all()
                return None
            self._body[...] = self._pending
            self._queued, self._busy_with = False, self._waits
            return self._waits, self._place

    def _record(self, received: Received) -> None:
        """Counts an outcome, and keeps it if there is no newer one. By whoever has the line; with
        the lock where that is the thread."""
        if self.watch is not None:
            self.watch(received)
        if self._latest is None or received.ticket >= self._latest.ticket:
            self._latest = received
        self.outcomes[received.outcome] += 1
        if self._handed:
            self._changed.notify_all()

    def _request(self, ticket: int, position: int) -> Received:
        try:
            check_hidden(self._body)
            answer = self._connection.exchange(self._timeout)
        except Exception as error:
            return self._fault(ticket, error)
        return self._read(ticket, position, answer)

    def _fault(self, ticket: int, error: Exception) -> Received:
        if isinstance(error, WireError):  # of our own H: the cloud has no part in it
            return _unsendable(ticket, error)
        if isinstance(error, OSError):
            timeout = isinstance(error, TimeoutError)
            cloud = self._connection.address
            reason = reason_of(error, cloud.host, cloud.port)
            return self._failed(ticket, Outcome.TIMEOUT if timeout else Outcome.OFFLINE, reason)
        # BadAnswer, or what nobody thought of: a rerank must go on.
        return self._failed(ticket, Outcome.BAD_PAYLOAD, str(error) or type(error).__name__)

    def _read(self, ticket: int, position: int, answer: Answer) -> Received:
        if answer.status != HTTPStatus.OK:
            gone = answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE)
            outcome = Outcome.WRONG_MODEL if gone else Outcome.REFUSED
            after = None if gone else _seconds(answer.retry_after)
            return self._failed(ticket, outcome, refusal(answer.status, answer.body), after)
        try:
            correction = self._decode(answer, position)
        except WrongModel as error:
            return self._failed(ticket, Outcome.WRONG_MODEL, str(error))
        except WireError as error:
            return self._failed(ticket, Outcome.BAD_PAYLOAD, str(error))
        self.breaker.succeeded()
        if self._trouble.reason:
            self._trouble.ended()
        return Received(
            ticket,
            Outcome.APPLIED,
            correction,
            answer.sent_ns,
            answer.uploaded_ns,
            answer.first_byte_ns,
            answer.received_ns,
            answer.server_timing,
        )

    def _decode(self, answer: Answer, position: int) -> RowCorrection:
        if answer.version != self._version:
            raise WrongModel(
                f"model {self._version} was asked for a correction, and the answer is of "
                f"{answer.version[:LONGEST_NAME] or 'a model that it does not name'}"
            )
        if answer.content_type != self._layout.correction_type:
            raise WireError(
                f"the answer is {answer.content_type[:LONGEST_NAME] or 'of no type'}, not "
                f"{self._layout.correction_type}"
            )
        if self._layout.row:
            return self._wire.decode_row(answer.body)
        return self._wire.decode_row_at(answer.body, position)

    def _failed(
        self, ticket: int, outcome: Outcome, reason: str, retry_after: float | None = None
    ) -> Received:
        self.breaker.failed(retry_after)
        self._trouble.began(outcome, reason, self.breaker.left_s)
        return Received(ticket, outcome, reason=reason)


def _unsendable(ticket: int, error: WireError) -> Received:
    return Received(ticket, Outcome.BAD_PAYLOAD, reason=f"H was not sent: {error}")


def _seconds(value: str) -> float | None:
    """Retry-After in seconds; its other form, a date, is treated as absent."""
    return float(value) if value.isascii() and value.isdigit() and len(value) < 6 else None


def cloud_times(value: str) -> dict[str, float]:
    """`queue;dur=0.02, gcn;dur=0.11` to milliseconds by name; what does not parse is left out."""
    durations = {}
    for entry in value.split(","):
        name, _, duration = entry.strip().partition(";dur=")
        try:
            durations[name] = float(duration)
        except ValueError:
            continue
    return durations
