"""Problem documents as bytes, for responses that FastAPI does not write."""

from functools import lru_cache
from http import HTTPStatus

from cloud_service.http.problems import MethodNotAllowed, RequestTimeout
from shared.errors import RecommendationError
from shared.problems import MEDIA_TYPE as PROBLEM_TYPE
from shared.problems import TYPE_PREFIX, Problem


def header_lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Encodes headers as HTTP/1.1 header lines."""
    return b"".join(b"%s: %s\r\n" % header for header in headers)


def refusal(error: RecommendationError) -> tuple[bytes, bytes]:
    """Returns the encoded headers (without Content-Length) and the body for `error`."""
    return _refusal(type(error), error.detail)  # type: ignore[arg-type]  # classes are hashable


# Cached: an overloaded cloud sends the same problem thousands of times a second.
@lru_cache(maxsize=256)
def _refusal(error_type: type[RecommendationError], detail: str) -> tuple[bytes, bytes]:
    return header_lines(problem_headers(error_type)), problem_body(error_type, detail)


def problem_headers(error_type: type[RecommendationError]) -> list[tuple[bytes, bytes]]:
    """Returns the headers of a problem, without Content-Length."""
    headers = [(b"content-type", PROBLEM_TYPE.encode())]
    if error_type.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append((b"retry-after", b"1"))
    if issubclass(error_type, RequestTimeout):
        headers.append((b"connection", b"close"))
    if issubclass(error_type, MethodNotAllowed):
        headers.append((b"allow", b"POST"))
    return headers


def problem_body(error_type: type[RecommendationError], detail: str) -> bytes:
    """Encodes a problem document as JSON."""
    document = Problem(
        type=TYPE_PREFIX + error_type.code,
        title=error_type.title,
        status=error_type.status,
        detail=detail,
    )
    return document.model_dump_json().encode()
