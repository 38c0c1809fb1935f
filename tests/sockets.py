"""What tests share that talk through sockets of their own."""

import socket
from collections.abc import Iterator

from shared.wire import FULL_TYPE, HIDDEN_TYPE, correction_path


def accepted(listener: socket.socket) -> Iterator[socket.socket]:
    """Connections as they come, until the listener is closed."""
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


def request(
    version: str,
    body: bytes,
    *lines: str,
    accept: str = FULL_TYPE,
    kind: str = HIDDEN_TYPE,
    length: int = 2560,
) -> bytes:
    """A device's request with that H, and more header lines."""
    head = [
        f"POST {correction_path(version)} HTTP/1.1",
        "Host: x",
        f"Accept: {accept}",
        f"Content-Type: {kind}",
        f"Content-Length: {length}",
        *lines,
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
