"""One persistent HTTP/1.1 connection that asks for corrections and nothing else.

The request is the same bytes but for H, so it is built once; the answer is read into one buffer,
compared with the last one, and parsed by llhttp (httptools) where it differs. General HTTP clients
cost more here than the model does (docs/decisions.md), and this path does nothing they are needed
for.
"""

import select
import socket
import ssl
import time
from dataclasses import dataclass
from http import HTTPStatus

import httptools

from device_client.correction.sockets import Connect, SocketLike, address_of, tcp_connect
from shared.wire import (
    CHECK_HEADER,
    DEADLINE_HEADER,
    VERSION_HEADER,
    Layout,
    check_of,
    correction_path,
)

HEAD_LIMIT = 16 * 1024
"""Bytes of answer head after which a server is not one of ours."""
ERROR_BODY_LIMIT = 64 * 1024
TIMING_MARK = b"\r\nserver-timing: "
CHECK_MARK = b"\r\n" + CHECK_HEADER.encode() + b": "
CHECK_DIGITS = 8
TLS_ALERT = b"\x15"
"""The first byte of what a TLS server says to plain HTTP."""
SELECT_LIMIT = 1024
"""`select` takes no descriptor from here on."""


class BadAnswer(Exception):
    """The bytes that came back are not an HTTP answer of the size expected."""


class ClosedIdle(ConnectionResetError):
    """The server closed a kept connection before it saw the request: it may be sent again."""


@dataclass(slots=True)
class Answer:
    """One answer, and when its parts came (`time.perf_counter_ns`)."""

    status: int
    body: bytes
    content_type: str
    version: str
    server_timing: str
    retry_after: str
    check: str = ""
    """Correction-Check; empty where there was none."""
    sent_ns: int = 0
    uploaded_ns: int = 0
    first_byte_ns: int = 0
    received_ns: int = 0


