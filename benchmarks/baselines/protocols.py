"""The GCN behind other protocols, without checks: a WebSocket by uvicorn, HTTP/2 by hypercorn.

GCN_GRAPH=gcn.onnx python protocols.py {websocket,http2} PORT
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import hypercorn.asyncio
import hypercorn.config
import uvicorn
from onnx_gcn import GCN

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

gcn = GCN()


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Corrections for H, one after the other; an empty answer to whoever only looks."""
    if scope["type"] == "websocket":
        await _over_a_socket(receive, send)
    elif scope["type"] == "http":
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        answer = gcn.correct([body])[0] if body else b""
        length = b"%d" % len(answer)
        headers = [(b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


async def _over_a_socket(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": gcn.correct([message["bytes"]])[0]})


if __name__ == "__main__":
    protocol, port = sys.argv[1], int(sys.argv[2])
    if protocol == "websocket":
        uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", lifespan="off",
            ws_per_message_deflate=False)  # fmt: skip
    else:
        config = hypercorn.config.Config()
        config.bind, config.loglevel = [f"127.0.0.1:{port}"], "ERROR"
        config.keep_alive_max_requests = sys.maxsize
        asyncio.run(hypercorn.asyncio.serve(app, config, mode="asgi"))
