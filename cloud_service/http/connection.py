"""uvicorn's HTTP/1.1 protocol with limits: size of a head, time, number of connections.

llhttp parses strictly (no folded lines, no bare line feeds, one Content-Length). But it accepts a
head of any size, has no time limits, and treats what follows `Upgrade` as another protocol.
"""

import asyncio
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from cloud_service.http.admission import (
    BODY_GRACE_SECONDS,
    LEAST_BYTES_A_SECOND,
    RESERVE_SECONDS,
    RESERVED_PATHS,
    SWEEP_SECONDS,
    Admission,
)
from cloud_service.http.flow import Flow, unsent_bytes
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
"""Bytes that llhttp gets in one call: parsing can stop only between two calls."""
_UPGRADE_HEADERS: Final = frozenset({b"upgrade", b"connection", b"http2-settings"})


class GuardedProtocol(HttpToolsProtocol):
    """One connection, within the limits of `Admission`."""

    admission: Admission
    flow: Flow

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.limits = self.admission.limits
        self.limit_concurrency = None  # Admission limits connections when they begin
        self.due = self._since = 0.0
        self._has_place = True
        self._is_parsing = False  # a request has begun and not ended
        self._in_head = self._has_request = False
        self._head_bytes = self._head_lines = self._framing = self._unsent = 0
        self._wants_upgrade = False
        self._idle_since = 0.0
        self._answered_cycle: Any = None
        """The request that is answered now; uvicorn's `cycle` is the last one that arrived."""
        self._refusal: RecommendationError | None = None
        """The error after which this connection reads nothing more."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection begins."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self.flow = Flow(self.transport)
        self._fd: int = transport.get_extra_info("socket").fileno()
        self._has_place = self.admission.enter(self, self.loop)
        self._since = self.loop.time()
        self.due = min(self._deadline(), self._since + self.limits.idle_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection has ended."""
        self.admission.leave(self)
        self.pipeline.clear()
        if self._answered_cycle is not None and not self._answered_cycle.response_complete:
            self._answered_cycle.disconnected = True
            self._answered_cycle.message_event.set()
        super().connection_lost(exc)

    def read(self, data: bytes) -> bytes:
        """Parses bytes; returns those to parse after the earlier requests have been answered."""
        view = memoryview(data)
        for start in range(0, len(data), SLICE):
            chunk = view[start : start + SLICE]
            self._framing += len(chunk)
            self._parse(chunk)
            if (
                self._refusal is None
                and self._is_parsing
                and self._framing > self.limits.head_bytes
            ):
                self.refuse_further(self._head_too_large())
            if self._refusal is not None or self.transport.is_closing():
                return b""
            if self.pipeline:
                return data[start + SLICE :]
        return b""

    def _parse(self, data: memoryview | bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parse_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__
            is_too_large = isinstance(cause, HeadTooLarge)
            self.refuse_further(cause if is_too_large else BadHTTP("what came is not HTTP/1.1"))  # type: ignore[arg-type]

    def _parse_without_upgrade(self, data: memoryview | bytes) -> None:
        """Parses a request again without its `Upgrade`, which a server may ignore (RFC 9110, 7.8).

        What follows the head is then the body. The connection is closed after the response, so
        that a proxy that reads those bytes differently cannot smuggle in a second request.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self.refuse_further(BadHTTP("this is no proxy: CONNECT leads nowhere"))
            return
        lines = [header for header in self.headers if header[0] not in _UPGRADE_HEADERS]
        opening = b"%b %b HTTP/%b\r\n" % (method, self.url, self.parser.get_http_version().encode())
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._parse(opening + header_lines([*lines, (b"connection", b"close")]) + b"\r\n")
        if data and self._refusal is None:
            self._parse(data)

    def on_message_begin(self) -> None:
        """llhttp: a request begins."""
        self._is_parsing = self._in_head = True
        self._head_bytes = self._head_lines = self._framing = 0
        self._wants_upgrade = False
        if self._has_request:  # the time of the first request begins with the connection
            self._since = self.loop.time()
            self.due = self._deadline()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """llhttp: a part of the URL."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """llhttp: a header line or a trailer."""
        self._head_lines += 1
        self._count(len(name) + len(value) + len(b": \r\n"))
        if name.lower() == b"upgrade":
            self._wants_upgrade = True
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """llhttp: the head has ended."""
        if self.parser.should_upgrade():
            return  # `_parse_without_upgrade` parses it again
        self._in_head = False
        self._since = self.loop.time()
        self.due = self._deadline()
        super().on_headers_complete()
        if self._wants_upgrade:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """llhttp: a part of the body."""
        self._framing = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """llhttp: the request has ended."""
        if self.parser.should_upgrade():
            return
        self._is_parsing, self._has_request = False, True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """uvicorn: a response is complete. Begins the next request, or waits for one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._await_client()
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal is not None:
            self._send_refusal()
        else:
            self._idle_since = self.loop.time()
            self.due = self._deadline()

    def pause_writing(self) -> None:
        """asyncio: the write buffer is full."""
        super().pause_writing()
        self._await_client()

    def check(self, now_s: float) -> None:
        """Admission: closes the connection if the client is late."""
        transport = self.transport
        unsent = unsent_bytes(self.transport, self._fd)
        if unsent and (self.flow.write_paused or transport.is_closing()):
            least = self.limits.write_seconds * LEAST_BYTES_A_SECOND
            if unsent > self._unsent - least:
                transport.abort()
            self._await_client()
            return
        self.due = self._deadline()
        if self.due <= now_s and not transport.is_closing():
            self._close_late()

    def abort(self) -> None:
        """Admission: ends the connection."""
        self.transport.abort()

    def refuse_further(self, error: RecommendationError) -> None:
        """Stops reading, sends the error after the responses to earlier requests, and closes."""
        self._refusal = error
        self.flow.hold()
        if (
            self._is_parsing and not self._in_head
        ):  # in the body of a request that is being answered
            if not self.pipeline:
                self._send_refusal()
                return
            self.pipeline.popleft()
        elif not self._is_busy():
            self._send_refusal()

    def _send_refusal(self) -> None:
        assert self._refusal is not None
        cycle = self.cycle
        begun = cycle is not None and cycle.response_started and not cycle.response_complete
        if not begun and not self.transport.is_closing():
            self.transport.write(self._refusal_bytes(self._refusal))
        self.transport.close()
        self._await_client()

    def _refusal_bytes(self, error: RecommendationError) -> bytes:
        lines, document = refusal(error)
        common = header_lines(self.server_state.default_headers)
        # The headers of RequestTimeout already say so.
        close = b"" if b"connection: close" in lines else b"connection: close\r\n"
        length = b"content-length: %d\r\n\r\n" % len(document)
        return b"".join((STATUS_LINE[error.status], lines, common, close, length, document))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """uvicorn: begins to answer a request."""
        if not self._has_place:
            cycle.keep_alive = False
            is_read = cycle.scope["method"] in ("GET", "HEAD")
            if not is_read or cycle.scope["path"] not in RESERVED_PATHS:
                app = _too_many_connections
        self._answered_cycle = cycle
        super()._start_asgi_task(cycle, app)

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _deadline(self) -> float:
        """Returns the time at which the client is late. While a request is being answered, this is
        only the time of the next check."""
        limits = self.limits
        if self._is_parsing and not self._in_head:
            if self.pipeline:  # the request waits for its turn
                return self.loop.time() + SWEEP_SECONDS
            seconds = limits.body_seconds + BODY_GRACE_SECONDS
        elif self._is_busy():
            return self.loop.time() + SWEEP_SECONDS
        elif self._is_parsing or not self._has_request:
            seconds = limits.head_seconds
        else:
            return self._idle_since + limits.idle_seconds
        return self._since + (seconds if self._has_place else min(seconds, RESERVE_SECONDS))

    def _close_late(self) -> None:
        if self._is_parsing and self._in_head:
            self.refuse_further(
                RequestTimeout(f"a request's head has {self.limits.head_seconds:g} s to arrive")
            )
        else:
            self.transport.close()
            self._await_client()

    def _await_client(self) -> None:
        """Gives the client `write_seconds` from now to receive some of what was written."""
        self._unsent = unsent_bytes(self.transport, self._fd)
        self.due = self.loop.time() + self.limits.write_seconds

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


async def _too_many_connections(scope: Any, receive: Any, send: Any) -> None:
    error = TooManyConnections("CLOUD_MAX_CONNECTIONS are open: ask again in a second")
    await problem(error, {"retry-after": "1", "connection": "close"})(scope, receive, send)
