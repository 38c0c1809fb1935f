"""A device's line to the cloud: at most one request on its way, the newest H always next.

Who owns the connection, and what each does with it:

    the caller owns it              ask: send H            -> in flight
      (nothing needs a lock)        wait: poll the reply   -> idle, the outcome is recorded
                                    not connected, not sent whole, closed while idle,
                                    or an older H in flight -> hand over to the worker
    the worker thread owns it       finish what is in flight, open the connection,
      (state changes with a lock)   send what is queued, read its reply, until nothing is queued
                                    -> give back to the caller

A queued H that was not sent yet is replaced by a newer one. Where the breaker is open, no H is
sent or queued: the outcome is `offline` at once.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_client.bundle import Bundle
from device_client.correction.breaker import Breaker
from device_client.correction.budget import Budget
from device_client.correction.connection import ClosedIdle, Connection, Transport
from device_client.correction.http_answer import ERROR_BODY_LIMIT, Answer
from device_client.correction.received import (
    BUSY,
    CLOSED,
    ON_ITS_WAY,
    REPLACED,
    CorrectionDecoder,
    Received,
    retry_seconds,
    unsendable,
)
from device_client.correction.sockets import Connect
from device_client.correction.trouble import Trouble, refusal
from shared.errors import WireError, WrongModel
from shared.outcomes import Outcome
from shared.reasons import reason_of
from shared.wire import FORMS, Form, Wire, check_hidden


class _RequestInFlight(NamedTuple):
    """A request that was sent and not yet answered."""

    ticket: int
    position: int
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
        self, connection: Transport, wire: Wire, version: str, form: Form, timeout_s: float
    ) -> None:
        self._connection = connection
        self._decoder = CorrectionDecoder(wire, version, FORMS[form])
        self._timeout = timeout_s
        s = wire.settings
        self._body: NDArray[Any] = np.frombuffer(connection.body, wire.wire_dtype).reshape(
            s.segment, s.dim
        )
        self._pending = np.empty((s.segment, s.dim), np.float32)
        self._position = 0
        self._ticket = self._pending_ticket = 0
        self._queued = False
        """True while `_pending` holds an H that the worker is to send, with `_pending_ticket`. It
        need not be the newest H: the breaker may have opened since and kept that back."""
        self._in_flight: _RequestInFlight | None = None
        self._owned_by_worker = False
        """True while the worker thread owns the connection. While it is False, all state here is
        the caller's own and needs no lock."""
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
        transport: type[Transport] = Connection,
    ) -> "CorrectionLink":
        """A link to the cloud at `url` for the model of `bundle`.

        `form` is the form on the wire: `row` (416 B) or `full` (4,160 B), with the same scores;
        `row-half` and `full-half` send H and correction in float16, half the bytes for scores
        that agree to three digits. `connect` opens sockets in place of plain TCP or TLS;
        `transport` is the HTTP client, this project's own or `PlainTransport`.
        """
        layout = FORMS[form]
        wire = Wire(bundle.manifest.model, half=layout.half)
        timeout = (budget or Budget()).request_timeout_s
        connection = transport(
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
        """Asks for the correction of H (K, D) whose last click is at `position`; gives a ticket."""
        self._ticket = ticket = self._ticket + 1
        if not self._owned_by_worker:
            if self._in_flight is not None:
                self._poll_reply(0.0)  # the answer to an older H may have come meanwhile
            if self._in_flight is None and not self.breaker.open and self._connection.ready():
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
            self._position, self._queued, self._pending_ticket = position, True, ticket
            if not self._owned_by_worker:  # said here: the thread may be slow to begin
                self._busy_with = self._in_flight.ticket if self._in_flight else 0
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
            if self._in_flight is not None and not self._owned_by_worker:
                self._poll_reply(max((deadline_ns - time.perf_counter_ns()) / 1e9, 0.0))
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
                if self._owned_by_worker:
                    self._changed.wait(remaining_s)
                elif self._in_flight is None:
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
            self._record(unsendable(ticket, error))
            return True
        except OSError:  # closed since it was last used: the thread opens another
            return False
        if sent:
            self._in_flight = _RequestInFlight(ticket, position, time.monotonic() + self._timeout)
        return sent

    def _poll_reply(self, timeout_s: float) -> None:
        """Reads the answer to `_in_flight` if it comes within `timeout_s`."""
        flight = self._in_flight
        assert flight is not None
        remaining_s = flight.give_up - time.monotonic()
        self._complete(flight, self._receive, timeout_s, remaining_s)

    def _receive(self, timeout_s: float, left_s: float) -> Answer | None:
        """None: still on its way, and not given up yet. Raises as `Connection.receive`."""
        answer = self._connection.receive(min(timeout_s, max(left_s, 0.0)))
        if answer is None and timeout_s >= left_s:
            self._connection.close()
            raise TimeoutError(f"no answer within {self._timeout:g} s")
        return answer

    def _complete(
        self, flight: _RequestInFlight, read: Callable[..., Answer | None], *times: float
    ) -> None:
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
            received = self._read(flight.ticket, flight.position, answer)
        if not self._owned_by_worker:
            self._in_flight = None
            self._record(received)
            return
        with self._changed:
            self._in_flight = None
            self._record(received)

    def _ask_again(self, flight: _RequestInFlight) -> None:
        """The connection was closed before the cloud saw the request: the thread sends it anew."""
        with self._changed:
            self._in_flight = None
            self.replaced += self._queued
            if not self._queued:  # else a newer H goes in its place
                self._pending[...] = self._body
                self._position, self._pending_ticket = flight.position, flight.ticket
                self._queued = True
            self._hand_over()

    def _hand_over(self) -> None:
        """Gives the line to the thread. With the lock."""
        self._owned_by_worker = True
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, daemon=True, name="corrections")
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        """The thread: opens, finishes what is on its way, sends what is queued, gives back."""
        while True:
            with self._changed:
                while not self._owned_by_worker and not self._closed:
                    self._changed.wait()
                if self._closed:
                    break
                flight = self._in_flight
            if flight is not None:
                remaining_s = max(flight.give_up - time.monotonic(), 1e-3)
                self._complete(flight, self._connection.finish, remaining_s)
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
                self._owned_by_worker = False
                self._busy_with = 0
                self._changed.notify_all()
                return None
            self._body[...] = self._pending
            self._queued, self._busy_with = False, self._pending_ticket
            return self._pending_ticket, self._position

    def _record(self, received: Received) -> None:
        """Counts an outcome, and keeps it if there is no newer one. By whoever has the line; with
        the lock where that is the thread."""
        if self.watch is not None:
            self.watch(received)
        if self._latest is None or received.ticket >= self._latest.ticket:
            self._latest = received
        self.outcomes[received.outcome] += 1
        if self._owned_by_worker:
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
            return unsendable(ticket, error)
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
            after = None if gone else retry_seconds(answer.retry_after)
            return self._failed(ticket, outcome, refusal(answer.status, answer.body), after)
        try:
            correction = self._decoder.decode(answer, position)
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

    def _failed(
        self, ticket: int, outcome: Outcome, reason: str, retry_after: float | None = None
    ) -> Received:
        self.breaker.failed(retry_after)
        self._trouble.began(outcome, reason, self.breaker.left_s)
        return Received(ticket, outcome, reason=reason)
