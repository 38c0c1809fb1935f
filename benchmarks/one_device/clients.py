"""Ways to get one correction: each takes H (K, D) and gives `attn` and `bias`.

Those whose library is not installed are left out (benchmarks/baselines.txt).
"""

import asyncio
import http.client
import importlib
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from device_client.bundle import Bundle
from device_client.correction.link import CorrectionLink
from shared.wire import FULL_TYPE, HIDDEN_TYPE, ROW_TYPE, Form, Wire, correction_path

Hidden = NDArray[np.float32]
Ask = Callable[[Hidden], Any]


def raw(port: int, size: int, stack: ExitStack) -> Ask:
    """The yardstick's other side: the same bytes, and nothing else."""
    sock = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = bytearray(size)
    view, floats = memoryview(buffer), np.frombuffer(buffer, np.float32)

    def ask(hidden: Hidden) -> Any:
        sock.sendall(hidden.data)
        have = 0
        while have < size:
            have += sock.recv_into(view[have:])
        return floats

    return ask


def ours(url: str, bundle: Bundle, form: Form, stack: ExitStack) -> Ask:
    """The device's link, as a session uses it."""
    link = CorrectionLink.to(url, bundle, form=form)
    stack.callback(link.close)
    link.open()
    last_row = bundle.manifest.model.segment - 1

    def ask(hidden: Hidden) -> Any:
        ticket = link.ask(hidden, last_row)
        received = link.wait(ticket, time.perf_counter_ns() + 10**9)
        if received.correction is None:
            raise RuntimeError(f"no correction: {received.outcome}")
        return received.correction

    return ask


def usual(url: str, stack: ExitStack) -> Ask:
    """httpx and JSON, to the usual stack's server."""
    client = stack.enter_context(httpx.Client(base_url=url))

    def ask(hidden: Hidden) -> Any:
        reply = client.post("/correction", json={"hidden": hidden.tolist()}).json()
        return np.array(reply["attn"], np.float32), np.array(reply["bias"], np.float32)

    return ask


def websocket(url: str, size: int, stack: ExitStack) -> Ask:
    """A WebSocket, which asks with H and is answered with the correction."""
    opened = importlib.import_module("websockets.sync.client").connect
    socket_ = stack.enter_context(opened(url.replace("http", "ws", 1), compression=None))

    def ask(hidden: Hidden) -> Any:
        socket_.send(hidden.tobytes())
        return _floats(socket_.recv(), size)

    return ask


def http2(url: str, size: int, stack: ExitStack) -> Ask:
    """httpx over HTTP/2, without TLS."""
    client = stack.enter_context(httpx.Client(base_url=url, http1=False, http2=True))
    return lambda hidden: _floats(client.post("/", content=hidden.tobytes()).content, size)


def _floats(body: bytes, size: int) -> Any:
    if len(body) != size:
        raise RuntimeError(f"{len(body)} bytes came, not {size}")
    return np.frombuffer(body, np.float32)


def libraries(url: str, bundle: Bundle, form: Form, stack: ExitStack) -> dict[str, Ask]:
    """General HTTP clients in place of the link, to the same server, with the same bytes."""
    wire, last_row = Wire(bundle.manifest.model), bundle.manifest.model.segment - 1
    path = correction_path(bundle.version)
    headers = {"accept": FULL_TYPE if form == "full" else ROW_TYPE, "content-type": HIDDEN_TYPE}

    def decoded(body: bytes) -> Any:
        return wire.decode_row_at(body, last_row) if form == "full" else wire.decode_row(body)

    asks: dict[str, Ask] = {}
    plain = http.client.HTTPConnection(url.removeprefix("http://"))
    plain.connect()
    plain.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stack.callback(plain.close)

    def by_http_client(hidden: Hidden) -> Any:
        plain.request("POST", path, hidden.tobytes(), headers)
        return decoded(plain.getresponse().read())

    asks["http.client"] = by_http_client
    for name in ("httpx", "httpx2"):
        if (library := _installed(name)) is not None:
            client = stack.enter_context(library.Client(base_url=url, headers=headers))
            asks[name] = _by_httpx(client, path, decoded)
    if (library := _installed("pyreqwest.client")) is not None:
        builder = library.SyncClientBuilder().base_url(url).default_headers(headers)
        reqwest = stack.enter_context(builder.build())
        asks["pyreqwest"] = lambda hidden: decoded(
            bytes(reqwest.post(path).body_bytes(hidden.tobytes()).build().send().bytes())
        )
    if (library := _installed("aiohttp")) is not None:
        asks["aiohttp"] = stack.enter_context(_aiohttp(library, url + path, headers, decoded))
    return asks


def _by_httpx(client: Any, path: str, decoded: Callable[[bytes], Any]) -> Ask:
    return lambda hidden: decoded(client.post(path, content=hidden.tobytes()).content)


@contextmanager
def _aiohttp(
    library: Any, url: str, headers: dict[str, str], decoded: Callable[[bytes], Any]
) -> Iterator[Ask]:
    loop = asyncio.new_event_loop()

    async def opened() -> Any:
        return library.ClientSession(headers=headers)

    session = loop.run_until_complete(opened())

    async def post(hidden: Hidden) -> bytes:
        async with session.post(url, data=hidden.tobytes()) as answer:
            body: bytes = await answer.read()
            return body

    try:
        yield lambda hidden: decoded(loop.run_until_complete(post(hidden)))
    finally:
        loop.run_until_complete(session.close())
        loop.close()


def _installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
