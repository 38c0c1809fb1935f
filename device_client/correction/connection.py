"""One persistent HTTP/1.1 connection that asks for corrections and nothing else.

Every request has the same bytes except for H, so it is built once. General HTTP clients cost more
here than the model does (docs/decisions.md). `Transport` is what a `CorrectionLink` needs of a
connection; `plain_transport.py` implements it with the standard library's client.
"""

import select
import socket
import ssl
import time
from typing import Protocol

from device_client.correction.http_answer import ERROR_BODY_LIMIT, Answer, AnswerReader, BadAnswer
from device_client.correction.sockets import Address, Connect, SocketLike, address_of, tcp_connect
from shared.wire import DEADLINE_HEADER, Layout, check_of, correction_path

SELECT_LIMIT = 1024
"""`select` accepts only file descriptors below this."""


class Transport(Protocol):
    """What a `CorrectionLink` needs of an HTTP client. One request at a time."""

    address: Address
    body: memoryview
    """Where H goes before it is sent."""

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
    ) -> None: ...

    def open(self, timeout_s: float) -> None:
        """Connects if it is not connected. Raises OSError."""

    def ready(self) -> bool:
        """Whether `send` can be called now; False: the worker uses `exchange`."""

    def send(self) -> bool:
        """Sends the request without waiting; False where it was not taken whole."""

    def receive(self, timeout_s: float) -> Answer | None:
        """The answer to `send` if it comes in time. Raises OSError or BadAnswer."""

    def finish(self, timeout_s: float) -> Answer:
        """Waits for the answer to `send`. Raises OSError or BadAnswer."""

    def exchange(self, timeout_s: float) -> Answer:
        """Sends the request and waits for its answer. Raises OSError or BadAnswer."""

    def close(self) -> None:
        """Closes the connection."""


class ClosedIdle(ConnectionResetError):
    """The server closed a kept connection before it saw the request: it may be sent again."""


class Connection:
    """Requests corrections of one model version, one at a time, on a persistent connection.

    Two ways to use it: `exchange` sends and reads, and may block (for the worker thread); `ready`,
    `send` and `receive` do the same in steps and never exceed their timeout (for the caller).
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
        """`body_limit`: largest accepted body of an answer, in bytes. `deadline_ms`: the cloud may
        drop the request after this time."""
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
        """True while the socket blocks; `send` sets it to non-blocking first."""
        self._has_answered = False
        """True after the first answer: from then on the server may close an idle connection."""
        self._reading = AnswerReader(body_limit)
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
        """True if `send` can be called: a real socket is connected and holds no unread bytes."""
        if self._plain is None:
            return False
        if self._unusable():
            self.close()
            return False
        return True

    def send(self) -> bool:
        """Sends the request with `body`. Returns False, and closes the connection, if the socket
        accepts only a part of it. Raises OSError."""
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
        """Reads the answer to `send`; None if it is incomplete after `timeout_s` (0: no wait).

        Raises ClosedIdle if the server closed the connection before it saw the request, OSError
        if the server cannot be reached, BadAnswer if the bytes are not a valid answer. Each of
        these closes the connection.
        """
        sock = self._plain
        if sock is None:
            raise ConnectionResetError("the connection is closed")
        remaining_s, deadline = timeout_s, time.perf_counter() + timeout_s
        # TLS may hold decrypted bytes that the socket does not report as readable.
        wait = remaining_s > 0 and not self._secure
        try:
            while True:
                if wait:
                    _wait_readable(self._fd, remaining_s)
                try:
                    answer = self._parse_received(sock.recv_into(self._reading.buffer))
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

        Raises TimeoutError after `timeout_s` in total, OSError if the cloud cannot be reached,
        BadAnswer if the reply is not HTTP or its body exceeds the limit.
        """
        deadline = time.monotonic() + timeout_s
        if self._socket is not None and self._unusable():
            self.close()
        try:
            return self._once(deadline)
        except ClosedIdle:  # not a failure: send again on a new connection
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
                answer = self._parse_received(sock.recv_into(self._reading.buffer))
                if answer is not None:
                    return answer
        except BaseException as error:
            self._lose(error)
            raise

    def _wait_until(self, deadline: float, sock: SocketLike) -> None:
        """Sets the timeout of the next socket call to the time left. Raises TimeoutError."""
        self._waits = True
        sock.settimeout(_remaining_s(deadline))

    def _begin(self) -> None:
        self._reading.begin()
        self.sent_ns = time.perf_counter_ns()

    def _parse_received(self, count: int) -> Answer | None:
        """Returns the answer if `count` new bytes complete it."""
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
        """Closes. Raises ClosedIdle if `error` means that the server had closed while idle."""
        idle = (
            self._has_answered and not self._reading.received and isinstance(error, ConnectionError)
        )
        self.close()
        if idle:
            raise ClosedIdle("the cloud had closed the connection") from error

    def _unusable(self) -> bool:
        """True if the peer closed the connection or sent bytes before the next request.

        Not checked under TLS, where session tickets make a healthy socket readable.
        """
        return not self._secure and bool(self._poll.poll(0))


def _wait_readable(fd: int, timeout_s: float) -> None:
    """Waits until the socket is readable or `timeout_s` is over.

    `select` has a resolution of microseconds; `poll` of 1 ms, a quarter of the budget.
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
