"""HTTP/1.1, with a short way for the requests that devices send all day.

A device's request is the same bytes but for H. A head that was read once is known by its bytes:
H then goes straight to the queue, and the answer straight to the socket, without a task, a scope
or a parser. Whatever is not known, whole and well goes the usual way, to the same queue.
"""

import asyncio
import os
import re
import time
from typing import Any, Final, Protocol

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from cloud_service.correction.corrector_cache import Corrector, CorrectorCache
from cloud_service.correction.endpoint import PREFIX, SUFFIX, Observer, timing
from cloud_service.correction.request_head import RequestHead, read_head
from cloud_service.correction.scheduler import (
    CorrectionReply,
    CorrectionScheduler,
    PendingCorrection,
)
from cloud_service.http.admission import Admission, Limits
from cloud_service.http.connection import GuardedProtocol
from cloud_service.http.problem_bytes import header_lines, refusal
from shared.errors import RecommendationError
from shared.manifest import VERSION_PATTERN
from shared.wire import CHECK_HEADER, FORMS

HEAD_LIMIT: Final = 1024
"""A longer head goes the usual way."""
HEADS: Final = 4096
"""Heads remembered; then all are forgotten."""
HOLD_SECONDS: Final = 0.5
"""How long the rest of an H may take before the usual way, which has its own limit, takes over."""
_ANSWER = b"%bserver-timing: %b\r\n" + CHECK_HEADER.encode() + b": %b\r\n%b%b"
_OPENING = b"POST " + PREFIX.encode()
_END = b"\r\n\r\n"
_URL = re.compile((re.escape(PREFIX) + f"({VERSION_PATTERN.strip('^$')})" + SUFFIX).encode())


class Services(Protocol):
    """What of the cloud's services corrections need."""

    @property
    def corrections(self) -> CorrectorCache:
        """The correctors of the versions in use."""

    @property
    def queue(self) -> CorrectionScheduler:
        """Where H waits for its batch."""

    @property
    def metrics(self) -> Observer:
        """Counts corrections."""


