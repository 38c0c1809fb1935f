"""Turns every error into a problem document (RFC 9457) and describes them in OpenAPI."""

import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from shared.errors import InvalidRequest, RecommendationError
from shared.problems import MEDIA_TYPE, TYPE_PREFIX, Problem

SHOWN = 3
"""Most validation errors that one problem document lists."""
_log = logging.getLogger(__name__)


class UnknownPath(RecommendationError):
    code = "unknown-path"
    status = 404
    title = "There is nothing at this address"


class MethodNotAllowed(RecommendationError):
    code = "method-not-allowed"
    status = 405
    title = "This address does not take this method"


class BadHTTP(RecommendationError):
    code = "bad-http"
    status = 400
    title = "What came is no HTTP request"


class RequestTooLarge(RecommendationError):
    code = "request-too-large"
    status = 413
    title = "The request's body is too large"


class RequestTimeout(RecommendationError):
    code = "request-timeout"
    status = 408
    title = "The request did not arrive in time"


class HeadTooLarge(RecommendationError):
    code = "head-too-large"
    status = 431
    title = "The request's head is too large"


class Overloaded(RecommendationError):
    code = "overloaded"
    status = 503
    title = "The cloud cannot compute this correction now"


class TooManyConnections(RecommendationError):
    code = "too-many-connections"
    status = 503
    title = "The cloud has as many connections as it takes"


class Expired(RecommendationError):
    code = "deadline-passed"
    status = 504
    title = "The correction would have come too late"


class RangeInvalid(RecommendationError):
    code = "range-invalid"
    status = 416
    title = "The file has no such range"


class Internal(RecommendationError):
    code = "internal"
    status = 500
    title = "The cloud failed"


def problem(error: RecommendationError, headers: dict[str, str] | None = None) -> Response:
    """Returns the response for `error`. The details of an internal error go to the log only."""
    document = Problem.of(error)
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, Internal):
        # The text may contain paths of this machine: it goes to the log instead.
        _log.error("%s: %s", error.code, error.detail)
        document = document.model_copy(update={"detail": f"{error.title}; see the cloud's log"})
    return Response(document.model_dump_json(), error.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Registers handlers, so that `app` answers every error with a problem document."""
    app.add_exception_handler(RecommendationError, _expected)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def documented(*errors: type[RecommendationError]) -> dict[int | str, dict[str, Any]]:
    """Returns the OpenAPI `responses` of an operation with these errors, with an example each."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status in sorted({error.status for error in errors}):
        of_status = [error for error in errors if error.status == status]
        responses[status] = {
            "description": "; or: ".join(error.title for error in of_status),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {error.code: _example(error) for error in of_status},
                }
            },
        }
    return responses


def _example(error: type[RecommendationError]) -> dict[str, Any]:
    return {
        "summary": error.title,
        "value": {
            "type": TYPE_PREFIX + error.code,
            "title": error.title,
            "status": error.status,
            "detail": f"{error.title}: what exactly, and what to do.",
        },
    }


async def _expected(_: Request, error: Exception) -> Response:
    assert isinstance(error, RecommendationError)
    headers = {}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["retry-after"] = "1"
    return problem(error, headers)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem(InvalidRequest("; ".join(_faults(error.errors()))))


def _faults(errors: Iterable[dict[str, Any]]) -> list[str]:
    # Do not repeat what was sent: it may be long or secret.
    listed = [f"{'.'.join(str(location) for location in e['loc'])}: {e['msg']}" for e in errors]
    more = len(listed) - SHOWN
    return [text[:200] for text in listed[:SHOWN]] + ([f"and {more} more"] if more > 0 else [])


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem(UnknownPath("the API is described at /docs"), headers)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = headers.get("Allow", headers.get("allow", ""))
        return problem(MethodNotAllowed(f"this address takes {allowed}"), headers)
    return problem(InvalidRequest(str(error.detail)[:200]), headers)


async def _unexpected(_: Request, error: Exception) -> Response:
    return problem(Internal("an unexpected error; it is in the cloud's log"))
