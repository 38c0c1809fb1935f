"""Corrections one at a time over one connection, timed from H in hand to the last byte."""

import re
import socket
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from shared.model import ModelSettings
from shared.wire import HIDDEN_TYPE, ROW_TYPE, correction_path

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class BareDevice:
    """A device without a model: it sends some H and waits for the compact correction."""

    def __init__(self, port: int, seconds: float = 300.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s, random = ModelSettings(), np.random.default_rng(0)
        self._hidden = [
            random.normal(size=(s.segment, s.dim)).astype("<f4").tobytes() for _ in range(16)
        ]
        self._asked = 0

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()

    def ask(self, version: str) -> float:
        """Milliseconds of one correction. Raises RuntimeError where the cloud gives none."""
        hidden = self._hidden[self._asked % len(self._hidden)]
        self._asked += 1
        head = (
            f"POST {correction_path(version)} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Accept: {ROW_TYPE}\r\nContent-Type: {HIDDEN_TYPE}\r\n"
            f"Content-Length: {len(hidden)}\r\n\r\n"
        )
        request = head.encode() + hidden
        begun = time.perf_counter()
        self._socket.sendall(request)
        answer, answer_end = b"", 0
        while not answer_end or len(answer) < answer_end:
            chunk = self._socket.recv(65536)
            if not chunk:
                raise RuntimeError("the cloud closed the connection")
            answer += chunk
            head_end = answer.find(b"\r\n\r\n") + 4
            length = _LENGTH.search(answer, 0, head_end)
            answer_end = head_end + int(length[1]) if head_end > 3 and length else 0
        spent = time.perf_counter() - begun
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"no correction: {answer[:200]!r}")
        return spent * 1e3

    def ask_all(self, versions: Sequence[str], count: int) -> list[float]:
        """`count` corrections, of each version in turn."""
        return [self.ask(versions[index % len(versions)]) for index in range(count)]


def summary(times: Sequence[float]) -> dict[str, Any]:
    """Median, quartiles and p99."""
    low, median, high, p99 = np.quantile(times, (0.25, 0.5, 0.75, 0.99))
    return {
        "median": float(median),
        "quartiles": [float(low), float(high)],
        "p99": float(p99),
        "count": len(times),
    }


def spread(figures: dict[str, Any], digits: int = 2) -> str:
    """A median with its quartiles, for a table."""
    low, high = figures["quartiles"]
    return f"{figures['median']:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"
