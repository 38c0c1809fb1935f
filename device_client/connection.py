"""One persistent HTTP/1.1 connection that asks for corrections and nothing else.

The request is the same bytes but for H, so it is built once; the answer is read into one buffer
and parsed by llhttp (httptools). General HTTP clients cost more here than the model does
(docs/decisions.md), and this path does nothing they are needed for.
"""

import select
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

import httptools

from shared.wire import HIDDEN_TYPE, VERSION_HEADER, correction_path

HEAD_LIMIT = 16 * 1024
"""Bytes of answer head after which a server is not one of ours."""


class SocketLike(Protocol):
    """What a connection needs of a socket; simulated networks wrap one."""

    def sendall(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def recv_into(self, buffer: bytearray, /) -> int: ...
    def settimeout(self, value: float | None, /) -> None: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


Connect = Callable[[float], SocketLike]
"""Opens a connection within so many seconds, or raises OSError."""


class BadAnswer(Exception):
    """The bytes that came back are not an HTTP answer of the size expected."""


@dataclass(slots=True)
class Answer:
    """One answer, and when its parts came (`time.perf_counter_ns`)."""

    status: int
    body: bytes
    content_type: str
    version: str
    server_timing: str
    retry_after: str
    sent_ns: int
    uploaded_ns: int
    first_byte_ns: int
    received_ns: int


def tcp_connect(url: str) -> Connect:
    """A connector for `http://` and `https://` URLs. Raises ValueError for any other."""
    parts = address_of(url)
    address = parts.host, parts.port
    context = ssl.create_default_context() if parts.secure else None

    def connect(timeout: float) -> SocketLike:
        sock = socket.create_connection(address, timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(sock, server_hostname=address[0]) if context else sock

    return connect


class Address(NamedTuple):
    """The parts of the cloud's address, the host as DNS and HTTP want it."""

    secure: bool
    host: str
    port: int
    header: str
    path: str


def address_of(url: str) -> Address:
    """The parts of `url`. Raises ValueError for what is no http(s)://host[:port][/path]."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode("ascii")
        usual = 443 if parts.scheme == "https" else 80
        port = usual if parts.port is None else parts.port
        path = parts.path.rstrip("/").encode("ascii").decode("ascii")
        sound = host and port and parts.scheme in ("http", "https") and parts.username is None
        if not sound or not path.isprintable():
            raise ValueError(url)
    except ValueError:  # of urlsplit, of a port, and of what IDNA refuses
        raise ValueError(f"the cloud's address is http(s)://host[:port], got {url!r}") from None
    named = f"[{host}]" if ":" in host else host
    header = named if port == usual else f"{named}:{port}"
    return Address(parts.scheme == "https", host, port, header, path)


class Connection:
    """Asks one model version's corrections, one at a time, on a connection that is kept."""

    def __init__(
        self, url: str, version: str, body_bytes: int, accept: str, connect: Connect | None = None
    ) -> None:
        parts = address_of(url)
        head = (
            f"POST {parts.path}{correction_path(version)} HTTP/1.1\r\n"
            f"Host: {parts.header}\r\nAccept: {accept}\r\n"
            f"Content-Type: {HIDDEN_TYPE}\r\nContent-Length: {body_bytes}\r\n\r\n"
        ).encode("ascii")
        self._request = bytearray(head + bytes(body_bytes))
        self.body = memoryview(self._request)[len(head) :]
        """Where H goes before `exchange`."""
        self._connect = connect or tcp_connect(url)
        self._socket: SocketLike | None = None
        self._buffer = bytearray(HEAD_LIMIT)
        self._view = memoryview(self._buffer)
        self._secure = parts.secure

    def open(self, timeout_s: float) -> None:
        """Connects if it is not connected. Raises OSError."""
        if self._socket is None:
            self._socket = self._connect(timeout_s)

    def exchange(self, timeout_s: float, body_limit: int) -> Answer:
        """Sends the request with `body` and reads the answer.

        Raises TimeoutError after `timeout_s` in all, OSError where the cloud is out of reach,
        BadAnswer where what came back is not HTTP, or its body over `body_limit` bytes.
        """
        deadline = time.monotonic() + timeout_s
        if self._socket is not None and not self._secure and _is_readable(self._socket):
            # Closed while idle, or it holds bytes nobody asked for: no answer to this request.
            # (Under TLS, session tickets make a healthy socket readable.)
            self.close()
        kept = self._socket is not None
        try:
            try:
                return self._once(deadline, body_limit)
            except (ConnectionError, _ClosedEarly) as error:
                # A server may close a connection it has kept idle: that is no failure of its own.
                self.close()
                if not kept or (isinstance(error, _ClosedEarly) and error.received):
                    raise
                return self._once(deadline, body_limit)
        except _ClosedEarly as error:
            self.close()
            raise ConnectionResetError("the cloud closed the connection") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the connection; the next exchange opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _once(self, deadline: float, body_limit: int) -> Answer:
        self.open(_left(deadline))
        sock = self._socket
        assert sock is not None
        sent = time.perf_counter_ns()
        sock.settimeout(_left(deadline))
        sock.sendall(self._request)
        uploaded = time.perf_counter_ns()
        reader = _Reader(body_limit)
        parser = reader.parser = httptools.HttpResponseParser(reader)
        first = 0
        while not reader.complete:
            sock.settimeout(_left(deadline))
            count = sock.recv_into(self._buffer)
            if not first:
                first = time.perf_counter_ns()
            if not count:
                raise _ClosedEarly(reader.received > 0)
            reader.received += count
            try:
                parser.feed_data(self._view[:count])
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
                raise BadAnswer(str(error)) from error
            if reader.surplus:
                raise BadAnswer("more came than one answer")
            if reader.too_large:
                raise BadAnswer(f"the answer has more than {body_limit} bytes")
        received = time.perf_counter_ns()
        if not reader.keep_alive:
            self.close()
        return Answer(
            parser.get_status_code(),
            b"".join(reader.body),
            reader.text(b"content-type"),
            reader.text(VERSION_HEADER.encode()),
            reader.text(b"server-timing"),
            reader.text(b"retry-after"),
            sent,
            uploaded,
            first,
            received,
        )


class _ClosedEarly(Exception):
    """The other side closed before the answer was whole."""

    def __init__(self, received: bool) -> None:
        super().__init__()
        self.received = received


class _Reader:
    """What llhttp calls back with."""

    def __init__(self, body_limit: int) -> None:
        self._limit = body_limit
        self._size = self.received = 0
        self.headers: dict[bytes, bytes] = {}
        self.body: list[bytes] = []
        self.complete = self.keep_alive = self.surplus = False
        self.parser: httptools.HttpResponseParser | None = None

    @property
    def too_large(self) -> bool:
        return self._size > self._limit or self.received > self._limit + HEAD_LIMIT

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        # Asked here: once the message is complete, llhttp has forgotten it.
        self.keep_alive = self.parser is not None and self.parser.should_keep_alive()

    def on_body(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= self._limit:
            self.body.append(part)

    def on_message_begin(self) -> None:
        self.surplus = self.complete

    def on_message_complete(self) -> None:
        if self.parser is not None and self.parser.get_status_code() < HTTPStatus.OK:
            self.headers.clear()  # an interim answer (100, 103): the one that counts follows
            return
        self.complete = True

    def text(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1").strip()


def _is_readable(sock: SocketLike) -> bool:
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer within the request timeout")
    return left
