"""`POST /v1/models/{version}/samples` as a plain ASGI application (shared/WIRE.md).

It has one thread and a short queue of its own, so that a search never takes a turn from the
corrections: what waits too long is refused. Neither queries nor tokens are logged.
"""

import asyncio
import hmac
import logging
import os
import re
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from typing import Final, NamedTuple

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cloud_service.http.problems import (
    Internal,
    MethodNotAllowed,
    Overloaded,
    RequestTimeout,
    RequestTooLarge,
    problem,
)
from cloud_service.services.samples import SampleService
from shared.errors import (
    Forbidden,
    LengthRequired,
    RecommendationError,
    Unauthorized,
)
from shared.samples import (
    CHECK_HEADER,
    COUNT_HEADER,
    DEFAULT_FORM,
    MOST_SAMPLES,
    QUERY_TYPES,
    SAMPLE_TYPES,
    BadCount,
    NoSuchForm,
    SampleForm,
    WrongQueryType,
    check_of,
)
from shared.wire import VERSION_HEADER

ROUTE: Final = "/v1/models/{version}/samples"
_PREFIX, _SUFFIX = ROUTE.split("{version}")
BODY_LIMIT: Final = 16 << 10
BODY_SECONDS: Final = 5.0
WAITING: Final = 16
"""Searches that run or wait at once; one more is refused."""
_NICENESS: Final = 10
_FORMS: Final[dict[str, SampleForm]] = {
    **{media_type: form for form, media_type in SAMPLE_TYPES.items()},
    "*/*": DEFAULT_FORM,
    "application/*": DEFAULT_FORM,
}
_COUNT: Final = re.compile(r"[0-9]{1,3}")
_log = logging.getLogger(__name__)


class DeviceUnauthorized(Unauthorized):
    title = "This call needs the token of devices"


class SamplesBusy(Overloaded):
    title = "The cloud searches as many samples as it can now"


class _SampleRequest(NamedTuple):
    """What the headers of a query say: at most `most` samples; `length` is in bytes."""

    media_type: str
    form: SampleForm
    most: int
    length: int


class SamplesEndpoint:
    """Answers queries for samples. Raises nothing: every error becomes a problem document.

    With `token` None samples are off, and every query is refused.
    """

    def __init__(
        self, samples: SampleService, token: str | None, *, waiting: int = WAITING
    ) -> None:
        self._samples, self._token = samples, token
        self._waiting, self._most_waiting = 0, waiting
        self._thread = ThreadPoolExecutor(1, "samples", initializer=_be_nice)

    @staticmethod
    def serves(path: str) -> bool:
        """Returns whether this endpoint handles the path."""
        return path.endswith(_SUFFIX) and path.startswith(_PREFIX)

    def close(self) -> None:
        """Ends its thread; a search that waits is dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        headers = Headers(scope=scope)
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed("POST a query to this address")
            check_device_token(headers, self._token)
            wanted = _read_head(headers)
            body = await _read_body(receive, wanted.length)
            if body is None:
                return  # the client has disconnected
            version = scope["path"][len(_PREFIX) : -len(_SUFFIX)]
            answer = await self._searched(version, wanted, body)
            response = Response(answer, headers=_headers(version, wanted.form, body, answer))
        except RecommendationError as error:
            response = problem(error, _problem_headers(error))
        except Exception:  # an internal error: the response has no details of it
            _log.exception("a search for samples failed")
            response = problem(Internal("the cloud's log says more"))
        await response(scope, receive, send)

    async def _searched(self, version: str, wanted: _SampleRequest, body: bytes) -> bytes:
        """Searches in the thread of the samples. Raises SamplesBusy if too many are waiting."""
        if self._waiting >= self._most_waiting:
            raise SamplesBusy("ask again later")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread,
                self._samples.answer,
                version,
                wanted.media_type,
                body,
                wanted.form,
                wanted.most,
            )
        finally:
            self._waiting -= 1


def check_device_token(headers: Headers, token: str | None) -> None:
    """Raises Forbidden if the cloud has no token for devices, Unauthorized for another one."""
    if token is None:
        raise Forbidden("this cloud hands out no samples: set CLOUD_DEVICE_TOKEN")
    authorizations = headers.getlist("authorization")
    scheme, _, presented = (authorizations[0] if len(authorizations) == 1 else "").partition(" ")
    matches = hmac.compare_digest(presented.strip().encode("latin-1", "replace"), token.encode())
    if scheme.lower() != "bearer" or not matches:
        raise DeviceUnauthorized(
            "send the cloud's CLOUD_DEVICE_TOKEN as Authorization: Bearer TOKEN"
        )


def _read_head(headers: Headers) -> _SampleRequest:
    """Checks the headers of a query, before any of its body is read."""
    media_type = headers.get("content-type", "")
    if media_type not in QUERY_TYPES:
        raise WrongQueryType(f"a query is one of {', '.join(QUERY_TYPES)}")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise WrongQueryType("a query travels as it is, without a Content-Encoding")
    length = headers.get("content-length")
    if length is None:
        raise LengthRequired("send Content-Length: the size of a query is known before it is sent")
    if int(length) > BODY_LIMIT:
        raise RequestTooLarge(f"a query has at most {BODY_LIMIT:,} bytes")
    count = headers.get(COUNT_HEADER, str(MOST_SAMPLES))
    if not _COUNT.fullmatch(count) or not 1 <= int(count) <= MOST_SAMPLES:
        raise BadCount(f"{COUNT_HEADER} is a number from 1 to {MOST_SAMPLES}")
    return _SampleRequest(
        media_type, _preferred(headers.get("accept", "")), int(count), int(length)
    )


def _preferred(accept: str) -> SampleForm:
    """The form that an Accept header prefers. Raises NoSuchForm if it accepts none."""
    best, form = 0.0, DEFAULT_FORM
    for entry in accept.split(",") if accept.strip() else ("*/*",):
        media_type, *parameters = (token.strip() for token in entry.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                quality = 0.0
                with suppress(ValueError):
                    quality = float(parameter[2:])
        if media_type in _FORMS and quality > best:
            best, form = quality, _FORMS[media_type]
    if best <= 0.0:
        raise NoSuchForm(f"samples are one of {', '.join(SAMPLE_TYPES.values())}")
    return form


async def _read_body(receive: Receive, length: int) -> bytes | None:
    """Reads the body, which the server ends after Content-Length bytes. Raises RequestTimeout."""
    chunks, size, more = [], 0, True
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > length:
                    raise RequestTooLarge(f"a query has at most {length:,} bytes here")
                more = message.get("more_body", False)
    except TimeoutError:
        raise RequestTimeout(f"a query has {BODY_SECONDS:g} s to arrive") from None
    return b"".join(chunks)


def _headers(version: str, form: SampleForm, query: bytes, answer: bytes) -> Mapping[str, str]:
    return {
        "content-type": SAMPLE_TYPES[form],
        VERSION_HEADER: version,
        CHECK_HEADER: check_of(query, answer),
        "cache-control": "no-store",
    }


def _problem_headers(error: RecommendationError) -> dict[str, str]:
    headers = {}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["retry-after"] = "1"
    if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["allow"] = "POST"
    if isinstance(error, RequestTooLarge | RequestTimeout):
        headers["connection"] = "close"  # else the server would read the rest of the body
    return headers


def _be_nice() -> None:
    """Lets the threads that answer corrections run before this one."""
    if sys.platform == "linux":  # elsewhere the number of a thread is not that of a process
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
