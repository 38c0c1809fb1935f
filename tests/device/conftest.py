"""A cloud of the tests' own: a real socket that answers as a test says."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from benchmarks.proxy import accepted
from shared.wire import FORMS, VERSION_HEADER, Form


class FakeCloud:
    """Listens on a real port; `reply` turns each request's bytes into what is sent back.

    `reply` may give None to close without an answer, and may sleep.
    """

    def __init__(self, reply: Callable[[bytes], bytes | None]) -> None:
        self.reply, self.requests, self.connections = reply, [], 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._open:
            sock.close()

    def _accept(self) -> None:
        for sock in accepted(self._listener):
            self._open.append(sock)
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        buffer = b""
        try:
            while data := sock.recv(65536):
                buffer += data
                head, mark, body = buffer.partition(b"\r\n\r\n")
                if not mark:
                    continue
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                if len(body) < length:
                    continue
                buffer = body[length:]
                self.requests.append((head, body[:length]))
                answer = self.reply(body[:length])
                if answer is None:
                    sock.close()
                    return
                sock.sendall(answer)
        except OSError:
            return


def answer(
    body: bytes,
    *,
    version: str,
    status: str = "200 OK",
    form: Form = "row",
    headers: dict[str, str] | None = None,
) -> bytes:
    """An HTTP answer as the cloud gives it."""
    lines = {
        "content-type": FORMS[form].correction_type,
        VERSION_HEADER: version,
        "server-timing": "queue;dur=0.020, gcn;dur=0.110",
        "content-length": str(len(body)),
    } | (headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


@pytest.fixture
def fake_cloud():
    """Makes fake clouds that are closed after the test."""
    made = []

    def make(reply: Callable[[bytes], bytes | None]) -> FakeCloud:
        made.append(FakeCloud(reply))
        return made[-1]

    yield make
    for cloud in made:
        cloud.close()


@pytest.fixture
def eventually():
    """Waits until a condition holds, 5 s at most."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < deadline, "it did not happen within 5 s"
            time.sleep(0.002)

    return wait
