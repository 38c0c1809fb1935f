"""`POST /v1/models/{version}/correction`: the hot path, as a bare ASGI application.

It stands before the router and its middleware: nothing is parsed but what is used.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from cloud_service.api.problems import Internal, MethodNotAllowed, RequestTimeout
from cloud_service.services.corrections import Corrections, Corrector
from shared.errors import (
    BodyTooLarge,
    LengthRequired,
    NotAcceptable,
    RecommendationError,
    WrongLength,
    WrongMediaType,
)
from shared.problems import MEDIA_TYPE as PROBLEM_TYPE
from shared.problems import Problem
from shared.wire import FULL_TYPE, HIDDEN_TYPE, ROW_TYPE

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_log = logging.getLogger(__name__)

PREFIX = "/v1/models/"
SUFFIX = "/correction"
BODY_LIMIT = 1 << 20
BODY_SECONDS = 5.0
"""How long an H may be on its way, once its head is here."""
_FULL, _ROW = FULL_TYPE.encode(), ROW_TYPE.encode()
_HIDDEN = HIDDEN_TYPE.encode()


class Observer(Protocol):
    """Counts corrections: `outcome` is the form served, or the code of a problem."""

    def correction(self, outcome: str, seconds: float) -> None: ...


class CorrectionEndpoint:
    """Answers corrections. Raises nothing: every fault becomes a problem document."""

    def __init__(self, corrections: Corrections, observer: Observer) -> None:
        self._corrections, self._observer = corrections, observer

    @staticmethod
    def serves(path: str) -> bool:
        """Whether a request path is this endpoint's."""
        return path.endswith(SUFFIX) and path.startswith(PREFIX)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        begun = time.perf_counter()
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed("POST H to this address")
            row, length = _read_head(scope["headers"])
            version = scope["path"][len(PREFIX) : -len(SUFFIX)]
            corrector = self._corrections.get(version)
            if corrector is None:  # reads files: not on the event loop
                corrector = await asyncio.to_thread(self._corrections.open, version)
            body = await _read_body(receive, length, corrector.hidden_bytes)
            if body is None:
                return
            started = time.perf_counter()
            answer = corrector.row(body) if row else corrector.full(body)
            computed = time.perf_counter()
            timing = b"queue;dur=%.3f, gcn;dur=%.3f" % (
                (started - begun) * 1e3,
                (computed - started) * 1e3,
            )
            await _answer(send, corrector, answer, _ROW if row else _FULL, timing)
            self._observer.correction("row" if row else "full", time.perf_counter() - begun)
        except RecommendationError as error:
            self._observer.correction(error.code, time.perf_counter() - begun)
            await _refuse(send, error)
        except Exception:  # a fault of ours: said without detail, and never with H
            _log.exception("a correction failed")
            self._observer.correction("internal", time.perf_counter() - begun)
            await _refuse(send, Internal("the cloud's log says more"))


def _read_head(headers: list[tuple[bytes, bytes]]) -> tuple[bool, int]:
    """Whether the compact form is wanted, and the body's length. Raises a WireError."""
    row, length = False, -1
    for name, value in headers:
        if name == b"accept":
            row = value == _ROW or (value != _FULL and _wants_row(value))
        elif name == b"content-length":
            length = int(value)  # the server has parsed it before
        elif name == b"content-type" and value != _HIDDEN:
            raise WrongMediaType(f"H travels as {HIDDEN_TYPE}")
    if length < 0:
        raise LengthRequired("send Content-Length: the size of H is known before it is sent")
    return row, length


def _wants_row(accept: bytes) -> bool:
    """The form a general Accept header prefers; the full one where it does not care."""
    if not accept.strip():
        return False
    best, row = 0.0, False
    for part in accept.decode("latin-1").split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        if kind in (ROW_TYPE, FULL_TYPE, "application/*", "*/*") and quality > best:
            best, row = quality, kind == ROW_TYPE
    if best <= 0.0:
        raise NotAcceptable(f"a correction is {FULL_TYPE} (full) or {ROW_TYPE} (compact)")
    return row


