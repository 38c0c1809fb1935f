"""uvicorn's HTTP/1.1 within limits: of a request's head, of time, of connections.

llhttp reads strictly (no folded lines, no bare line feeds, one length), but gathers a head of any
size, never looks at a clock, and takes what follows `Upgrade` for another protocol.
"""

import array
import asyncio
import fcntl
import termios
from contextlib import suppress
from typing import Any, Final

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from cloud_service.http.admission import (
    BODY_GRACE_SECONDS,
    LEAST_BYTES_A_SECOND,
    RESERVE_SECONDS,
    RESERVED_PATHS,
    SWEEP_SECONDS,
    Admission,
)
from cloud_service.http.problem_bytes import header_lines, refusal
from cloud_service.http.problems import (
    BadHTTP,
    HeadTooLarge,
    RequestTimeout,
    TooManyConnections,
    problem,
)
from shared.errors import RecommendationError

SLICE: Final = 2048
"""Bytes given to the parser at once: between two slices one can stop."""
_NOT_PASSED_ON: Final = frozenset({b"upgrade", b"connection", b"http2-settings"})


class Flow(FlowControl):
    """Reading that rests while uvicorn or we want it to."""

    holding = False

    def resume_reading(self) -> None:
        """Reads again, unless bytes are held that came too early."""
        if not self.holding:
            super().resume_reading()

    def hold(self) -> None:
        """Reads no more until `release`."""
        self.holding = True
        self.pause_reading()

    def release(self) -> None:
        """Reads again."""
        self.holding = False
        self.resume_reading()


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    admission: Admission
    flow: Flow

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.limits = self.admission.limits
        self.limit_concurrency = None  # places are given when a connection begins
        self.due = self._since = 0.0
        self._has_place = True
        self._usual = False  # a message is being parsed
        self._in_head = self._has_request = False
        self._head_bytes = self._head_lines = self._framing = self._unsent = 0
        self._wishes_upgrade = False
        self._idle_since = 0.0
        self._answered: Any = None
        """The request whose turn it is; uvicorn's `cycle` is the last that has come."""
        self._refusal: RecommendationError | None = None
        """Why nothing more is read of this connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection begins."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self.flow = Flow(self.transport)
        self._fd: int = transport.get_extra_info("socket").fileno()
        self._has_place = self.admission.enter(self, self.loop)
        self._since = self.loop.time()
        self.due = min(self._deadline(), self._since + self.limits.idle_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the connection."""
        self.admission.leave(self)
        self.pipeline.clear()
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)

    def read(self, data: bytes) -> bytes:
        """Parses; gives back what is to be parsed once the requests before it are answered."""
        view = memoryview(data)
        for start in range(0, len(data), SLICE):
            piece = view[start : start + SLICE]
            self._framing += len(piece)
            self._parse(piece)
            if self._refusal is None and self._usual and self._framing > self.limits.head_bytes:
                self.refuse_the_rest(self._head_too_large())
            if self._refusal is not None or self.transport.is_closing():
                return b""
            if self.pipeline:
                return data[start + SLICE :]
        return b""

    def _parse(self, data: memoryview | bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            self._parse_without_upgrade(data[stopped.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__
            is_too_large = isinstance(cause, HeadTooLarge)
            self.refuse_the_rest(cause if is_too_large else BadHTTP("what came is not HTTP/1.1"))  # type: ignore[arg-type]

    def _parse_without_upgrade(self, data: memoryview | bytes) -> None:
        """Another protocol is not spoken here, and that may be ignored: what follows the head is
        the request's body. After the answer the connection is closed, so that nobody who reads
        it otherwise can put a second request there."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self.refuse_the_rest(BadHTTP("this is no proxy: CONNECT leads nowhere"))
            return
        lines = [header for header in self.headers if header[0] not in _NOT_PASSED_ON]
        opening = b"%b %b HTTP/%b\r\n" % (method, self.url, self.parser.get_http_version().encode())
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._parse(opening + header_lines([*lines, (b"connection", b"close")]) + b"\r\n")
        if data and self._refusal is None:
            self._parse(data)

    def on_message_begin(self) -> None:
        """llhttp: a request begins."""
        self._usual = self._in_head = True
        self._head_bytes = self._head_lines = self._framing = 0
        self._wishes_upgrade = False
        if self._has_request:  # the first has its time from the connection's beginning
            self._since = self.loop.time()
            self.due = self._deadline()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """llhttp: a piece of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """llhttp: a line of the head, or a trailer."""
        self._head_lines += 1
        self._count(len(name) + len(value) + len(b": \r\n"))
        if name.lower() == b"upgrade":
            self._wishes_upgrade = True
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """llhttp: the head has ended."""
        if self.parser.should_upgrade():
            return  # read again, without
        self._in_head = False
        self._since = self.loop.time()
        self.due = self._deadline()
        super().on_headers_complete()
        if self._wishes_upgrade:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """llhttp: a piece of the body."""
        self._framing = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """llhttp: the request has ended."""
        if self.parser.should_upgrade():
            return
        self._usual, self._has_request = False, True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """uvicorn: a request has been answered; the next begins, or is waited for."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._wait_for_the_client()
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal is not None:
            self._say_refusal()
        else:
            self._idle_since = self.loop.time()
            self.due = self._deadline()

    def pause_writing(self) -> None:
        """The client does not take its answers."""
        super().pause_writing()
        self._wait_for_the_client()

    def look(self, clock_s: float) -> None:
        """From the admission: closes the connection where it is late."""
        transport = self.transport
        unsent = self._still_unsent()
        if unsent and (self.flow.write_paused or transport.is_closing()):
            least = self.limits.write_seconds * LEAST_BYTES_A_SECOND
            if unsent > self._unsent - least:
                transport.abort()
            self._wait_for_the_client()
            return
        self.due = self._deadline()
        if self.due <= clock_s and not transport.is_closing():
            self._close_late()

    def abort(self) -> None:
        """From the admission: ends the connection."""
        self.transport.abort()

    def refuse_the_rest(self, error: RecommendationError) -> None:
        """Reads no more; says why, after the answers to what came before, and closes."""
        self._refusal = error
        self.flow.hold()
        if self._usual and not self._in_head:  # the body of a request that is being answered
            if not self.pipeline:
                self._say_refusal()
                return
            self.pipeline.popleft()
        elif not self._is_busy():
            self._say_refusal()

    def _say_refusal(self) -> None:
        assert self._refusal is not None
        cycle = self.cycle
        begun = cycle is not None and cycle.response_started and not cycle.response_complete
        if not begun and not self.transport.is_closing():
            self.transport.write(self._refusal_bytes(self._refusal))
        self.transport.close()
        self._wait_for_the_client()

    def _refusal_bytes(self, error: RecommendationError) -> bytes:
        lines, document = refusal(error)
        common = header_lines(self.server_state.default_headers)
        # RequestTimeout closes by itself.
        close = b"" if b"connection: close" in lines else b"connection: close\r\n"
        length = b"content-length: %d\r\n\r\n" % len(document)
        return b"".join((STATUS_LINE[error.status], lines, common, close, length, document))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """uvicorn: a request's turn to be answered."""
        if not self._has_place:
            cycle.keep_alive = False
            reads = cycle.scope["method"] in ("GET", "HEAD")
            if not reads or cycle.scope["path"] not in RESERVED_PATHS:
                app = _one_too_many
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _deadline(self) -> float:
        """When the client is late with what is waited for, unless something is done for it."""
        limits = self.limits
        if self._usual and not self._in_head:
            if self.pipeline:  # held until it is its turn
                return self.loop.time() + SWEEP_SECONDS
            seconds = limits.body_seconds + BODY_GRACE_SECONDS
        elif self._is_busy():
            return self.loop.time() + SWEEP_SECONDS
        elif self._usual or not self._has_request:
            seconds = limits.head_seconds
        else:
            return self._idle_since + limits.idle_seconds
        return self._since + (seconds if self._has_place else min(seconds, RESERVE_SECONDS))

    def _close_late(self) -> None:
        if self._usual and self._in_head:
            self.refuse_the_rest(
                RequestTimeout(f"a request's head has {self.limits.head_seconds:g} s to arrive")
            )
        else:
            self.transport.close()
            self._wait_for_the_client()

    def _wait_for_the_client(self) -> None:
        """From now on it has so long to take some of what was written."""
        self._unsent = self._still_unsent()
        self.due = self.loop.time() + self.limits.write_seconds

    def _still_unsent(self) -> int:
        """Bytes that the client has not taken, the system's among them; 0 where only the system
        has any. The system tells that it has room when megabytes have gone, which may take a slow
        client a minute."""
        ours = self.transport.get_write_buffer_size()
        if not ours:
            return 0
        systems = array.array("i", [0])
        with suppress(OSError):  # a system that does not tell
            fcntl.ioctl(self._fd, termios.TIOCOUTQ, systems)
        return ours + systems[0]

    def _count(self, size: int) -> None:
        self._head_bytes += size
        limits = self.limits
        if self._head_bytes > limits.head_bytes or self._head_lines > limits.head_lines:
            raise self._head_too_large()

    def _head_too_large(self) -> HeadTooLarge:
        return HeadTooLarge(
            f"a request's head has at most {self.limits.head_bytes:,} bytes and "
            f"{self.limits.head_lines} lines: send less, or raise CLOUD_MAX_HEAD_BYTES"
        )


async def _one_too_many(scope: Any, receive: Any, send: Any) -> None:
    error = TooManyConnections("CLOUD_MAX_CONNECTIONS are open: ask again in a second")
    await problem(error, {"retry-after": "1", "connection": "close"})(scope, receive, send)
