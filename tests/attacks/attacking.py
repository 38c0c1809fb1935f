"""Shared by the attack tests: a real cloud, raw connections to it, and a well-behaved device."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from shared.model import ModelSettings
from shared.wire import Wire
from tests.instruments.processes import listening, running
from tests.instruments.sockets import request

PATIENCE_SECONDS = 30
WIRE = Wire(ModelSettings())


def hidden() -> bytes:
    """Returns the bytes of an H of four clicks."""
    rows = np.zeros((10, 64), np.float32)
    rows[:4] = np.random.default_rng(0).normal(size=(4, 64))
    return WIRE.encode_hidden(rows)


@dataclass
class Attacked:
    """A cloud process."""

    pid: int
    url: str
    version: str

    def connect(self) -> socket.socket:
        """Opens a connection with TCP_NODELAY."""
        address = urlsplit(self.url)
        line = socket.create_connection((address.hostname, address.port), PATIENCE_SECONDS)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return line

    def told(self, *chunks: bytes) -> bytes:
        """Sends bytes on a new connection; returns all responses until the cloud closes it."""
        with self.connect() as line:
            with suppress(OSError):  # closed while we still send
                for chunk in chunks:
                    line.sendall(chunk)
            return read_to_the_end(line)

    def correct(self) -> int:
        """Requests a valid correction on a new connection; returns the status."""
        return int(self.told(request(self.version, hidden(), "Connection: close")).split()[1])

    def get(self, path: str) -> int:
        """Sends a GET on a new connection; returns the status."""
        return int(self.told(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                             % path.encode()).split()[1])  # fmt: skip

    def memory(self) -> int:
        """Returns the peak memory of the process in bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) << 10
        raise AssertionError("no VmHWM")

    def open_files(self) -> int:
        """Returns the number of open files and connections of the process."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


@contextmanager
def attacked(store: Path, version: str, log: Path, **settings: str) -> Iterator[Attacked]:
    """Starts a cloud; afterwards it must still run, without a traceback in its log."""
    command = ["cloud-service", "serve", "--port", "0"]
    with running(command, log, CLOUD_STORE=str(store), **settings) as process:
        yield Attacked(process.pid, listening(process, log), version)
        assert process.poll() is None, log.read_text()
    assert "Traceback" not in log.read_text()


def read_to_the_end(line: socket.socket) -> bytes:
    """Returns all bytes until the other side closes the connection; fails if it does not."""
    received = b""
    try:
        while chunk := line.recv(65536):
            received += chunk
    except ConnectionError:
        pass
    return received


def statuses(received: bytes) -> list[int]:
    """Splits `received` into responses by their lengths; returns their statuses."""
    answers = []
    while received:
        head, mark, received = received.partition(b"\r\n\r\n")
        assert mark, head
        status_line, *lines = head.lower().split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines)
        received = received[int(fields[b"content-length"]) :]
        answers.append(int(status_line.split()[1]))
    return answers
