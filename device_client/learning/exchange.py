"""One bounded HTTP exchange: a deadline for all of it, and no byte more than was allowed.

For calls that are rare and off the path from click to ranking. Each has a connection of its own.
"""

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

import httptools

from device_client.correction.http_answer import ERROR_BODY_LIMIT, HEAD_LIMIT, BadAnswer
from device_client.correction.sockets import Address, Connect, address_of, tcp_connect

_CHUNK = 16 * 1024


class RawAnswer(NamedTuple):
    """An answer; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def exchange(
    url: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    body_limit: int,
    timeout_s: float,
    method: str = "POST",
    connect: Connect | None = None,
) -> RawAnswer:
    """Sends a request to `url` and reads the answer, up to `body_limit` bytes of it.

    The body of an error may have ERROR_BODY_LIMIT bytes. `timeout_s` is for everything but the
    resolution of a name. Nothing is decompressed. Raises BadAnswer, OSError (TimeoutError after
    `timeout_s`), ValueError for an invalid URL or header, and UnusableProxy.
    """
    deadline = time.monotonic() + timeout_s
    request = _request(address_of(url), method, path, headers, body)
    sock = (connect or tcp_connect(url))(_left_s(deadline))
    try:
        sock.settimeout(_left_s(deadline))
        sock.sendall(request)
        parsing, buffer = _Parsing(body_limit), bytearray(_CHUNK)
        while not parsing.complete:
            sock.settimeout(_left_s(deadline))
            parsing.feed(memoryview(buffer)[: sock.recv_into(buffer)])
        return parsing.answer()
    finally:
        sock.close()


def _request(
    address: Address, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> bytes:
    """The bytes of a request. Raises ValueError for a header that cannot be sent."""
    lines = {
        "Host": address.header,
        **headers,
        "Accept-Encoding": "identity",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    for name, value in lines.items():
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"the header {name} takes visible ASCII characters")
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {address.path}{path} HTTP/1.1\r\n{head}\r\n".encode("ascii") + body


class _Parsing:
    """Receives the callbacks of llhttp for one answer."""

    def __init__(self, body_limit: int) -> None:
        self._limit = body_limit
        self._received = self._size = 0
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self.complete = False
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: memoryview) -> None:
        """Parses what was received. Raises BadAnswer, or ConnectionError if nothing was."""
        if not data:
            raise ConnectionResetError("the cloud closed the connection before its answer ended")
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:  # what follows the answer does not count
                raise BadAnswer(f"the answer is not HTTP: {error}") from error
        limit = max(self._limit, ERROR_BODY_LIMIT)
        if self._size > self._body_limit or self._received > limit + 2 * HEAD_LIMIT:
            raise BadAnswer(f"the answer has more than {self._body_limit:,} bytes")

    def answer(self) -> RawAnswer:
        """The answer, when it is complete."""
        if self._headers.get("content-encoding", "identity").lower() != "identity":
            raise BadAnswer("the answer is compressed, which was not asked for")
        return RawAnswer(self._parser.get_status_code(), self._headers, b"".join(self._body))

    @property
    def _body_limit(self) -> int:
        is_good = self._parser.get_status_code() == HTTPStatus.OK
        return self._limit if is_good else ERROR_BODY_LIMIT

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower().decode("latin-1")] = value.decode("latin-1").strip()

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._body_limit:
            self._body.append(data)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < HTTPStatus.OK:
            self._headers.clear()  # an interim answer (100, 103): the one that counts follows
        else:
            self.complete = True


def _left_s(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("no answer in time")
    return left_s
