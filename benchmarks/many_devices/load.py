"""Devices that ask at random moments, whatever became of the request before (open loop).

A latency counts from the moment that was drawn, so that a stalled server is charged for every
request it delayed, sent or not (no coordinated omission). One process, one epoll, no HTTP library.

python -m benchmarks.many_devices.load PORT REQUEST_FILE RATE SECONDS DEVICES SEED OUT.npz
"""

import contextlib
import gc
import re
import select
import socket
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np

GRACE_S = 2.0
"""How long answers may come after the last request."""
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_READ = 65536


class Load:
    """One process's devices, each with a connection and one request at a time."""

    def __init__(self, port: int, request: bytes, devices: int) -> None:
        self._request = request
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._idle: list[int] = []
        self._due: dict[int, float] = {}
        self._parts: dict[int, bytes] = {}
        self._waiting: deque[float] = deque()
        self.latencies: list[float] = []
        self.statuses: list[int] = []
        for _ in range(devices):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            self._sockets[sock.fileno()] = sock
            self._idle.append(sock.fileno())
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def run(self, moments: list[float]) -> None:
        """Asks at `moments`, seconds from now; what is not answered in the end is infinite."""
        begun = time.perf_counter()
        following = 0
        deadline = begun + moments[-1] + GRACE_S
        while following < len(moments) or self._due or self._waiting:
            clock = time.perf_counter()
            if clock > deadline:
                break
            while following < len(moments) and begun + moments[following] <= clock:
                self._waiting.append(begun + moments[following])
                following += 1
            while self._waiting and self._idle:
                self._send(self._idle.pop(), self._waiting.popleft())
            for descriptor, _ in self._epoll.poll(0):
                self._read(descriptor)
        lost = len(moments) - len(self.latencies)
        self.latencies += [float("inf")] * lost
        self.statuses += [0] * lost

    def close(self) -> None:
        """Closes all connections."""
        for sock in self._sockets.values():
            sock.close()
        self._epoll.close()

    def _send(self, descriptor: int, due: float) -> None:
        self._due[descriptor] = due
        with contextlib.suppress(OSError):  # lost: it is never answered
            self._sockets[descriptor].send(self._request)

    def _read(self, descriptor: int) -> None:
        try:
            data = self._sockets[descriptor].recv(_READ)
        except OSError:
            data = b""
        if not data:
            self._epoll.unregister(descriptor)
            return
        data = self._parts.pop(descriptor, b"") + data
        head = data.find(b"\r\n\r\n")
        length = _LENGTH.search(data, 0, head + 2) if head >= 0 else None
        if length is None or len(data) < head + 4 + int(length[1]):
            self._parts[descriptor] = data
            return
        self.latencies.append(time.perf_counter() - self._due.pop(descriptor))
        self.statuses.append(int(data[9:12]))
        self._idle.append(descriptor)


def main() -> None:
    """Runs one load and writes latencies (s) and statuses."""
    port, path, rate, seconds, devices, seed, out = sys.argv[1:]
    random = np.random.default_rng(int(seed))
    count = max(1, int(float(rate) * float(seconds)))
    moments = np.cumsum(random.exponential(1 / float(rate), count)).tolist()
    gc.disable()  # its pauses would be charged to the server
    load = Load(int(port), Path(path).read_bytes(), int(devices))
    begun = time.perf_counter()
    load.run(moments)
    elapsed = time.perf_counter() - begun
    load.close()
    np.savez(out, latencies=load.latencies, statuses=load.statuses, elapsed=elapsed)


if __name__ == "__main__":
    main()
