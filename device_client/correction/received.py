"""What became of one request: its outcome, its times, and its correction."""

from dataclasses import dataclass

from device_client.correction.http_answer import Answer
from shared.errors import WireError, WrongModel
from shared.outcomes import Outcome
from shared.wire import Layout, RowCorrection, Wire

ON_ITS_WAY = "no answer had come when the budget ran out"
BUSY = "the line was still busy with earlier clicks when the budget ran out"
REPLACED = "the request gave way to that of a later click"
CLOSED = "the link to the cloud was closed"
LONGEST_NAME = 64
"""Characters of what a server calls something that a message repeats."""


@dataclass(slots=True)
class Received:
    """What became of one request. With a correction, `outcome` is `applied`, and `reason` empty.

    Times are `time.perf_counter_ns`, 0 where it did not come that far. `received_ns` is when the
    device took the answer: one that came while nobody waited has lain there since.
    """

    ticket: int
    outcome: Outcome
    correction: RowCorrection | None = None
    sent_ns: int = 0
    uploaded_ns: int = 0
    first_byte_ns: int = 0
    received_ns: int = 0
    server_timing: str = ""
    """The cloud's own account of its time; see `cloud_times`."""
    reason: str = ""
    """Why there is no correction, in words."""


class CorrectionDecoder:
    """Turns answers for one model version, in one form on the wire, into corrections."""

    def __init__(self, wire: Wire, version: str, layout: Layout) -> None:
        self._wire, self._version, self._layout = wire, version, layout

    def decode(self, answer: Answer, position: int) -> RowCorrection:
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


def unsendable(ticket: int, error: WireError) -> Received:
    """The outcome of an H of our own that cannot be sent: the cloud has no part in it."""
    return Received(ticket, Outcome.BAD_PAYLOAD, reason=f"H was not sent: {error}")


def retry_seconds(value: str) -> float | None:
    """Retry-After in seconds; its other form, a date, is treated as absent."""
    return float(value) if value.isascii() and value.isdigit() and len(value) < 6 else None


def cloud_times(value: str) -> dict[str, float]:
    """`queue;dur=0.02, gcn;dur=0.11` to milliseconds by name; what does not parse is left out."""
    durations = {}
    for entry in value.split(","):
        name, _, duration = entry.strip().partition(";dur=")
        try:
            durations[name] = float(duration)
        except ValueError:
            continue
    return durations
