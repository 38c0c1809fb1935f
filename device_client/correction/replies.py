"""Turns answers and failures of requests into outcomes, and keeps the breaker up to date."""

import time
from http import HTTPStatus
from typing import NamedTuple

from device_client.correction.breaker import Breaker
from device_client.correction.http_answer import Answer
from device_client.correction.received import Received, retry_seconds, unsendable
from device_client.correction.sockets import Address
from device_client.correction.trouble import Trouble, refusal
from shared.errors import WireError, WrongModel
from shared.outcomes import Outcome
from shared.reasons import reason_of
from shared.wire import Layout, RowCorrection, Wire

LONGEST_NAME = 64
"""Characters of a name chosen by a server that a message repeats."""
_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE)


class RequestInFlight(NamedTuple):
    """A request that was sent and not yet answered."""

    ticket: int
    position: int
    give_up: float
    """When it times out (`time.monotonic`)."""


class ReplyInterpreter:
    """Interprets the replies to requests for one model version, in one form on the wire.

    Whoever owns the connection calls it, so it needs no lock. Every failure counts for the
    breaker and is logged by `Trouble`; every good answer closes the breaker.
    """

    def __init__(
        self, wire: Wire, version: str, layout: Layout, address: Address, breaker: Breaker
    ) -> None:
        self._wire, self._version, self._layout = wire, version, layout
        self._address = address
        self._trouble = Trouble(time.monotonic, address)
        self.breaker = breaker

    def interpret(self, ticket: int, position: int, answer: Answer) -> Received:
        """The outcome of `answer` to the request `ticket`, whose last click is at `position`."""
        if answer.status != HTTPStatus.OK:
            gone = answer.status in _GONE
            outcome = Outcome.WRONG_MODEL if gone else Outcome.REFUSED
            after_s = None if gone else retry_seconds(answer.retry_after)
            return self._failed(ticket, outcome, refusal(answer.status, answer.body), after_s)
        try:
            correction = self._decode(answer, position)
        except WrongModel as error:
            return self._failed(ticket, Outcome.WRONG_MODEL, str(error))
        except WireError as error:
            return self._failed(ticket, Outcome.BAD_PAYLOAD, str(error))
        self.breaker.succeeded()
        if self._trouble.reason:
            self._trouble.ended()
        return Received(
            ticket,
            Outcome.APPLIED,
            correction,
            answer.sent_ns,
            answer.uploaded_ns,
            answer.first_byte_ns,
            answer.received_ns,
            answer.server_timing,
        )

    def fault(self, ticket: int, error: Exception) -> Received:
        """The outcome of a request that ended in `error` instead of an answer."""
        if isinstance(error, WireError):  # H itself is at fault: the breaker does not count it
            return unsendable(ticket, error)
        if isinstance(error, OSError):
            timeout = isinstance(error, TimeoutError)
            reason = reason_of(error, self._address.host, self._address.port)
            return self._failed(ticket, Outcome.TIMEOUT if timeout else Outcome.OFFLINE, reason)
        # BadAnswer or an unforeseen error: the rerank must go on.
        return self._failed(ticket, Outcome.BAD_PAYLOAD, str(error) or type(error).__name__)

    def paused(self, ticket: int) -> Received:
        """The outcome of a request that was not sent because the breaker is open."""
        reason = self._trouble.paused(self.breaker.left_s, self.breaker.failures)
        return Received(ticket, Outcome.OFFLINE, reason=reason)

    def _decode(self, answer: Answer, position: int) -> RowCorrection:
        """The correction of the click at `position`. Raises WrongModel or another WireError."""
        if answer.version != self._version:
            raise WrongModel(
                f"model {self._version} was asked for a correction, and the answer is of "
                f"{answer.version[:LONGEST_NAME] or 'a model that it does not name'}"
            )
        if answer.content_type != self._layout.correction_type:
            raise WireError(
                f"the answer is {answer.content_type[:LONGEST_NAME] or 'of no type'}, not "
                f"{self._layout.correction_type}"
            )
        if self._layout.row:
            return self._wire.decode_row(answer.body)
        return self._wire.decode_row_at(answer.body, position)

    def _failed(
        self, ticket: int, outcome: Outcome, reason: str, retry_after_s: float | None = None
    ) -> Received:
        self.breaker.failed(retry_after_s)
        self._trouble.began(outcome, reason, self.breaker.left_s)
        return Received(ticket, outcome, reason=reason)
