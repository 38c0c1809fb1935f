"""JSON bodies of bounded size and time, with or without a Content-Length."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud_service.http.problems import RequestTimeout, RequestTooLarge, problem
from shared.errors import RecommendationError

_BODILESS = ("GET", "HEAD", "OPTIONS", "DELETE")


class BodyLimit:
    """Reads a body before the application sees the request, or refuses it."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, seconds: float) -> None:
        self._app, self._max_bytes, self._seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
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
            # Closing is the only way not to read the rest.
            await problem(fault, {"connection": "close"})(scope, receive, send)
            return
        if body is None:
            return  # the client has gone
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
    was_given = False

    async def again() -> Message:
        nonlocal was_given
        if was_given:
            return await receive()
        was_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
