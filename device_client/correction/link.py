"""The link from a device to the cloud: one request in flight, the newest H always next.

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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_client.bundle import Bundle
from device_client.correction.breaker import Breaker
from device_client.correction.budget import Budget
from device_client.correction.connection import ClosedIdle, Connection, Transport
from device_client.correction.http_answer import ERROR_BODY_LIMIT, Answer
from device_client.correction.received import BUSY, CLOSED, ON_ITS_WAY, REPLACED, Received
from device_client.correction.replies import ReplyInterpreter, RequestInFlight
from device_client.correction.sockets import Connect
from shared.errors import WireError
from shared.outcomes import Outcome
from shared.wire import FORMS, Form, Wire, check_hidden


class CorrectionLink:
    """Requests corrections from the cloud. Create it with `CorrectionLink.to`.

    `ask` never blocks and replaces an H that was not sent yet. Faults become outcomes; after
    three in a row the `Breaker` pauses requests. Not thread-safe: for one caller at a time.
    """

    def __init__(
        self, connection: Transport, wire: Wire, replies: ReplyInterpreter, timeout_s: float
    ) -> None:
        self._connection = connection
        self._replies, self.breaker = replies, replies.breaker
        self._timeout = timeout_s
        shape = wire.settings.segment, wire.settings.dim
        self._body: NDArray[Any] = np.frombuffer(connection.body, wire.wire_dtype).reshape(shape)
        self._pending = np.empty(shape, np.float32)
        self._position = self._busy_with = 0
        self._ticket = self._pending_ticket = self._forgotten = 0
        self._queued = False
        """True while `_pending` holds an H for the worker, under `_pending_ticket`. It can be
        older than the newest H, which is not queued if the breaker is open."""
        self._in_flight: RequestInFlight | None = None
        self._owned_by_worker = False
        """True while the worker thread owns the connection. While False, only the caller uses
        the state, without a lock."""
        self._latest: Received | None = None
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._closed = False
        self.outcomes: Counter[Outcome] = Counter()
        """Number of requests by outcome, including those that no rerank waited for."""
        self.replaced = 0
        """Number of H that were replaced by a newer one before they were sent."""
        self.watch: Callable[[Received], None] | None = None
        """Called with every outcome, late ones too, in the thread that read it."""

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
        breaker: Breaker | None = None,
    ) -> "CorrectionLink":
        """A link to the cloud at `url` for the model of `bundle`.

        `form`: `row` (416 B) or `full` (4,160 B), with equal scores; `row-half` and `full-half`
        send H and correction in float16, with scores that agree to three digits. `connect` opens
        sockets in place of plain TCP or TLS. `transport`: `Connection` or `PlainTransport`.
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
        breaker = breaker or Breaker(time.monotonic)
        replies = ReplyInterpreter(wire, bundle.version, layout, connection.address, breaker)
        return cls(connection, wire, replies, timeout)

    def ask(self, hidden: NDArray[np.float32], position: int) -> int:
        """Requests the correction of H (K, D) with the last click at `position`: the ticket."""
        self._ticket = ticket = self._ticket + 1
        if not self._owned_by_worker:
            if self._in_flight is not None:
                self._poll_reply(0.0)  # the answer to an older H may have arrived
            if self._in_flight is None and not self.breaker.open and self._connection.ready():
                self._body[...] = hidden
                if self._send(ticket, position):
                    return ticket
        with self._changed:
            if self.breaker.open:
                self._record(self._replies.paused(ticket))
                return ticket
            self.replaced += self._queued
            self._pending[...] = hidden
            self._position, self._queued, self._pending_ticket = position, True, ticket
            if not self._owned_by_worker:  # set here: the worker may start late
                self._busy_with = self._in_flight.ticket if self._in_flight else 0
            self._hand_over()
        return ticket

    @property
    def takes_calls(self) -> bool:
        """True if a request would be sent now: the link is open and the breaker is closed."""
        return not self._closed and not self.breaker.open

    def open(self) -> None:
        """Connects in the background before the first request; a failure is ignored here."""
        with self._changed:
            self._hand_over()

    def wait(self, ticket: int, deadline_ns: int) -> Received:
        """The outcome of `ticket`; waits until `deadline_ns` at most (`time.perf_counter_ns`).

        `late` if the request is still in flight then, `stale` if it was not sent because an
        earlier one still occupied the connection.
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

    def forget(self) -> None:
        """Drops the H that was not sent yet. Nobody waits for the answer to one that was."""
        with self._changed:
            self._forgotten, self._queued, self._latest = self._ticket, False, None

    def close(self) -> None:
        """Stops the worker thread and closes the connection."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(self._timeout)
        self._connection.close()

    def _send(self, ticket: int, position: int) -> bool:
        """Sends `_body`. Returns False if the worker has to send it instead."""
        try:
            check_hidden(self._body)
            sent = self._connection.send()
        except WireError as error:  # H itself is invalid: it is never sent
            self._record(self._replies.fault(ticket, error))
            return True
        except OSError:  # closed since its last use: the worker reconnects
            return False
        if sent:
            self._in_flight = RequestInFlight(ticket, position, time.monotonic() + self._timeout)
        return sent

    def _poll_reply(self, timeout_s: float) -> None:
        """Reads the answer to `_in_flight` if it comes within `timeout_s`."""
        flight = self._in_flight
        assert flight is not None
        remaining_s = flight.give_up - time.monotonic()
        self._complete(flight, self._receive, timeout_s, remaining_s)

    def _receive(self, timeout_s: float, remaining_s: float) -> Answer | None:
        """None while the request is in flight and in time. Raises like `Connection.receive`."""
        answer = self._connection.receive(min(timeout_s, max(remaining_s, 0.0)))
        if answer is None and timeout_s >= remaining_s:
            self._connection.close()
            raise TimeoutError(f"no answer within {self._timeout:g} s")
        return answer

    def _complete(
        self, flight: RequestInFlight, read: Callable[..., Answer | None], *times: float
    ) -> None:
        """Records the outcome of `flight`, whose answer `read` returns. Called by the owner."""
        try:
            answer = read(*times)
            if answer is None:
                return
        except ClosedIdle:
            self._ask_again(flight)
            return
        except Exception as error:
            received = self._replies.fault(flight.ticket, error)
        else:
            received = self._replies.interpret(flight.ticket, flight.position, answer)
        if not self._owned_by_worker:
            self._in_flight = None
            self._record(received)
            return
        with self._changed:
            self._in_flight = None
            self._record(received)

    def _ask_again(self, flight: RequestInFlight) -> None:
        """Lets the worker resend a request that the cloud did not see: it had closed while idle."""
        with self._changed:
            self._in_flight = None
            self.replaced += self._queued
            if not self._queued and flight.ticket > self._forgotten:  # else a newer H replaces it
                self._pending[...] = self._body
                self._position, self._pending_ticket = flight.position, flight.ticket
                self._queued = True
            self._hand_over()

    def _hand_over(self) -> None:
        """Gives the connection to the worker. Call it with the lock held."""
        self._owned_by_worker = True
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, daemon=True, name="corrections")
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        """The worker: finishes the request in flight, connects, sends queued H, gives back."""
        while True:
            with self._changed:
                while not self._owned_by_worker and not self._closed:
                    self._changed.wait()
                if self._closed:
                    break
                flight = self._in_flight
            if flight is not None:
                timeout_s = max(flight.give_up - time.monotonic(), 1e-3)
                self._complete(flight, self._connection.finish, timeout_s)
            with suppress(Exception):  # the next request meets and counts the same fault
                self._connection.open(self._timeout)
            while (queued := self._next()) is not None:
                received = self._request(*queued)
                with self._changed:
                    self._record(received)

    def _next(self) -> tuple[int, int] | None:
        """Moves the queued H to `_body`; without one, gives the connection back."""
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
        """Counts the outcome and keeps the newest. The worker calls it with the lock held."""
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
            return self._replies.fault(ticket, error)
        return self._replies.interpret(ticket, position, answer)
