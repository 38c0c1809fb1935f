"""`POST /v1/models/{version}/correction`: the hot path, as a bare ASGI application.

It stands before the router and its middleware: nothing is parsed but what is used.
"""

import asyncio
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

from cloud_service.correction.corrector_cache import Corrections, Corrector
from cloud_service.correction.scheduler import Computed, CorrectionQueue, Waiting
from cloud_service.http.problems import Internal, MethodNotAllowed, RequestTimeout
from shared.errors import (
    BadDeadline,
    BodyTooLarge,
    LengthRequired,
    NotAcceptable,
    RecommendationError,
    WrongLength,
    WrongMediaType,
)
from shared.problems import MEDIA_TYPE as PROBLEM_TYPE
from shared.problems import TYPE_PREFIX, Problem
from shared.wire import (
    CHECK_HEADER,
    DEADLINE_HEADER,
    FORMS,
    HALF_HIDDEN_TYPE,
    HIDDEN_TYPE,
    ROW_TYPE,
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
"""How long an H may be on its way, once its head is here."""
_FORM_OF: dict[str, Form] = {layout.correction_type: form for form, layout in FORMS.items()}
_FORM_OF |= {"application/*": "full", "*/*": "full"}
_HALF_OF = {HIDDEN_TYPE.encode(): False, HALF_HIDDEN_TYPE.encode(): True}
_DEADLINE = DEADLINE_HEADER.encode()
_MILLISECONDS = re.compile(rb"[0-9]{1,9}(\.[0-9]{1,9})?")


class Observer(Protocol):
    """Counts corrections: `outcome` is the form served, or the code of a problem."""

    def correction(self, outcome: str, seconds: float) -> None: ...


class CorrectionEndpoint:
    """Answers corrections. Raises nothing: every fault becomes a problem document."""

    def __init__(
        self, corrections: Corrections, queue: CorrectionQueue, observer: Observer
    ) -> None:
        self._corrections, self._queue, self._observer = corrections, queue, observer

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
            wish = read_head(scope["headers"])
            version = scope["path"][len(PREFIX) : -len(SUFFIX)]
            corrector = self._corrections.get(version)
            if corrector is None:  # reads files: not on the event loop
                loop, known = asyncio.get_running_loop(), self._corrections
                corrector = await loop.run_in_executor(known.thread, known.open, version)
            wanted = corrector.hidden_bytes(half=wish.hidden_half)
            body = await _read_body(receive, wish.length, wanted)
            if body is None:
                return
            found = _Awaited()
            deadline = begun + wish.deadline_s
            self._queue.put(Waiting(found, corrector, wish.form, body, begun, deadline))
            computed = await found.done
            await _send(
                send, HTTPStatus.OK, computed.body, _headers(corrector, wish.form, computed)
            )
            self._observer.correction(wish.form, time.perf_counter() - begun)
        except RecommendationError as error:
            self._observer.correction(error.code, time.perf_counter() - begun)
            await _refuse(send, error)
        except Exception:  # a fault of ours: said without detail, and never with H
            _log.exception("a correction failed")
            self._observer.correction("internal", time.perf_counter() - begun)
            await _refuse(send, Internal("the cloud's log says more"))


class Wish(NamedTuple):
    """What the head of a request says."""

    form: Form
    """Of the correction."""
    hidden_half: bool
    """Whether H is in float16."""
    length: int
    """Of the body, in bytes."""
    deadline_s: float
    """Seconds after which nobody wants the answer; infinite where none is named."""


class _Awaited:
    """An answer of the queue, for a coroutine that waits for it."""

    def __init__(self) -> None:
        self.done: asyncio.Future[Computed] = asyncio.get_running_loop().create_future()

    def answer(self, computed: Computed) -> None:
        if not self.done.done():
            self.done.set_result(computed)

    def refuse(self, error: RecommendationError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


def timing(computed: Computed) -> bytes:
    """Server-Timing, of the same width for all but the slowest: a device need not parse it anew."""
    times = computed.queue_s * 1e3, computed.compute_s * 1e3
    return b"queue;dur=%08.3f, gcn;dur=%08.3f" % times


def _headers(corrector: Corrector, form: Form, computed: Computed) -> list[tuple[bytes, bytes]]:
    """Of an answer. The two that change stand together: a device compares the rest as a whole."""
    return [
        (b"content-type", FORMS[form].correction_type.encode()),
        (b"model-version", corrector.version_header),
        (b"server-timing", timing(computed)),
        (CHECK_HEADER.encode(), computed.check.encode()),
    ]


def read_head(headers: list[tuple[bytes, bytes]]) -> Wish:
    """What the head asks for; names are in lower case. Raises a WireError."""
    form: Form = "full"
    half, length, deadline = False, -1, math.inf
    for name, value in headers:
        if name == b"accept":
            form = _preferred(value)
        elif name == b"content-length":
            length = int(value)  # the server has parsed it before
        elif name == b"content-type":
            if value not in _HALF_OF:
                raise WrongMediaType(f"H travels as {HIDDEN_TYPE} or {HALF_HIDDEN_TYPE}")
            half = _HALF_OF[value]
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise WrongMediaType("H travels as it is, without a Content-Encoding")
        elif name == _DEADLINE:
            if not _MILLISECONDS.fullmatch(value):
                raise BadDeadline(f"{DEADLINE_HEADER} is a number of milliseconds")
            deadline = float(value) / 1e3
    if length < 0:
        raise LengthRequired("send Content-Length: the size of H is known before it is sent")
    return Wish(form, half, length, deadline)


def _preferred(accept: bytes) -> Form:
    """The form a general Accept header prefers; the full one where it does not care."""
    if not accept.strip():
        return "full"
    form: Form = "full"
    best = 0.0
    for part in accept.decode("latin-1").split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        if kind in _FORM_OF and quality > best:
            best, form = quality, _FORM_OF[kind]
    if best <= 0.0:
        known = ", ".join(layout.correction_type for layout in FORMS.values())
        raise NotAcceptable(f"a correction is one of {known}")
    return form


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


async def _send(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def header_lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Headers as they travel."""
    return b"".join(b"%s: %s\r\n" % header for header in headers)


def refusal(error: RecommendationError) -> tuple[bytes, bytes]:
    """Headers as they travel, without the length, and body of the answer for `error`."""
    return _refusal(type(error), error.detail)  # type: ignore[arg-type]  # classes are hashable


# Kept: a cloud that has too much to do says the same thousands of times a second.
@lru_cache(maxsize=256)
def _refusal(kind: type[RecommendationError], detail: str) -> tuple[bytes, bytes]:
    return header_lines(_problem_headers(kind)), _document(kind, detail)


def _problem_headers(kind: type[RecommendationError]) -> list[tuple[bytes, bytes]]:
    headers = [(b"content-type", PROBLEM_TYPE.encode())]
    if kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append((b"retry-after", b"1"))
    if issubclass(kind, RequestTimeout):
        headers.append((b"connection", b"close"))
    if issubclass(kind, MethodNotAllowed):
        headers.append((b"allow", b"POST"))
    return headers


def _document(kind: type[RecommendationError], detail: str) -> bytes:
    found = Problem(
        type=TYPE_PREFIX + kind.code, title=kind.title, status=kind.status, detail=detail
    )
    return found.model_dump_json().encode()


async def _refuse(send: Send, error: RecommendationError) -> None:
    document = _document(type(error), error.detail)
    await _send(send, error.status, document, _problem_headers(type(error)))


_PROBLEM = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_BINARY = {"type": "string", "format": "binary"}
_CORRECTION_TYPES = tuple(layout.correction_type for layout in FORMS.values())

OPENAPI_PATH: dict[str, Any] = {
    "post": {
        "tags": ["corrections"],
        "operationId": "correct",
        "summary": "The correction of one H",
        "description": "H up, `attn` then `bias` down, as raw little-endian float32: see "
        "shared/WIRE.md. 2,560 B up, 4,160 B or (compact) 416 B down at the default shape; half "
        "of that in float16, where the media types say so.",
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
                "schema": {"type": "string", "enum": [*_CORRECTION_TYPES]},
                "example": ROW_TYPE,
            },
            {
                "name": "Correction-Deadline",
                "in": "header",
                "required": False,
                "description": "milliseconds after which the answer is of no use any more",
                "schema": {"type": "number", "minimum": 0, "maximum": 999_999_999},
                "example": 250,
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
                },
                HALF_HIDDEN_TYPE: {
                    "schema": _BINARY | {"description": "H, (K, D) float16, oldest click first"},
                    "examples": {
                        "one click": {
                            "summary": "H of one click",
                            "value": "(1,280 bytes: 64 float16 of one row of H, then 576 zeros)",
                        }
                    },
                },
            },
        },
        "responses": {
            "200": {
                "description": "The correction, in the form of its Content-Type",
                "headers": {
                    "Model-Version": {"schema": {"type": "string"}, "example": "8a6c1f0b9d3e5724"},
                    "Correction-Check": {
                        "description": "CRC-32 of H and then of the correction",
                        "schema": {"type": "string", "pattern": "^[0-9a-f]{8}$"},
                        "example": "1c291ca3",
                    },
                    "Server-Timing": {
                        "schema": {"type": "string"},
                        "example": "queue;dur=0.021, gcn;dur=0.112",
                    },
                },
                "content": {kind: {"schema": _BINARY} for kind in _CORRECTION_TYPES},
            },
            "400": {"description": "wrong-length, bad-deadline or bad-http", "content": _PROBLEM},
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
            "431": {"description": "head-too-large", "content": _PROBLEM},
            "503": {"description": "overloaded or too-many-connections", "content": _PROBLEM},
            "504": {"description": "deadline-passed", "content": _PROBLEM},
        },
    }
}
