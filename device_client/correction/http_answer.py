"""Reads HTTP/1.1 answers: compares each with the last one and parses it with llhttp if new."""

import time
from dataclasses import dataclass
from http import HTTPStatus

import httptools

from shared.wire import CHECK_HEADER, VERSION_HEADER

HEAD_LIMIT = 16 * 1024
"""Largest accepted head of an answer, in bytes."""
ERROR_BODY_LIMIT = 64 * 1024
TIMING_MARK = b"\r\nserver-timing: "
CHECK_MARK = b"\r\n" + CHECK_HEADER.encode() + b": "
CHECK_DIGITS = 8
TLS_ALERT = b"\x15"
"""First byte of a TLS server's reply to plain HTTP."""


class BadAnswer(Exception):
    """The received bytes are not an HTTP answer, or exceed the limit."""


@dataclass(slots=True)
class Answer:
    """One answer, with the times of its parts (`time.perf_counter_ns`)."""

    status: int
    body: bytes
    content_type: str
    version: str
    server_timing: str
    retry_after: str
    check: str = ""
    """The header Correction-Check; empty if absent."""
    sent_ns: int = 0
    uploaded_ns: int = 0
    first_byte_ns: int = 0
    received_ns: int = 0


class AnswerReader:
    """Reads one answer after another into one buffer.

    All good answers of a connection have the same head but for its times, so one that came whole
    is compared with the last; only what differs goes through llhttp.
    """

    def __init__(self, body_limit: int) -> None:
        self.buffer = bytearray(HEAD_LIMIT)
        self.received = self._first_ns = 0
        self._limit = body_limit
        self._callbacks: _Callbacks | None = None
        self._template: AnswerTemplate | None = None

    def begin(self) -> None:
        """Prepares for the next answer."""
        self.received = self._first_ns = 0
        self._callbacks = None

    def take(self, count: int) -> tuple[Answer, bool] | None:
        """Returns (answer, keep-alive) if the `count` new bytes in the buffer complete the answer,
        else None. Raises BadAnswer."""
        alone = not self.received
        self.received += count
        if alone:
            self._first_ns = time.perf_counter_ns()
            if self._template is not None and self._template.is_like(self.buffer, count):
                return self._template.answer(self.buffer, count, self._first_ns), True
        if self._callbacks is None:
            self._callbacks = _Callbacks(self._limit)
        parsed = self._callbacks
        parsed.feed(memoryview(self.buffer)[:count], self.received)
        if not parsed.complete:
            return None
        answer = parsed.answer(self._first_ns)
        if alone and parsed.plain and answer.status == HTTPStatus.OK:
            self._template = AnswerTemplate(bytes(self.buffer[:count]), answer)
        return answer, parsed.keep_alive


class AnswerTemplate:
    """The last complete answer: the next is expected to differ only in Server-Timing,
    Correction-Check and body."""

    def __init__(self, raw: bytes, answer: Answer) -> None:
        self._size, self._body = len(raw), len(raw) - len(answer.body)
        self._like = answer
        mark = raw.lower().find(TIMING_MARK, 0, self._body)
        self._from = mark + len(TIMING_MARK) if mark >= 0 else self._body
        self._to = raw.find(b"\r\n", self._from) if mark >= 0 else self._body
        self._between = raw[self._to : self._to + len(CHECK_MARK)]
        self._check = self._to + len(CHECK_MARK)
        self._checked = self._between.lower() == CHECK_MARK and self._check < self._body
        rest_start = self._check + CHECK_DIGITS if self._checked else self._to
        self._rest, self._before, self._after = (
            rest_start,
            raw[: self._from],
            raw[rest_start : self._body],
        )

    def is_like(self, buffer: bytearray, count: int) -> bool:
        """True if the answer in `buffer` differs from the last only in the expected places."""
        return (
            count == self._size
            and buffer.startswith(self._after, self._rest)
            and buffer.startswith(self._before)
            and (not self._checked or buffer.startswith(self._between, self._to))
        )

    def answer(self, buffer: bytearray, count: int, first_ns: int) -> Answer:
        """Builds the answer in `buffer`, for which `is_like` is true."""
        like = self._like
        timing = buffer[self._from : self._to].decode("latin-1")
        body = bytes(memoryview(buffer)[self._body : count])
        check = buffer[self._check : self._rest].decode("latin-1") if self._checked else ""
        return Answer(
            like.status, body, like.content_type, like.version, timing, like.retry_after, check,
            first_byte_ns=first_ns, received_ns=time.perf_counter_ns(),
        )  # fmt: skip


class _Callbacks:
    """Receives the callbacks of llhttp for one answer after another."""

    def __init__(self, body_limit: int) -> None:
        self._limit, self._size = body_limit, 0
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self.complete = self.keep_alive = self._surplus = False
        self._interim = 0
        self._parser = httptools.HttpResponseParser(self)

    @property
    def plain(self) -> bool:
        """True if the body is exactly the last bytes of the message, unencoded."""
        length = self._headers.get(b"content-length")
        return self.keep_alive and self._interim == 0 and length == b"%d" % self._size

    def feed(self, data: memoryview, received: int) -> None:
        """Parses. Raises BadAnswer."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if data[:1] == TLS_ALERT and received == len(data):
                raise BadAnswer("the cloud speaks TLS: is its address https://?") from error
            raise BadAnswer(f"the answer is not HTTP: {error}") from error
        if self._surplus:
            raise BadAnswer("more came than one answer")
        if self._size > self._limit or received > self._limit + HEAD_LIMIT:
            raise BadAnswer(f"the answer has more than {self._limit} bytes")

    def answer(self, first_ns: int) -> Answer:
        """The parsed answer."""
        return Answer(
            self._parser.get_status_code(),
            b"".join(self._body),
            self._text(b"content-type"),
            self._text(VERSION_HEADER.encode()),
            self._text(b"server-timing"),
            self._text(b"retry-after"),
            self._text(CHECK_HEADER.encode()),
            first_byte_ns=first_ns,
            received_ns=time.perf_counter_ns(),
        )

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        # Read here: llhttp resets it when the message is complete.
        self.keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._limit:
            self._body.append(data)

    def on_message_begin(self) -> None:
        self._surplus = self.complete

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < HTTPStatus.OK:
            self._headers.clear()  # an interim answer (100, 103): the one that counts follows
            self._interim += 1
            return
        self.complete = True

    def _text(self, name: bytes) -> str:
        return self._headers.get(name, b"").decode("latin-1").strip()
