"""Opens connections to the cloud: address, TLS, and the tunnel of a proxy."""

import re
import socket
import ssl
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from shared.proxies import USUAL_PORTS, Proxy, proxy_for
from shared.reasons import host_and_port, reason_of

_HEAD_LIMIT = 16 * 1024
"""Largest accepted answer of a proxy to CONNECT, in bytes."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: ([ -~]{0,64}))?")


class SocketLike(Protocol):
    """The socket methods that a connection uses; simulated networks wrap a socket."""

    def sendall(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def recv_into(self, buffer: bytearray, /) -> int: ...
    def settimeout(self, value: float | None, /) -> None: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


Connect = Callable[[float], SocketLike]
"""Opens a connection within the given number of seconds, or raises OSError."""


class NoTunnel(ConnectionError):
    """The proxy cannot be reached or refuses the tunnel; the message says why."""


class Address(NamedTuple):
    """The parts of the cloud's address; the host is IDNA-encoded."""

    secure: bool
    host: str
    port: int
    header: str
    path: str


def address_of(url: str) -> Address:
    """Parses `url`. Raises ValueError unless it is http(s)://host[:port][/path]."""
    try:
        url_parts = urlsplit(url)
        host = (url_parts.hostname or "").encode("idna").decode("ascii")
        usual = USUAL_PORTS.get(url_parts.scheme, 80)
        port = usual if url_parts.port is None else url_parts.port
        path = url_parts.path.rstrip("/").encode("ascii").decode("ascii")
        sound = (
            host and port and url_parts.scheme in ("http", "https") and url_parts.username is None
        )
        if not sound or not path.isprintable():
            raise ValueError(url)
    except ValueError:  # from urlsplit, the port, or IDNA
        got = "one with a user" if "@" in url else repr(url)  # which may include a password
        raise ValueError(f"the cloud's address is http(s)://host[:port], got {got}") from None
    bare = f"[{host}]" if ":" in host else host
    header = bare if port == usual else host_and_port(host, port)
    return Address(url_parts.scheme == "https", host, port, header, path)


def tcp_connect(url: str) -> Connect:
    """A connector for `http://` and `https://` URLs, by way of the environment's proxy if any.

    Raises ValueError for any other, UnusableProxy as `proxy_for` does.
    """
    address = address_of(url)
    proxy = proxy_for(url)
    context = ssl.create_default_context() if address.secure else None

    def connect(timeout: float) -> SocketLike:
        if proxy is None:
            sock = socket.create_connection((address.host, address.port), timeout)
        else:
            sock = _tunnel(proxy, address, time.monotonic() + timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(sock, server_hostname=address.host) if context else sock

    return connect


def _tunnel(proxy: Proxy, address: Address, deadline: float) -> socket.socket:
    """Connects to `address` through `proxy` (CONNECT). Raises NoTunnel or TimeoutError."""
    sock = None
    try:
        sock = socket.create_connection((proxy.host, proxy.port), _remaining_s(deadline))
        sock.sendall(_connect_request(proxy, address))
        _check_tunnel(_head(sock, proxy, deadline), proxy, address)
        sock.settimeout(_remaining_s(deadline))
    except OSError as error:
        if sock is not None:
            sock.close()
        if isinstance(error, NoTunnel):
            raise
        if isinstance(error, TimeoutError):
            raise TimeoutError(f"no answer from the proxy {proxy} in time") from None
        reason = reason_of(error, proxy.host, proxy.port)
        raise NoTunnel(f"no way by the proxy {proxy}: {reason}") from error
    return sock


def _connect_request(proxy: Proxy, address: Address) -> bytes:
    where = host_and_port(address.host, address.port)
    authorization = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    return f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n{authorization}\r\n".encode("ascii")


def _head(sock: socket.socket, proxy: Proxy, deadline: float) -> bytes:
    """Reads the head of the proxy's answer; no bytes may follow before our first request."""
    head = b""
    while b"\r\n\r\n" not in head:
        sock.settimeout(_remaining_s(deadline))
        received = sock.recv(4096)
        if not received or len(head) + len(received) > _HEAD_LIMIT:
            raise NoTunnel(f"the proxy {proxy} gave no HTTP answer to CONNECT")
        head += received
    return head


def _check_tunnel(head: bytes, proxy: Proxy, address: Address) -> None:
    status = _STATUS.match(head)
    if status is None:
        raise NoTunnel(f"the proxy {proxy} gave no HTTP answer to CONNECT")
    if not status[1].startswith(b"2"):
        groups = [group for group in status.groups() if group]
        reason = b" ".join(groups).decode("ascii").strip()
        raise NoTunnel(
            f"the proxy {proxy} opens no tunnel to "
            f"{host_and_port(address.host, address.port)} ({reason}): "
            f"let it, or set NO_PROXY={address.host}"
        )
    if not head.endswith(b"\r\n\r\n"):
        raise NoTunnel(f"the proxy {proxy} sent more than the answer to CONNECT")


def _remaining_s(deadline: float) -> float:
    remaining_s = deadline - time.monotonic()
    if remaining_s <= 0:
        raise TimeoutError
    return remaining_s
