"""The transport of a `CorrectionLink` over the standard library's HTTP client.

A simple, slower alternative to `Connection`: a reference for tests, and a fallback if a server or
middlebox rejects this project's client. Plain HTTP only, without a proxy.
"""

import http.client
import time
from typing import NoReturn

from device_client.correction.http_answer import ERROR_BODY_LIMIT, Answer, BadAnswer
from device_client.correction.sockets import Connect, address_of
from shared import wire

_HEADERS = ("content-type", wire.VERSION_HEADER, "server-timing", "retry-after", wire.CHECK_HEADER)


class PlainTransport:
    """One persistent connection, used only by the worker through `exchange`."""

    def __init__(
        self,
        url: str,
        version: str,
        layout: wire.Layout,
        body_bytes: int,
        connect: Connect | None = None,
        *,
        body_limit: int = ERROR_BODY_LIMIT,
        deadline_ms: int | None = None,
    ) -> None:
        self.address = address_of(url)
        if self.address.secure or connect is not None:
            raise ValueError("the plain transport speaks http:// over its own sockets alone")
        self._body = bytearray(body_bytes)
        self.body = memoryview(self._body)
        self._path = self.address.path + wire.correction_path(version)
        self._headers = {"Accept": layout.correction_type, "Content-Type": layout.hidden_type}
        if deadline_ms is not None:
            self._headers[wire.DEADLINE_HEADER] = str(deadline_ms)
        self._limit = body_limit
        self._http = http.client.HTTPConnection(self.address.host, self.address.port)

    def open(self, timeout_s: float) -> None:
        """Connects if it is not connected. Raises OSError."""
        self._http.timeout = timeout_s
        if self._http.sock is None:
            self._http.connect()

    def ready(self) -> bool:
        """Always False, so that the worker sends every request."""
        return False

    def send(self) -> bool:
        """Not called, because `ready` is False."""
        return False

    def receive(self, timeout_s: float) -> NoReturn:
        """Not called, because `send` never sends."""
        raise ConnectionResetError("nothing was sent")

    finish = receive

    def exchange(self, timeout_s: float) -> Answer:
        """Sends the request with `body` and reads the answer. Raises OSError or BadAnswer."""
        sent_ns = time.perf_counter_ns()
        try:
            self.open(timeout_s)
            self._http.sock.settimeout(timeout_s)
            self._http.request("POST", self._path, bytes(self._body), self._headers)
            uploaded_ns = time.perf_counter_ns()
            reply = self._http.getresponse()
            first_byte_ns = time.perf_counter_ns()
            body = reply.read(self._limit + 1)
            if len(body) > self._limit:
                raise BadAnswer(f"the answer has more than {self._limit} bytes")
        except http.client.HTTPException as error:
            self.close()
            raise BadAnswer(f"the answer is not HTTP: {error}") from error
        except BaseException:
            self.close()
            raise
        media_type, version, timing, retry_after, check = (
            reply.getheader(name, "") for name in _HEADERS
        )
        if check and check != wire.check_of(self.body, body):
            self.close()
            raise BadAnswer("the answer is for another H, or not as it was sent")
        return Answer(
            reply.status, body, media_type, version, timing, retry_after, check,
            sent_ns, uploaded_ns, first_byte_ns, time.perf_counter_ns(),
        )  # fmt: skip

    def close(self) -> None:
        """Closes the connection; the next exchange opens another."""
        self._http.close()
