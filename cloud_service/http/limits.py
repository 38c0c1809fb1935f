"""Limits the size and the time of JSON bodies, with or without a Content-Length."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud_service.http.problems import RequestTimeout, RequestTooLarge, problem
from shared.errors import RecommendationError

_BODILESS = ("GET", "HEAD", "OPTIONS", "DELETE")


class BodyLimit:
    """ASGI middleware that reads the whole body before it calls the application."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, seconds: float) -> None:
        self._app, self._max_bytes, self._seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request; refuses a body that is too large or too late."""
        if scope["type"] != "http" or scope["method"] in _BODILESS:
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._seconds):
                body = await self._read(scope, receive)
        except (TimeoutError, RecommendationError) as error:
            is_known = isinstance(error, RecommendationError)
            fault = (
                error if is_known else RequestTimeout(f"a body has {self._seconds:g} s to arrive")
            )
            assert isinstance(fault, RecommendationError)
            # Without closing, the server would have to read the rest of the body.
            await problem(fault, {"connection": "close"})(scope, receive, send)
            return
        if body is None:
            return  # the client has disconnected
        await self._app(scope, _replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > self._max_bytes:
                raise self._too_large()
        chunks, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > self._max_bytes:
                raise self._too_large()
            chunks.append(chunk)
            more = message.get("more_body", False)
        return b"".join(chunks)

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"a body has at most {self._max_bytes:,} bytes")


def _replay(body: bytes, receive: Receive) -> Receive:
    was_sent = False

    async def receive_body() -> Message:
        nonlocal was_sent
        if was_sent:
            return await receive()
        was_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_body
