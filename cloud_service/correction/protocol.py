"""The server's HTTP/1.1 protocol, with a short cut for correction requests.

A request whose head is known by its bytes (`known_heads.py`) goes straight to the scheduler, and
its response straight to the socket: without a task, an ASGI scope or a parser. Every other request
takes the general route (llhttp, ASGI, `endpoint.py`), which ends in the same scheduler.
"""

import asyncio
import os
import time
from typing import Any, Final, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from cloud_service.correction.corrector_cache import Corrector, CorrectorCache
from cloud_service.correction.endpoint import PREFIX, Observer
from cloud_service.correction.known_heads import KnownHead, KnownHeads
from cloud_service.correction.scheduler import (
    CorrectionReply,
    CorrectionScheduler,
    PendingCorrection,
)
from cloud_service.http.admission import Admission, Limits
from cloud_service.http.connection import GuardedProtocol
from cloud_service.http.problem_bytes import header_lines, refusal
from shared.errors import RecommendationError

HEAD_LIMIT: Final = 1024
"""Longest head in bytes that takes the short cut."""
HOLD_SECONDS: Final = 0.5
"""Longest time to wait for the rest of an H before the general route takes over the request."""
_OPENING = b"POST " + PREFIX.encode()
_END = b"\r\n\r\n"


class Services(Protocol):
    """The services that the protocol needs."""

    @property
    def correctors(self) -> CorrectorCache:
        """The correctors of the versions in use."""

    @property
    def scheduler(self) -> CorrectionScheduler:
        """Batches and computes corrections."""

    @property
    def metrics(self) -> Observer:
        """Counts corrections."""


class CorrectionProtocol(GuardedProtocol):
    """One connection. It has at most one H in the scheduler, which keeps devices equal."""

    services: Services
    heads: KnownHeads

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._known_head: KnownHead | None = None
        self._size = 0  # of a request like the last one; 0 if a request must be examined
        self._arrived = 0.0
        self._held = b""  # bytes that arrived before their turn
        self._waiting = False  # an H is in the scheduler
        self._ending = False
        self._timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes arrived. A complete request with a known head takes the short cut."""
        known_head = self._known_head
        if known_head is not None and len(data) == self._size and data.startswith(known_head.head):
            corrector = self.services.correctors.get(known_head.version)
            if corrector is not None:
                self._arrived = time.perf_counter()
                self._ask(known_head, corrector, memoryview(data)[len(known_head.head) :])
                return
        self._size = 0
        if self._refusal is not None:
            return
        if self._held:
            data, self._held = self._held + data, b""
        if self._waiting or self.flow.write_paused or self.pipeline:
            # One request at a time, and none while the device does not read its responses.
            self._hold(data)
        elif self._is_parsing or self._is_busy() or not self._take(data):
            self._take_general_route(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection has ended. A correction that is still computed is dropped."""
        self._stop_timer()
        self._held = b""
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """uvicorn: the response of the general route is complete."""
        super().on_response_complete()
        if self.flow.holding:
            self.loop.call_soon(self._look_again)

    def shutdown(self) -> None:
        """uvicorn: closes the connection, after the response to an H in the scheduler."""
        if self._waiting:
            self._ending = True
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """asyncio: the write buffer is full. Handles no more requests until it drains."""
        super().pause_writing()
        self._size = 0

    def resume_writing(self) -> None:
        """asyncio: the write buffer has drained. Handles requests again."""
        super().resume_writing()
        self._look_again()

    def answer(self, reply: CorrectionReply) -> None:
        """Scheduler: sends the correction."""
        known_head = self._known_head
        assert known_head is not None
        self._write(known_head.response(reply, self.server_state.default_headers))
        self.services.metrics.correction(
            known_head.request.form, time.perf_counter() - self._arrived
        )

    def refuse(self, error: RecommendationError) -> None:
        """Scheduler: sends a problem document."""
        lines, document = refusal(error)
        common = header_lines(self.server_state.default_headers)
        length = b"content-length: %d\r\n\r\n" % len(document)
        self._write(b"".join((STATUS_LINE[error.status], lines, common, length, document)))
        self.services.metrics.correction(error.code, time.perf_counter() - self._arrived)

    def _take(self, data: bytes) -> bool:
        """Takes a request by the short cut; returns False if it must take the general route."""
        if not data.startswith(_OPENING):
            return False
        head_end = data.find(_END, 0, HEAD_LIMIT) + len(_END)
        if head_end < len(_END) or not self._has_place:
            return False
        known_head = self.heads.find(data[:head_end])
        if (
            known_head is None
            or (corrector := self.services.correctors.get(known_head.version)) is None
        ):
            return False
        if self._timer is None:
            self._arrived = time.perf_counter()
        if len(data) < known_head.size:
            self._held = data
            if self._timer is None:
                self._timer = self.loop.call_later(HOLD_SECONDS, self._give_up)
            return True
        self._stop_timer()
        self._has_request = True
        if len(data) > known_head.size:
            self._hold(data[known_head.size :])
        self._ask(known_head, corrector, memoryview(data)[head_end : known_head.size])
        return True

    def _ask(self, known_head: KnownHead, corrector: Corrector, body: memoryview) -> None:
        self._known_head, self._waiting, self._size = known_head, True, 0
        arrived, request = self._arrived, known_head.request
        self.services.scheduler.put(
            PendingCorrection(
                self, corrector, request.form, body, arrived, arrived + request.deadline_s
            )
        )

    def _hold(self, data: bytes) -> None:
        """Keeps bytes for later and stops reading."""
        self._held = data
        self.flow.hold()

    def _give_up(self) -> None:
        data, self._held, self._timer = self._held, b"", None
        self._take_general_route(data)

    def _take_general_route(self, data: bytes) -> None:
        self._stop_timer()
        if unread := self.read(data):
            self._hold(unread)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write(self, response: bytes) -> None:
        self._waiting = False
        transport = self.transport
        if transport.is_closing():
            return
        self._send(response)
        self.server_state.total_requests += 1
        if self._ending:
            transport.close()
            return
        self._idle_since = self.loop.time()
        if self.flow.holding:
            self.loop.call_soon(self._look_again)
        elif self._known_head is not None and not self.flow.write_paused:
            self._size = self._known_head.size

    def _is_busy(self) -> bool:
        return self._waiting or super()._is_busy()

    def _send(self, data: bytes) -> None:
        """Writes immediately: the write of uvloop waits for the end of the turn of the loop."""
        if not self.transport.get_write_buffer_size():
            try:
                sent = os.write(self._fd, data)
            except BlockingIOError:
                sent = 0
            except OSError:  # reset: the transport notices it by itself
                return
            if sent == len(data):
                return
            data = data[sent:]
        self.transport.write(data)

    def _look_again(self) -> None:
        """Handles the held bytes; resumes reading once they hold no complete request."""
        if self.transport.is_closing() or self.flow.write_paused or self._waiting:
            return
        if self._held:
            self.data_received(b"")
        settled = not self._held or self._timer is not None
        closed = self._refusal is not None or self.transport.is_closing()
        if self.flow.holding and settled and not self._waiting and not closed:
            self.flow.release()


def correction_protocol(
    services: Services, limits: Limits, *, short_cut: bool = True
) -> type[CorrectionProtocol]:
    """Returns the protocol class for a server with these services and limits.

    Without `short_cut`, corrections take the general route: llhttp, ASGI, endpoint.
    """

    class Bound(CorrectionProtocol):
        pass

    Bound.services = services
    Bound.heads = KnownHeads(services.correctors, short_cut=short_cut)
    Bound.admission = Admission(limits)
    return Bound
