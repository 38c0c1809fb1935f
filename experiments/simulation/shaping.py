"""A real socket that behaves as if it crossed a network profile, or only counts its bytes.

Bytes and waits are real; no delay is only calculated. The handshake is not shaped: the socket is
already connected.
"""

import contextlib
import math
import select
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from experiments.simulation.network import PACKET_BYTES, NetworkProfile, Randomness

if TYPE_CHECKING:
    from typing_extensions import Buffer

SPIN_S = 80e-6
"""`time.sleep` wakes up to 60 us late on Linux, so the end of a wait is a busy loop."""

POLL_S = 1e-3
"""Python rounds the timeout of poll() up to whole milliseconds: below that, sleep in slices."""

SLICE_S = 50e-6
READ_BYTES = 65_536


def wait_until(moment: float) -> None:
    """Returns at `moment` of `time.perf_counter`; on an idle core a few microseconds late."""
    while (remaining_s := moment - time.perf_counter()) > 0:
        if remaining_s > SPIN_S:
            time.sleep(remaining_s - SPIN_S)


def shaped(
    sock: socket.socket, profile: NetworkProfile, rng: Randomness
) -> "ShapedSocket | CountedSocket":
    """Wraps `sock` to simulate `profile`; only counts bytes if the profile changes nothing."""
    return ShapedSocket(sock, profile, rng) if profile.shaped else CountedSocket(sock)


@dataclass(frozen=True, slots=True)
class _Segment:
    """Bytes in transit to the device, readable from `due` on. Empty data: end of stream."""

    due: float
    data: memoryview


class CountedSocket(socket.socket):
    """A connected socket that counts the bytes sent and received."""

    def __init__(self, sock: socket.socket) -> None:
        """Takes over the descriptor of `sock`, which must not be used any more."""
        timeout = sock.gettimeout()
        super().__init__(fileno=sock.detach())
        self.settimeout(timeout)
        self.sent_bytes = self.received_bytes = 0
        """Bytes including headers."""
        self.answer_arrived = 0.0
        """When the first byte of the latest answer was read (`time.perf_counter`)."""
        self._awaits_answer = False

    def send(self, data: "Buffer", flags: int = 0, /) -> int:
        """Like `socket.socket`, with counting."""
        count = super().send(data, flags)
        self._awaits_answer = True
        self.sent_bytes += count
        return count

    def sendall(self, data: "Buffer", flags: int = 0, /) -> None:
        """Like `socket.socket`, with counting."""
        super().sendall(data, flags)
        self._awaits_answer = True
        self.sent_bytes += memoryview(data).nbytes

    def recv_into(self, buffer: "Buffer", nbytes: int = 0, flags: int = 0, /) -> int:
        """Like `socket.socket`, with counting."""
        count = super().recv_into(buffer, nbytes, flags)
        if self._awaits_answer:
            self._awaits_answer, self.answer_arrived = False, time.perf_counter()
        self.received_bytes += count
        return count


