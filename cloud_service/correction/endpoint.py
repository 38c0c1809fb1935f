"""`POST /v1/models/{version}/correction` as a plain ASGI application.

It runs before the router and its middleware and parses only what it needs.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Protocol

from cloud_service.correction.corrector_cache import Corrector, CorrectorCache
from cloud_service.correction.request_head import read_head
from cloud_service.correction.scheduler import (
    CorrectionReply,
    CorrectionScheduler,
    PendingCorrection,
)
from cloud_service.http.problem_bytes import problem_body, problem_headers
from cloud_service.http.problems import Internal, MethodNotAllowed, RequestTimeout
from shared.errors import (
    BodyTooLarge,
    RecommendationError,
    WrongLength,
)
from shared.wire import (
    CHECK_HEADER,
    FORMS,
    Form,
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_log = logging.getLogger(__name__)

PREFIX = "/v1/models/"
SUFFIX = "/correction"
BODY_LIMIT = 1 << 20
BODY_SECONDS = 5.0
"""Longest time between the head of a request and the end of its H."""


class Observer(Protocol):
    """Counts corrections. `outcome` is the form that was sent, or the code of a problem."""

    def correction(self, outcome: str, seconds: float) -> None: ...


class CorrectionEndpoint:
    """Answers correction requests. Raises nothing: every error becomes a problem document."""

    def __init__(
        self, correctors: CorrectorCache, scheduler: CorrectionScheduler, observer: Observer
    ) -> None:
        self._correctors, self._scheduler, self._observer = correctors, scheduler, observer

    @staticmethod
    def serves(path: str) -> bool:
        """Returns whether this endpoint handles the path."""
        return path.endswith(SUFFIX) and path.startswith(PREFIX)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Handles one request."""
        begun = time.perf_counter()
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed("POST H to this address")
            head = read_head(scope["headers"])
            version = scope["path"][len(PREFIX) : -len(SUFFIX)]
            corrector = self._correctors.get(version)
            if corrector is None:  # opening reads files: do it in another thread
                loop, cache = asyncio.get_running_loop(), self._correctors
                corrector = await loop.run_in_executor(cache.thread, cache.open, version)
            body_bytes = corrector.hidden_bytes(half=head.hidden_half)
            body = await _read_body(receive, head.length, body_bytes)
            if body is None:
                return
            sink = _FutureSink()
            deadline = begun + head.deadline_s
            self._scheduler.put(
                PendingCorrection(sink, corrector, head.form, body, begun, deadline)
            )
            reply = await sink.done
            await _send(send, HTTPStatus.OK, reply.body, _headers(corrector, head.form, reply))
            self._observer.correction(head.form, time.perf_counter() - begun)
        except RecommendationError as error:
            self._observer.correction(error.code, time.perf_counter() - begun)
            await _refuse(send, error)
        except Exception:  # an internal error: the response has no details of it
            _log.exception("a correction failed")
            self._observer.correction("internal", time.perf_counter() - begun)
            await _refuse(send, Internal("the cloud's log says more"))


class _FutureSink:
    """Passes the result of the scheduler to a coroutine that waits for it."""

    def __init__(self) -> None:
        self.done: asyncio.Future[CorrectionReply] = asyncio.get_running_loop().create_future()

    def answer(self, reply: CorrectionReply) -> None:
        if not self.done.done():
            self.done.set_result(reply)

    def refuse(self, error: RecommendationError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


def timing(reply: CorrectionReply) -> bytes:
    """Returns the value of Server-Timing, in milliseconds.

    Its width is fixed up to 9,999 ms, so that a device can reuse the head of its last response.
    """
    times = reply.queue_s * 1e3, reply.compute_s * 1e3
    return b"queue;dur=%08.3f, gcn;dur=%08.3f" % times


def _headers(corrector: Corrector, form: Form, reply: CorrectionReply) -> list[tuple[bytes, bytes]]:
    """Returns the response headers. The two that vary are adjacent: a device compares the rest."""
    return [
        (b"content-type", FORMS[form].correction_type.encode()),
        (b"model-version", corrector.version_header),
        (b"server-timing", timing(reply)),
        (CHECK_HEADER.encode(), reply.check.encode()),
    ]


async def _read_body(receive: Receive, length: int, body_bytes: int) -> bytes | None:
    """Reads the body; returns None if the client disconnects.

    Raises BodyTooLarge or WrongLength unless `length` is `body_bytes`, and RequestTimeout.
    """
    if length > BODY_LIMIT:
        raise BodyTooLarge(f"H is {body_bytes} bytes for this model, got {length}")
    if length != body_bytes:
        raise WrongLength(f"H is {body_bytes} bytes for this model, got {length}")
    message = await receive()
    if message["type"] == "http.disconnect":
        return None
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body
    chunks = [body]
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while message.get("more_body", False):
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                chunks.append(message.get("body", b""))
    except TimeoutError:
        raise RequestTimeout(f"H did not arrive within {BODY_SECONDS:g} s") from None
    return b"".join(chunks)


async def _send(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse(send: Send, error: RecommendationError) -> None:
    document = problem_body(type(error), error.detail)
    await _send(send, error.status, document, problem_headers(type(error)))