class _Plan:
    """What a head asks for, and the answer's head but for what changes."""

    def __init__(
        self, head: bytes, version: str, request: RequestHead, corrector: Corrector
    ) -> None:
        self.head, self.version, self.request = head, version, request
        self.size = len(head) + request.length
        content_type = FORMS[request.form].correction_type.encode()
        opening = b"content-type: %s\r\nmodel-version: %s\r\n" % (
            content_type,
            corrector.version_header,
        )
        self._opening = STATUS_LINE[200] + opening
        self._length = b"content-length: %d\r\n\r\n" % corrector.answer_bytes(request.form)
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_end = b""

    def answer(self, reply: CorrectionReply, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The answer; `headers` are those of every answer, which uvicorn makes anew each second."""
        if headers is not self._headers:
            self._headers, self._head_end = headers, header_lines(headers) + self._length
        check = reply.check.encode()
        return _ANSWER % (self._opening, timing(reply), check, self._head_end, reply.body)


class _Heads:
    """Heads by their bytes."""

    def __init__(self, services: Services, *, short_cut: bool) -> None:
        self._services, self._short_cut = services, short_cut
        self._plans: dict[bytes, _Plan] = {}

    def plan(self, head: bytes) -> _Plan | None:
        """The plan for a head; None: it goes the usual way."""
        return self._plans.get(head) or self._learned(head)

    def _learned(self, head: bytes) -> _Plan | None:
        if not self._short_cut:
            return None
        reader = _HeadReader()
        parser = httptools.HttpRequestParser(reader)
        try:
            parser.feed_data(head)
            request = read_head(reader.headers)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, RecommendationError):
            return None
        url = _URL.fullmatch(reader.url)
        plain = reader.ended_once and not {name for name, _ in reader.headers} & _SPECIAL
        if url is None or not plain or not parser.should_keep_alive():
            return None
        version = url.group(1).decode()
        corrector = self._services.corrections.get(version)
        if corrector is None or request.length != corrector.hidden_bytes(half=request.hidden_half):
            return None
        if len(self._plans) >= HEADS:
            self._plans.clear()
        plan = self._plans[head] = _Plan(head, version, request, corrector)
        return plan


_SPECIAL = {b"expect", b"transfer-encoding", b"upgrade", b"connection"}


class _HeadReader:
    """What llhttp calls back with."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.ended_once = False
        """The head ended, and no body followed: the parser sees its end where we do."""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.ended_once = True

    def on_body(self, data: bytes) -> None:
        self.ended_once = False


class CorrectionProtocol(GuardedProtocol):
    """One connection. At most one H of it is in the queue, which keeps devices even."""

    services: Services
    heads: _Heads

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._plan: _Plan | None = None
        self._size = 0  # of a request like the last, where there is nothing but that to look at
        self._arrived = 0.0
        self._held = b""  # bytes that came too early to be looked at
        self._waiting = False  # an H is in the queue
        self._ending = False
        self._timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Takes bytes: a whole known request the short way, anything else as uvicorn does."""
        plan = self._plan
        if plan is not None and len(data) == self._size and data.startswith(plan.head):
            corrector = self.services.corrections.get(plan.version)
            if corrector is not None:
                self._arrived = time.perf_counter()
                self._ask(plan, corrector, memoryview(data)[len(plan.head) :])
                return
        self._size = 0
        if self._refusal is not None:
            return
        if self._held:
            data, self._held = self._held + data, b""
        if self._waiting or self.flow.write_paused or self.pipeline:
            # One at a time, and none for a device that does not take what it asked for.
            self._hold(data)
        elif self._usual or self._is_busy() or not self._take(data):
            self._go_the_usual_way(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the connection; an answer that is still computed is dropped."""
        self._stop_timer()
        self._held = b""
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """uvicorn: a request of the usual kind has been answered."""
        super().on_response_complete()
        if self.flow.holding:
            self.loop.call_soon(self._look_again)

    def shutdown(self) -> None:
        """Closes once what is in the queue has been answered."""
        if self._waiting:
            self._ending = True
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """The device does not take its answers: it has no more until it does."""
        super().pause_writing()
        self._size = 0

    def resume_writing(self) -> None:
        """The device takes its answers again: so are its requests."""
        super().resume_writing()
        self._look_again()

    def answer(self, reply: CorrectionReply) -> None:
        """From the queue: the correction."""
        plan = self._plan
        assert plan is not None
        self._write(plan.answer(reply, self.server_state.default_headers))
        self.services.metrics.correction(plan.request.form, time.perf_counter() - self._arrived)

    def refuse(self, error: RecommendationError) -> None:
        """From the queue: why there is no correction."""
        lines, document = refusal(error)
        common = header_lines(self.server_state.default_headers)
        length = b"content-length: %d\r\n\r\n" % len(document)
        self._write(b"".join((STATUS_LINE[error.status], lines, common, length, document)))
        self.services.metrics.correction(error.code, time.perf_counter() - self._arrived)

    def _take(self, data: bytes) -> bool:
        """Whether `data` begins a request that goes the short way."""
        if not data.startswith(_OPENING):
            return False
        head_end = data.find(_END, 0, HEAD_LIMIT) + len(_END)
        if head_end < len(_END) or not self._has_place:
            return False
        plan = self.heads.plan(data[:head_end])
        if plan is None or (corrector := self.services.corrections.get(plan.version)) is None:
            return False
        if self._timer is None:
            self._arrived = time.perf_counter()
        if len(data) < plan.size:
            self._held = data
            if self._timer is None:
                self._timer = self.loop.call_later(HOLD_SECONDS, self._give_up)
            return True
        self._stop_timer()
        self._has_request = True
        if len(data) > plan.size:
            self._hold(data[plan.size :])
        self._ask(plan, corrector, memoryview(data)[head_end : plan.size])
        return True

    def _ask(self, plan: _Plan, corrector: Corrector, body: memoryview) -> None:
        self._plan, self._waiting, self._size = plan, True, 0
        arrived, request = self._arrived, plan.request
        self.services.queue.put(
            PendingCorrection(
                self, corrector, request.form, body, arrived, arrived + request.deadline_s
            )
        )

    def _hold(self, data: bytes) -> None:
        """Keeps bytes for later, and lets no more come meanwhile."""
        self._held = data
        self.flow.hold()

    def _give_up(self) -> None:
        data, self._held, self._timer = self._held, b"", None
        self._go_the_usual_way(data)

    def _go_the_usual_way(self, data: bytes) -> None:
        self._stop_timer()
        if unread := self.read(data):
            self._hold(unread)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write(self, answer: bytes) -> None:
        self._waiting = False
        transport = self.transport
        if transport.is_closing():
            return
        self._send(answer)
        self.server_state.total_requests += 1
        if self._ending:
            transport.close()
            return
        self._idle_since = self.loop.time()
        if self.flow.holding:
            self.loop.call_soon(self._look_again)
        elif self._plan is not None and not self.flow.write_paused:
            self._size = self._plan.size

    def _is_busy(self) -> bool:
        return self._waiting or super()._is_busy()

    def _send(self, data: bytes) -> None:
        """Writes at once: uvloop's own write waits for the end of the turn of the loop."""
        if not self.transport.get_write_buffer_size():
            try:
                sent = os.write(self._fd, data)
            except BlockingIOError:
                sent = 0
            except OSError:  # reset: the transport will learn of it by itself
                return
            if sent == len(data):
                return
            data = data[sent:]
        self.transport.write(data)

    def _look_again(self) -> None:
        """Goes on with what was held; reads again once that is not a whole request any more."""
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
    """The protocol of a server with these services and limits.

    Without `short_cut`, corrections go the usual way: parser, ASGI, endpoint.
    """

    class Bound(CorrectionProtocol):
        pass

    Bound.services, Bound.heads = services, _Heads(services, short_cut=short_cut)
    Bound.admission = Admission(limits)
    return Bound