async def _read_body(receive: Receive, length: int, wanted: int) -> bytes | None:
    """The body, if it has the length a model takes; None where the client has gone away."""
    if length > BODY_LIMIT:
        raise BodyTooLarge(f"H is {wanted} bytes for this model, got {length}")
    if length != wanted:
        raise WrongLength(f"H is {wanted} bytes for this model, got {length}")
    message = await receive()
    if message["type"] == "http.disconnect":
        return None
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body
    parts = [body]
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while message.get("more_body", False):
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                parts.append(message.get("body", b""))
    except TimeoutError:
        raise RequestTimeout(f"H did not arrive within {BODY_SECONDS:g} s") from None
    return b"".join(parts)


async def _answer(
    send: Send, corrector: Corrector, body: bytes, kind: bytes, timing: bytes
) -> None:
    await _send(
        send,
        200,
        body,
        [
            (b"content-type", kind),
            (b"model-version", corrector.version_header),
            (b"server-timing", timing),
        ],
    )


async def _send(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse(send: Send, error: RecommendationError) -> None:
    document = Problem.of(error).model_dump_json().encode()
    headers = [(b"content-type", PROBLEM_TYPE.encode())]
    if isinstance(error, RequestTimeout):
        headers.append((b"connection", b"close"))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", b"POST"))
    await _send(send, error.status, document, headers)


_PROBLEM = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_BINARY = {"type": "string", "format": "binary"}

OPENAPI_PATH: dict[str, Any] = {
    "post": {
        "tags": ["corrections"],
        "operationId": "correct",
        "summary": "The correction of one H",
        "description": "H up, `attn` then `bias` down, as raw little-endian float32: see "
        "shared/WIRE.md. 2,560 B up, 4,160 B or (compact) 416 B down at the default shape.",
        "parameters": [
            {
                "name": "version",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
                "example": "8a6c1f0b9d3e5724",
            },
            {
                "name": "Accept",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "enum": [FULL_TYPE, ROW_TYPE]},
                "example": ROW_TYPE,
            },
        ],
        "requestBody": {
            "required": True,
            "content": {
                HIDDEN_TYPE: {
                    "schema": _BINARY | {"description": "H, (K, D) float32, oldest click first"},
                    "examples": {
                        "one click": {
                            "summary": "H of one click",
                            "value": "(2,560 bytes: 64 float32 of one row of H, then 576 zeros)",
                        }
                    },
                }
            },
        },
        "responses": {
            "200": {
                "description": "The correction, in the form of its Content-Type",
                "headers": {
                    "Model-Version": {"schema": {"type": "string"}, "example": "8a6c1f0b9d3e5724"},
                    "Server-Timing": {
                        "schema": {"type": "string"},
                        "example": "queue;dur=0.021, gcn;dur=0.112",
                    },
                },
                "content": {FULL_TYPE: {"schema": _BINARY}, ROW_TYPE: {"schema": _BINARY}},
            },
            "400": {"description": "wrong-length", "content": _PROBLEM},
            "404": {"description": "unknown-model", "content": _PROBLEM},
            "405": {"description": "method-not-allowed", "content": _PROBLEM},
            "406": {"description": "not-acceptable", "content": _PROBLEM},
            "408": {"description": "request-timeout", "content": _PROBLEM},
            "410": {"description": "retired-model", "content": _PROBLEM},
            "411": {"description": "length-required", "content": _PROBLEM},
            "413": {"description": "body-too-large", "content": _PROBLEM},
            "415": {"description": "wrong-media-type", "content": _PROBLEM},
            "422": {
                "description": "not-finite, empty-hidden or unusable-hidden",
                "content": _PROBLEM,
            },
        },
    }
}
