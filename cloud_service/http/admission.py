"""Limits the number of connections and their time.

A reserve of connections is for health checks only. One sweep per second finds late connections.
Parsing is in `connection.py`.
"""

import asyncio
from dataclasses import dataclass
from typing import Final, Protocol

RESERVE: Final = 64
"""Connections beyond the limit, which may request only health. A new one replaces the oldest, so
that silent connections never fill the reserve."""
RESERVE_SECONDS: Final = 2.0
"""Time limit for the request of a connection in the reserve."""
RESERVED_PATHS: Final = frozenset({"/health", "/ready"})
SWEEP_SECONDS: Final = 1.0
CHECKS: Final = 256
"""Most connections checked in one turn of the event loop, because corrections wait for it."""
NEXT_CHECK_SECONDS: Final = 0.02
BODY_GRACE_SECONDS: Final = 2.0
"""Added to the time of a body, so that the application can still answer that it is late."""
LEAST_BYTES_A_SECOND: Final = 1024
"""Least rate at which a client must receive a response that does not fit into the buffers."""


@dataclass(frozen=True)
class Limits:
    """Limits of a connection. Sizes are in bytes, times in seconds."""

    connections: int = 5000
    head_bytes: int = 16384
    """Size of the request line and all header lines, or of all trailers."""
    head_lines: int = 100
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    write_seconds: float = 30.0
    idle_seconds: float = 75.0
    """Time between a response and the next request."""


class Connection(Protocol):
    """What Admission needs of a connection. Times are those of the event loop."""

    due: float
    """The connection cannot be late before this time."""

    def check(self, now_s: float) -> None:
        """Closes the connection if it is late, and updates `due`."""

    def abort(self) -> None:
        """Ends the connection immediately and drops unsent bytes."""


class Admission:
    """Tracks all connections of a server."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._admitted: set[Connection] = set()
        self._reserve: dict[Connection, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> bool:
        """Adds a connection; returns False if it is in the reserve."""
        if self._timer is None:
            self._timer = loop.call_later(SWEEP_SECONDS, self._sweep, loop)
        if len(self._admitted) < self.limits.connections:
            self._admitted.add(connection)
            return True
        if len(self._reserve) >= RESERVE:
            oldest = next(iter(self._reserve))
            del self._reserve[oldest]
            oldest.abort()
        self._reserve[connection] = None
        return False

    def leave(self, connection: Connection) -> None:
        """Removes a connection that has ended."""
        self._admitted.discard(connection)
        self._reserve.pop(connection, None)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Checks all connections. A timer for each request would cost the hot path 2 µs."""
        now_s = loop.time()
        connections = (*self._admitted, *self._reserve)
        late = [connection for connection in connections if connection.due <= now_s]
        for connection in late[:CHECKS]:
            connection.check(now_s)
        pause = SWEEP_SECONDS if len(late) <= CHECKS else NEXT_CHECK_SECONDS
        is_needed = self._admitted or self._reserve
        self._timer = loop.call_later(pause, self._sweep, loop) if is_needed else None