class Connection:
    """Asks one model version's corrections, one at a time, on a connection that is kept.

    Two ways to use it. `exchange` does all and may block: for a thread of its own. `ready`, `send`
    and `receive` are the same in steps and never block longer than told: for whoever ranks.
    """

    def __init__(
        self,
        url: str,
        version: str,
        layout: Layout,
        body_bytes: int,
        connect: Connect | None = None,
        *,
        body_limit: int = ERROR_BODY_LIMIT,
        deadline_ms: int | None = None,
    ) -> None:
        """`body_limit`: bytes of an answer's body at most. `deadline_ms`: after it the cloud need
        not answer any more."""
        self.address = address = address_of(url)
        """Where the cloud is."""
        deadline = "" if deadline_ms is None else f"{DEADLINE_HEADER}: {deadline_ms}\r\n"
        head = (
            f"POST {address.path}{correction_path(version)} HTTP/1.1\r\n"
            f"Host: {address.header}\r\nAccept: {layout.correction_type}\r\n{deadline}"
            f"Content-Type: {layout.hidden_type}\r\nContent-Length: {body_bytes}\r\n\r\n"
        ).encode("ascii")
        self._request = bytearray(head + bytes(body_bytes))
        self.body = memoryview(self._request)[len(head) :]
        """Where H goes before it is sent."""
        self._connect = connect or tcp_connect(url)
        self._secure, self._limit = address.secure, body_limit
        self._socket: SocketLike | None = None
        self._plain: socket.socket | None = None
        self._poll = select.poll()
        self._fd = -1
        self._waits = True
        """Whether calls on the socket may wait: `send` and `receive` see to it that none does."""
        self._has_answered = False
        """Whether the connection has carried an answer: then it may have been closed since."""
        self._reading = _Reading(body_limit)
        self.sent_ns = self.uploaded_ns = 0

    def open(self, timeout_s: float) -> None:
        """Connects if it is not connected. Raises OSError."""
        if self._socket is None:
            self._socket = self._connect(timeout_s)
            self._plain = self._socket if isinstance(self._socket, socket.socket) else None
            self._fd, self._poll = self._socket.fileno(), select.poll()
            self._poll.register(self._fd, select.POLLIN)
            self._has_answered, self._waits = False, True

    def ready(self) -> bool:
        """Whether `send` can be called: connected by a real socket, which nothing has come on."""
        if self._plain is None:
            return False
        if self._unusable():
            self.close()
            return False
        return True

    def send(self) -> bool:
        """Sends the request with `body`; False where the socket does not take it whole, which
        closes the connection. Raises OSError."""
        sock = self._plain
        assert sock is not None
        self._begin()
        if self._waits:
            sock.settimeout(0.0)
            self._waits = False
        try:
            sent_whole = sock.send(self._request) == len(self._request)
        except (BlockingIOError, ssl.SSLWantWriteError):
            sent_whole = False
        except BaseException:
            self.close()
            raise
        self.uploaded_ns = time.perf_counter_ns()
        if not sent_whole:
            self.close()
        return sent_whole

    def receive(self, timeout_s: float) -> Answer | None:
        """The answer to what `send` sent; None if it is not whole within `timeout_s` (0: now).

        Raises ClosedIdle where the server had closed the connection before it saw the request,
        OSError where it is out of reach, BadAnswer where what came is not an answer. All of them
        close the connection.
        """
        sock = self._plain
        if sock is None:
            raise ConnectionResetError("the connection is closed")
        remaining_s, deadline = timeout_s, time.perf_counter() + timeout_s
        wait = (
            remaining_s > 0 and not self._secure
        )  # TLS may hold bytes that the socket does not show
        try:
            while True:
                if wait:
                    _wait_readable(self._fd, remaining_s)
                try:
                    answer = self._take(sock.recv_into(self._reading.buffer))
                    if answer is not None:
                        return answer
                except (BlockingIOError, ssl.SSLWantReadError):
                    pass
                remaining_s, wait = deadline - time.perf_counter(), True
                if remaining_s <= 0:
                    return None
        except BaseException as error:
            self._lose(error)
            raise

    def exchange(self, timeout_s: float) -> Answer:
        """Sends the request with `body` and reads the answer.

        Raises TimeoutError after `timeout_s` in all, OSError where the cloud is out of reach,
        BadAnswer where what came back is not HTTP, or its body is over the limit.
        """
        deadline = time.monotonic() + timeout_s
        if self._socket is not None and self._unusable():
            self.close()
        try:
            return self._once(deadline)
        except ClosedIdle:  # no failure of its own: ask again, on a new connection
            return self._once(deadline)

    def finish(self, timeout_s: float) -> Answer:
        """Like `exchange`, for a request that `send` has sent."""
        if self._socket is None:
            raise ConnectionResetError("the connection is closed")
        return self._read(time.monotonic() + timeout_s)

    def close(self) -> None:
        """Closes the connection; the next exchange opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = self._plain = None

    def _once(self, deadline: float) -> Answer:
        self.open(_remaining_s(deadline))
        sock = self._socket
        assert sock is not None
        self._begin()
        try:
            self._wait_until(deadline, sock)
            sock.sendall(self._request)
        except BaseException as error:
            self._lose(error)
            raise
        self.uploaded_ns = time.perf_counter_ns()
        return self._read(deadline)

    def _read(self, deadline: float) -> Answer:
        sock = self._socket
        assert sock is not None
        try:
            while True:
                self._wait_until(deadline, sock)
                answer = self._take(sock.recv_into(self._reading.buffer))
                if answer is not None:
                    return answer
        except BaseException as error:
            self._lose(error)
            raise

    def _wait_until(self, deadline: float, sock: SocketLike) -> None:
        """Lets the next call on the socket wait so long. Raises TimeoutError."""
        self._waits = True
        sock.settimeout(_remaining_s(deadline))

    def _begin(self) -> None:
        self._reading.begin()
        self.sent_ns = time.perf_counter_ns()

    def _take(self, count: int) -> Answer | None:
        """The answer, if these bytes make it whole."""
        if not count:
            raise ConnectionResetError("the cloud closed the connection")
        parsed = self._reading.take(count)
        if parsed is None:
            return None
        answer, keep_alive = parsed
        if answer.check and answer.check != check_of(self.body, answer.body):
            raise BadAnswer("the answer is for another H, or not as it was sent")
        answer.sent_ns, answer.uploaded_ns = self.sent_ns, self.uploaded_ns
        self._has_answered = True
        if not keep_alive:
            self.close()
        return answer

    def _lose(self, error: BaseException) -> None:
        """Closes. Raises ClosedIdle where that is what `error` means for this request."""
        idle = (
            self._has_answered and not self._reading.received and isinstance(error, ConnectionError)
        )
        self.close()
        if idle:
            raise ClosedIdle("the cloud had closed the connection") from error

    def _unusable(self) -> bool:
        """Closed while idle, or it holds bytes nobody asked for: no answer to the next request.

        Under TLS, session tickets make a healthy socket readable.
        """
        return not self._secure and bool(self._poll.poll(0))


class _Reading:
    """Reads one answer after another into one buffer.

    All good answers of a connection have the same head but for its times, so one that came whole
    is compared with the last; only what differs goes through llhttp.
    """

    def __init__(self, body_limit: int) -> None:
        self.buffer = bytearray(HEAD_LIMIT)
        self.received = self._first_ns = 0
        self._limit = body_limit
        self._callbacks: _Callbacks | None = None
        self._template: _LastAnswer | None = None

    def begin(self) -> None:
        """Another answer will come."""
        self.received = self._first_ns = 0
        self._callbacks = None

    def take(self, count: int) -> tuple[Answer, bool] | None:
        """The answer and whether the connection stays, if the `count` bytes now in the buffer
        make it whole. Raises BadAnswer."""
        alone = not self.received
        self.received += count
        if alone:
            self._first_ns = time.perf_counter_ns()
            if self._template is not None and self._template.is_like(self.buffer, count):
                return self._template.answer(self.buffer, count, self._first_ns), True
        if self._callbacks is None:
            self._callbacks = _Callbacks(self._limit)
        parsed = self._callbacks
        parsed.feed(memoryview(self.buffer)[:count], self.received)
        if not parsed.complete:
            return None
        answer = parsed.answer(self._first_ns)
        if alone and parsed.plain and answer.status == HTTPStatus.OK:
            self._template = _LastAnswer(bytes(self.buffer[:count]), answer)
        return answer, parsed.keep_alive


class _LastAnswer:
    """An answer that came whole: the next is like it but for Server-Timing and the body."""

    def __init__(self, raw: bytes, answer: Answer) -> None:
        self._size, self._body = len(raw), len(raw) - len(answer.body)
        self._like = answer
        mark = raw.lower().find(TIMING_MARK, 0, self._body)
        self._from = mark + len(TIMING_MARK) if mark >= 0 else self._body
        self._to = raw.find(b"\r\n", self._from) if mark >= 0 else self._body
        self._between = raw[self._to : self._to + len(CHECK_MARK)]
        self._check = self._to + len(CHECK_MARK)
        self._checked = self._between.lower() == CHECK_MARK and self._check < self._body
        rest_start = self._check + CHECK_DIGITS if self._checked else self._to
        self._rest, self._before, self._after = (
            rest_start,
            raw[: self._from],
            raw[rest_start : self._body],
        )

    def is_like(self, buffer: bytearray, count: int) -> bool:
        """Whether the answer in `buffer` has the same head but for its times."""
        return (
            count == self._size
            and buffer.startswith(self._after, self._rest)
            and buffer.startswith(self._before)
            and (not self._checked or buffer.startswith(self._between, self._to))
        )

    def answer(self, buffer: bytearray, count: int, first_ns: int) -> Answer:
        """That answer."""
        like = self._like
        timing = buffer[self._from : self._to].decode("latin-1")
        body = bytes(memoryview(buffer)[self._body : count])
        check = buffer[self._check : self._rest].decode("latin-1") if self._checked else ""
        return Answer(
            like.status, body, like.content_type, like.version, timing, like.retry_after, check,
            first_byte_ns=first_ns, received_ns=time.perf_counter_ns(),
        )  # fmt: skip


class _Callbacks:
    """What llhttp calls back with."""

    def __init__(self, body_limit: int) -> None:
        self._limit, self._size = body_limit, 0
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self.complete = self.keep_alive = self._surplus = False
        self._interim = 0
        self._parser = httptools.HttpResponseParser(self)

    @property
    def plain(self) -> bool:
        """Whether the body is the last bytes that came, as they came."""
        length = self._headers.get(b"content-length")
        return self.keep_alive and self._interim == 0 and length == b"%d" % self._size

    def feed(self, data: memoryview, received: int) -> None:
        """Parses. Raises BadAnswer."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if data[:1] == TLS_ALERT and received == len(data):
                raise BadAnswer("the cloud speaks TLS: is its address https://?") from error
            raise BadAnswer(f"the answer is not HTTP: {error}") from error
        if self._surplus:
            raise BadAnswer("more came than one answer")
        if self._size > self._limit or received > self._limit + HEAD_LIMIT:
            raise BadAnswer(f"the answer has more than {self._limit} bytes")

    def answer(self, first_ns: int) -> Answer:
        """What was parsed."""
        return Answer(
            self._parser.get_status_code(),
            b"".join(self._body),
            self._text(b"content-type"),
            self._text(VERSION_HEADER.encode()),
            self._text(b"server-timing"),
            self._text(b"retry-after"),
            self._text(CHECK_HEADER.encode()),
            first_byte_ns=first_ns,
            received_ns=time.perf_counter_ns(),
        )

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        # Asked here: once the message is complete, llhttp has forgotten it.
        self.keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._limit:
            self._body.append(data)

    def on_message_begin(self) -> None:
        self._surplus = self.complete

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < HTTPStatus.OK:
            self._headers.clear()  # an interim answer (100, 103): the one that counts follows
            self._interim += 1
            return
        self.complete = True

    def _text(self, name: bytes) -> str:
        return self._headers.get(name, b"").decode("latin-1").strip()


def _wait_readable(fd: int, timeout_s: float) -> None:
    """Waits until bytes come, or the time is over.

    `select` counts in microseconds, `poll` in whole milliseconds: a quarter of the budget.
    """
    if fd < SELECT_LIMIT:
        select.select((fd,), (), (), timeout_s)
    else:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(int(timeout_s * 1e3))


def _remaining_s(deadline: float) -> float:
    remaining_s = deadline - time.monotonic()
    if remaining_s <= 0:
        raise TimeoutError("no answer within the request timeout")
    return remaining_s
