"""What became of one request: its outcome, its times, and its correction."""

from dataclasses import dataclass

from shared.errors import WireError
from shared.outcomes import Outcome
from shared.wire import RowCorrection

ON_ITS_WAY = "no answer had come when the budget ran out"
BUSY = "the line was still busy with earlier clicks when the budget ran out"
REPLACED = "the request gave way to that of a later click"
CLOSED = "the link to the cloud was closed"


@dataclass(slots=True)
class Received:
    """What became of one request. With a correction, `outcome` is `applied`, and `reason` empty.

    Times are `time.perf_counter_ns`, 0 for a step that was not reached. `received_ns` is when the
    device read the answer, which can be later than its arrival if no rerank was waiting.
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


def unsendable(ticket: int, error: WireError) -> Received:
    """The outcome of an H that cannot be sent because its own values are invalid."""
    return Received(ticket, Outcome.BAD_PAYLOAD, reason=f"H was not sent: {error}")


def retry_seconds(value: str) -> float | None:
    """Retry-After in seconds; None if absent or in its other form, a date."""
    return float(value) if value.isascii() and value.isdigit() and len(value) < 6 else None


def cloud_times(value: str) -> dict[str, float]:
    """`queue;dur=0.02, gcn;dur=0.11` to milliseconds by name; leaves out what does not parse."""
    durations = {}
    for entry in value.split(","):
        name, _, duration = entry.strip().partition(";dur=")
        try:
            durations[name] = float(duration)
        except ValueError:
            continue
    return durations