class ShapedSocket:
    """A connected socket behind a simulated network profile. For one thread at a time.

    A request goes out when the device calls `sendall`, and reaches the real socket only after
    the time the network needs; `sendall` returns then, so its end is the end of the upload. All
    that is sent before the next answer counts as one message and pays the one-way time once.
    The time of a reply starts when its bytes arrive here if a `recv_into` is waiting, else at
    the next `recv_into`. The first byte is returned alone, so that a reader can measure the wait
    for the cloud apart from the download.
    """

    def __init__(self, sock: socket.socket, profile: NetworkProfile, rng: Randomness) -> None:
        self._sock = sock
        self._profile = profile
        self._rng = rng
        self._timeout = sock.gettimeout()
        self._turn: Literal["none", "up", "down"] = "none"
        self._latency = 0.0  # one way, of the present answer
        self._offset = 0  # bytes of the present answer that have arrived
        self._lost = 0.0  # what the losses of the present packet cost
        self._free = 0.0  # when the downlink has passed on all that arrived
        self._due = 0.0  # when the last piece may be read: order is kept
        self._segments: deque[_Segment] = deque()
        self._ended = False
        self._sent = 0
        self._received = 0
        self._arrived = 0.0
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        sock.setblocking(False)

    @property
    def sent_bytes(self) -> int:
        """Bytes handed to the real socket, including headers."""
        return self._sent

    @property
    def received_bytes(self) -> int:
        """Bytes handed to the device, including headers."""
        return self._received

    @property
    def answer_arrived(self) -> float:
        """When the first byte of the latest answer came from the real socket, before it was held
        back (`time.perf_counter`)."""
        return self._arrived

    def fileno(self) -> int:
        """The real socket's descriptor. It turns readable when bytes arrive, before they are
        handed out."""
        return self._sock.fileno()

    def settimeout(self, seconds: float | None) -> None:
        """Sets how long one later call may take, `None` for ever.

        Raises ValueError for 0 or less: there is no non-blocking mode.
        """
        if seconds is not None and not seconds > 0:
            raise ValueError("a timeout must be more than 0 s, or None")
        self._timeout = seconds

    def close(self) -> None:
        """Closes the real socket and drops the bytes in transit."""
        self._segments.clear()
        self._sock.close()

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Sends all of `data` and returns when the network would have delivered it.

        Raises TimeoutError at the timeout, with nothing of `data` sent if the network is to
        blame, and OSError as a socket does.
        """
        count = memoryview(data).nbytes
        clock_s = time.perf_counter()
        deadline = self._deadline(clock_s)
        arrival = clock_s + self._upload_s(count)
        if arrival > deadline:
            wait_until(deadline)
            raise TimeoutError("timed out")
        wait_until(arrival)
        self._deliver(data, deadline)
        self._sent += count

    def recv_into(self, buffer: bytearray | memoryview, nbytes: int = 0) -> int:
        """Reads at most `nbytes` that have arrived (0: the size of `buffer`); waits for the first.

        Returns the number of bytes, 0 at the end of the stream. Raises TimeoutError at the
        timeout (the bytes on their way are kept for the next call), and OSError as a socket does.
        """
        room = memoryview(buffer).cast("B")
        room = room[:nbytes] if nbytes else room
        deadline = self._deadline(time.perf_counter())
        self._arrive()
        while not self._segments:
            if time.perf_counter() >= deadline:
                raise TimeoutError("timed out")
            self._listen(deadline)
        due = self._segments[0].due
        until = min(due, deadline)
        while time.perf_counter() < until:
            self._listen(until)
        if due > deadline:
            raise TimeoutError("timed out")
        count = self._hand_out(room)
        self._received += count
        return count

    def _deadline(self, clock_s: float) -> float:
        return math.inf if self._timeout is None else clock_s + self._timeout

    def _upload_s(self, count: int) -> float:
        """Draws the time of `count` bytes from the device to the cloud, in seconds."""
        latency = 0.0 if self._turn == "up" else self._profile.latency_s(self._rng)
        self._turn = "up"
        lost = self._profile.recovery_s(math.ceil(count / PACKET_BYTES), self._rng)
        return self._profile.serialisation_s(count, up=True) + latency + lost

    def _deliver(self, data: bytes | bytearray | memoryview, deadline: float) -> None:
        """Writes `data` to the real socket; waits until the deadline if its buffer is full."""
        view = memoryview(data).cast("B")
        with contextlib.suppress(BlockingIOError):
            view = view[self._sock.send(view) :]
        if not view:
            return
        remaining_s = None if deadline == math.inf else max(deadline - time.perf_counter(), POLL_S)
        self._sock.settimeout(remaining_s)
        try:
            self._sock.sendall(view)
        finally:
            self._sock.setblocking(False)

    def _listen(self, until: float) -> None:
        """Waits for bytes until `until` at most, and notes when they arrived.

        It must listen while earlier bytes are held back, or the later ones would seem late.
        """
        remaining_s = until - time.perf_counter()
        if self._ended or remaining_s <= SPIN_S:
            wait_until(until)
        elif remaining_s == math.inf:
            self._poll.poll()
        elif (whole_ms := int((remaining_s - SPIN_S) * 1e3)) > 0:
            self._poll.poll(whole_ms)
        else:
            time.sleep(min(SLICE_S, remaining_s - SPIN_S))
        self._arrive()

    def _arrive(self) -> None:
        """Reads all bytes of the real socket and sets when each segment may be read."""
        while not self._ended:
            try:
                data = self._sock.recv(READ_BYTES)
            except BlockingIOError:
                return
            clock_s = time.perf_counter()
            if self._turn != "down":
                self._turn, self._arrived = "down", clock_s
                self._latency = self._profile.latency_s(self._rng)
                self._offset = 0
            if not data:
                self._ended = True
                self._segments.append(
                    _Segment(max(self._due, clock_s + self._latency), memoryview(b""))
                )
            for chunk in self._split_packets(memoryview(data)):
                self._free = max(self._free, clock_s)
                self._free += self._profile.serialisation_s(len(chunk), up=False)
                self._due = max(self._due, self._free + self._latency + self._lost)
                self._segments.append(_Segment(self._due, chunk))

    def _split_packets(self, data: memoryview) -> Iterator[memoryview]:
        """Splits at packet boundaries of the answer, independent of how reads were split, so
        that a seed gives the same delays."""
        while data:
            within = self._offset % PACKET_BYTES
            if within == 0:
                self._lost = self._profile.recovery_s(1, self._rng)
            size = 1 if self._offset == 0 else PACKET_BYTES - within
            yield data[:size]
            self._offset += min(size, len(data))
            data = data[size:]

    def _hand_out(self, room: memoryview) -> int:
        """Copies the due bytes into `room` and returns their number."""
        clock_s = time.perf_counter()
        count = 0
        while self._segments and self._segments[0].due <= clock_s and count < len(room):
            chunk = self._segments[0]
            if not chunk.data:  # the end stays, for whoever reads again
                break
            data_part = chunk.data[: len(room) - count]
            room[count : count + len(data_part)] = data_part
            count += len(data_part)
            if len(data_part) == len(chunk.data):
                self._segments.popleft()
            else:
                self._segments[0] = _Segment(chunk.due, chunk.data[len(data_part) :])
        return count
