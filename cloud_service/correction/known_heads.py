"""Recognises request heads by their bytes, and prepares the response head for each of them.

The requests of one device differ only in H: their heads have the same bytes every time.
"""

import re
from typing import Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from cloud_service.correction.corrector_cache import Corrector, CorrectorCache
from cloud_service.correction.endpoint import PREFIX, SUFFIX, timing
from cloud_service.correction.request_head import RequestHead, read_head
from cloud_service.correction.scheduler import CorrectionReply
from cloud_service.http.problem_bytes import header_lines
from shared.errors import RecommendationError
from shared.manifest import VERSION_PATTERN
from shared.wire import CHECK_HEADER, FORMS

HEADS: Final = 4096
"""Largest number of heads in memory. When it is reached, all of them are dropped."""
_RESPONSE = b"%bserver-timing: %b\r\n" + CHECK_HEADER.encode() + b": %b\r\n%b%b"
_URL = re.compile((re.escape(PREFIX) + f"({VERSION_PATTERN.strip('^$')})" + SUFFIX).encode())
_SPECIAL = {b"expect", b"transfer-encoding", b"upgrade", b"connection"}


class KnownHead:
    """One request head, parsed, and the parts of its response head that never change."""

    def __init__(
        self, head: bytes, version: str, request: RequestHead, corrector: Corrector
    ) -> None:
        self.head, self.version, self.request = head, version, request
        self.size = len(head) + request.length
        """Size of the whole request in bytes."""
        content_type = FORMS[request.form].correction_type.encode()
        opening = b"content-type: %s\r\nmodel-version: %s\r\n" % (
            content_type,
            corrector.version_header,
        )
        self._opening = STATUS_LINE[200] + opening
        self._length = b"content-length: %d\r\n\r\n" % corrector.answer_bytes(request.form)
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_end = b""

    def response(self, reply: CorrectionReply, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Returns the response as bytes.

        `headers` are those of every response: uvicorn makes a new list of them each second.
        """
        if headers is not self._headers:
            self._headers, self._head_end = headers, header_lines(headers) + self._length
        check = reply.check.encode()
        return _RESPONSE % (self._opening, timing(reply), check, self._head_end, reply.body)


class KnownHeads:
    """The request heads that take the short cut, by their bytes."""

    def __init__(self, correctors: CorrectorCache, *, short_cut: bool) -> None:
        self._correctors, self._short_cut = correctors, short_cut
        self._heads: dict[bytes, KnownHead] = {}

    def find(self, head: bytes) -> KnownHead | None:
        """Returns the parsed head, or None if the request must take the general route."""
        return self._heads.get(head) or self._parse(head)

    def _parse(self, head: bytes) -> KnownHead | None:
        if not self._short_cut:
            return None
        reader = _HeadReader()
        parser = httptools.HttpRequestParser(reader)
        try:
            parser.feed_data(head)
            request = read_head(reader.headers)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, RecommendationError):
            return None
        url = _URL.fullmatch(reader.url)
        is_plain = reader.is_whole and not {name for name, _ in reader.headers} & _SPECIAL
        if url is None or not is_plain or not parser.should_keep_alive():
            return None
        version = url.group(1).decode()
        corrector = self._correctors.get(version)
        if corrector is None or request.length != corrector.hidden_bytes(half=request.hidden_half):
            return None
        if len(self._heads) >= HEADS:
            self._heads.clear()
        known_head = KnownHead(head, version, request, corrector)
        self._heads[head] = known_head
        return known_head


class _HeadReader:
    """Receives the callbacks of llhttp for one head."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_whole = False
        """True if the head has ended and no body followed: llhttp sees the end where we do."""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.is_whole = True

    def on_body(self, data: bytes) -> None:
        self.is_whole = False
