"""A proxy between a device and a real cloud that does to every answer what a test says."""

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from tests.sockets import accepted


class Exchange:
    """One request that has been answered by the cloud, and the ways to pass the answer on."""

    def __init__(self, number: int, answer: bytes, device: socket.socket, earlier: list[bytes]):
        self.number, self.answer, self._device, self.earlier = number, answer, device, earlier
        self.head, _, self.body = answer.partition(b"\r\n\r\n")

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


class Proxy:
    """Listens on a port of its own; `fault` passes each answer on, or not."""

    def __init__(self, url: str, fault: Callable[[Exchange], None]) -> None:
        parts = urlsplit(url)
        self._cloud, self._fault = (parts.hostname, parts.port), fault
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = self.exchanges = 0
        self._sockets: list[socket.socket] = []
        self._earlier: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Ends everything."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for sock in (self._listener, *self._sockets):
            sock.close()

    def _accept(self) -> None:
        for device in accepted(self._listener):
            try:
                cloud = socket.create_connection(self._cloud)
            except OSError:
                device.close()
                continue
            cloud.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [device, cloud]
            self.connections += 1
            threading.Thread(target=self._serve, args=(device, cloud), daemon=True).start()

    def _serve(self, device: socket.socket, cloud: socket.socket) -> None:
        # Closed here too: one that was accepted while the proxy closed is in nobody's list.
        with device, cloud, suppress(OSError, ValueError):
            while request := _message(device):
                cloud.sendall(request)
                answer = _message(cloud)
                self.exchanges += 1
                exchange = Exchange(self.exchanges, answer, device, list(self._earlier))
                self._earlier.append(answer)
                self._fault(exchange)


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
        body += sock.recv(65536)
    return head + b"\r\n\r\n" + body
