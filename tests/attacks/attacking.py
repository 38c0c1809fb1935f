"""What the attacks share: a real cloud, raw connections to it, and a device that means well."""

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
    """H of four clicks."""
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
        """A new connection that sends at once."""
        parts = urlsplit(self.url)
        line = socket.create_connection((parts.hostname, parts.port), PATIENCE_SECONDS)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return line

    def told(self, *pieces: bytes) -> bytes:
        """Everything that is answered to these bytes, until the cloud closes."""
        with self.connect() as line:
            with suppress(OSError):  # closed while we still send
                for piece in pieces:
                    line.sendall(piece)
            return read_to_the_end(line)

    def correct(self) -> int:
        """The status of a good device's correction, on a connection of its own."""
        return int(self.told(request(self.version, hidden(), "Connection: close")).split()[1])

    def get(self, path: str) -> int:
        """The status of a plain request, on a connection of its own."""
        return int(self.told(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                             % path.encode()).split()[1])  # fmt: skip

    def memory(self) -> int:
        """The most that the process has held so far, in bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) << 10
        raise AssertionError("no VmHWM")

    def open_files(self) -> int:
        """How many files and connections the process has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


@contextmanager
def attacked(store: Path, version: str, log: Path, **settings: str) -> Iterator[Attacked]:
    """A cloud with these settings, that must live through what is done to it."""
    command = ["cloud-service", "serve", "--port", "0"]
    with running(command, log, CLOUD_STORE=str(store), **settings) as process:
        yield Attacked(process.pid, listening(process, log), version)
        assert process.poll() is None, log.read_text()
    assert "Traceback" not in log.read_text()


def read_to_the_end(line: socket.socket) -> bytes:
    """What comes until the other side closes; fails where it does not."""
    received = b""
    try:
        while part := line.recv(65536):
            received += part
    except ConnectionError:
        pass
    return received


def statuses(received: bytes) -> list[int]:
    """The statuses of the answers in `received`, taken apart by their lengths."""
    answers = []
    while received:
        head, mark, received = received.partition(b"\r\n\r\n")
        assert mark, head
        first, *lines = head.lower().split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines)
        received = received[int(fields[b"content-length"]) :]
        answers.append(int(first.split()[1]))
    return answers
