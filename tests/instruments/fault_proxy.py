"""A proxy between devices and a real cloud that does to every answer what it is told.

The tests and the soak use it. It knows HTTP messages with a Content-Length and nothing else.
"""

import random
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple
from urllib.parse import urlsplit

REMEMBERED = 8
"""Earlier answers, to other requests, that a fault may send."""


class Place(NamedTuple):
    """Which request it was: the device's own end of the connection, how often that address has
    come before, and the request's number on the connection."""

    host: str
    port: int
    time: int
    number: int


class Exchange:
    """One request that has been answered by the cloud, and the ways to pass the answer on."""

    def __init__(
        self, number: int, answer: bytes, device: socket.socket, earlier: list[bytes], place: Place
    ) -> None:
        self.number, self.answer, self._device, self.earlier = number, answer, device, earlier
        self.place = place
        self.head, _, self.body = answer.partition(b"\r\n\r\n")

    @property
    def status(self) -> int:
        """The cloud's."""
        return int(self.answer[9:12])

    def send(self, data: bytes | None = None) -> None:
        """Sends the answer, or other bytes."""
        self._device.sendall(self.answer if data is None else data)

    def with_body(self, body: bytes) -> bytes:
        """The answer with another body, the head as it was."""
        return self.head + b"\r\n\r\n" + body

    def close(self) -> None:
        """Ends the connection in order."""
        with suppress(OSError):
            self._device.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Ends the connection with a reset."""
        linger = struct.pack("ii", 1, 0)
        self._device.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._device.close()


Fault = Callable[[Exchange], None]


def passed(exchange: Exchange) -> None:
    """No fault."""
    exchange.send()


def silence(_: Exchange) -> None:
    """The answer never comes, and the connection stays as if it would."""


def delayed(most_s: float) -> Fault:
    """Late by up to so many seconds, differently each time."""

    def fault(exchange: Exchange) -> None:
        time.sleep(random.Random(exchange.number).uniform(0, most_s))
        exchange.send()

    return fault


def lost_once(exchange: Exchange) -> None:
    """As late as a lost packet makes it: TCP sends it again after 200 ms."""
    time.sleep(0.2)
    exchange.send()


def dripped(exchange: Exchange) -> None:
    """Byte by byte."""
    for byte in exchange.answer:
        exchange.send(bytes([byte]))
        time.sleep(0.003)


def flipped(exchange: Exchange) -> None:
    """One bit of the body is another."""
    body = bytearray(exchange.body)
    body[random.Random(exchange.number).randrange(len(body))] ^= 1
    exchange.send(exchange.with_body(bytes(body)))


def cut_then_closed(exchange: Exchange) -> None:
    """The end is missing, and the connection is closed in order."""
    exchange.send(exchange.answer[:-100])
    exchange.close()


def cut_then_reset(exchange: Exchange) -> None:
    """The end is missing, and the connection is reset."""
    exchange.send(exchange.answer[:-100])
    exchange.reset()


def twice(exchange: Exchange) -> None:
    """The same answer a second time, in the same bytes."""
    exchange.send(2 * exchange.answer)


def of_the_click_before(exchange: Exchange) -> None:
    """An answer that was another request's."""
    exchange.send(exchange.earlier[-1] if exchange.earlier else exchange.answer)


class Proxy:
    """Listens on a port of its own; `fault` passes each answer on, or not.

    `lost` is told of every request that the cloud did not answer.
    """

    def __init__(
        self, url: str, fault: Fault, lost: Callable[[Place], None] = lambda _: None
    ) -> None:
        parts = urlsplit(url)
        self._cloud, self._fault, self._lost = (parts.hostname, parts.port), fault, lost
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = self.exchanges = 0
        self._sockets: set[socket.socket] = set()
        self._earlier: deque[tuple[bytes, bytes]] = deque(maxlen=REMEMBERED)
        self._times: dict[tuple[str, int], int] = {}
        self._changed = threading.Condition()
        self._asking, self._held = 0, False
        self.answered: Counter[int] = Counter()
        """What the cloud answered, by status; exact while it is quiet."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Ends everything."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for sock in (self._listener, *list(self._sockets)):
            sock.close()

    @contextmanager
    def quiet(self, seconds: float = 5.0) -> Iterator[bool]:
        """No request is with the cloud meanwhile; new ones wait here. Yields whether that is so:
        a cloud that does not answer for so many seconds is not waited for."""
        with self._changed:
            self._held = True
            quiet = self._changed.wait_for(lambda: not self._asking, seconds)
        try:
            yield quiet
        finally:
            with self._changed:
                self._held = False
                self._changed.notify_all()

    def _accept(self) -> None:
        for device in accepted(self._listener):
            self.connections += 1
            host, port = device.getpeername()
            time_ = self._times[host, port] = self._times.get((host, port), 0) + 1
            place = Place(host, port, time_, 0)
            threading.Thread(target=self._serve, args=(device, place), daemon=True).start()

    def _serve(self, device: socket.socket, place: Place) -> None:
        cloud: socket.socket | None = None
        self._sockets.add(device)
        try:
            # Closed here too: one that was accepted while the proxy closed is in nobody's list.
            with device, suppress(OSError, ValueError):
                with suppress(OSError):  # a request is read even where there is no cloud to ask
                    cloud = socket.create_connection(self._cloud)
                    cloud.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._sockets.add(cloud)
                while request := _message(device):
                    place = place._replace(number=place.number + 1)
                    answer = self._asked(cloud, request)
                    if not answer:
                        self._lost(place)
                        return
                    with self._changed:
                        self.exchanges += 1
                        # The same H again, on a new connection, has the same answer by right.
                        earlier = [told for asked, told in self._earlier if asked != request]
                        self._earlier.append((request, answer))
                        number = self.exchanges
                    self._fault(Exchange(number, answer, device, earlier, place))
        finally:
            self._sockets.discard(device)
            if cloud is not None:
                self._sockets.discard(cloud)
                cloud.close()

    def _asked(self, cloud: socket.socket | None, request: bytes) -> bytes:
        """The cloud's answer; empty where it gave none."""
        if cloud is None:
            return b""
        with self._changed:
            self._changed.wait_for(lambda: not self._held)
            self._asking += 1
        answer = b""
        with suppress(OSError):
            cloud.sendall(request)
            answer = _message(cloud)
        with self._changed:
            self._asking -= 1
            if answer:
                self.answered[int(answer[9:12])] += 1
            self._changed.notify_all()
        return answer


def accepted(listener: socket.socket) -> Iterator[socket.socket]:
    """Connections as they come, until the listener is closed."""
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


def _message(sock: socket.socket) -> bytes:
    """One whole HTTP message; empty at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(65536)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        part = sock.recv(65536)
        if not part:
            return b""
        body += part
    return head + b"\r\n\r\n" + body
