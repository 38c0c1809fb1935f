"""Who may connect and for how long: limits, places, a reserve for health, one look each second.

Nothing here parses: `connection.py` asks and tells.
"""

import asyncio
from dataclasses import dataclass
from typing import Final, Protocol

RESERVE: Final = 64
"""Connections beyond the places, which may ask for health alone; the oldest gives way to a new
one, so that silent connections never fill it."""
RESERVE_SECONDS: Final = 2.0
"""How long a connection of the reserve may take for its request."""
RESERVED_PATHS: Final = frozenset({"/health", "/ready"})
SWEEP_SECONDS: Final = 1.0
LOOKS: Final = 256
"""Connections looked at in one turn of the event loop: corrections wait for it."""
LOOK_AGAIN_SECONDS: Final = 0.02
BODY_GRACE_SECONDS: Final = 2.0
"""Beyond the time of a body, in which whoever reads it may still say that it is late."""
LEAST_BYTES_A_SECOND: Final = 1024
"""What a client takes of an answer, at least, once the sockets hold no more of it."""


@dataclass(frozen=True)
class Limits:
    """What a connection may do. Sizes in bytes, times in seconds."""

    connections: int = 5000
    head_bytes: int = 16384
    """Of the request line and all header lines; of trailers, too."""
    head_lines: int = 100
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    write_seconds: float = 30.0
    idle_seconds: float = 75.0
    """Between a request's answer and the next request."""


class Guest(Protocol):
    """A connection, as the admission sees it. Times are the event loop's."""

    due: float
    """Before this it cannot be late."""

    def look(self, clock_s: float) -> None:
        """Closes it where it is late; sets `due` anew."""

    def abort(self) -> None:
        """Ends it at once, with whatever has not been sent."""


class Admission:
    """All connections of a server."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._places: set[Guest] = set()
        self._reserve: dict[Guest, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, guest: Guest, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the connection has a place; else it is in the reserve."""
        if self._timer is None:
            self._timer = loop.call_later(SWEEP_SECONDS, self._sweep, loop)
        if len(self._places) < self.limits.connections:
            self._places.add(guest)
            return True
        if len(self._reserve) >= RESERVE:
            oldest = next(iter(self._reserve))
            del self._reserve[oldest]
            oldest.abort()
        self._reserve[guest] = None
        return False

    def leave(self, guest: Guest) -> None:
        """The connection has ended: its place is free."""
        self._places.discard(guest)
        self._reserve.pop(guest, None)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """One coarse look over all: a timer for each request would cost the hot path 2 µs."""
        clock_s = loop.time()
        late = [guest for guest in (*self._places, *self._reserve) if guest.due <= clock_s]
        for guest in late[:LOOKS]:
            guest.look(clock_s)
        pause = SWEEP_SECONDS if len(late) <= LOOKS else LOOK_AGAIN_SECONDS
        waits = self._places or self._reserve
        self._timer = loop.call_later(pause, self._sweep, loop) if waits else None
