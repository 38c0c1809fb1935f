"""What a rerank gives: a ranking, how it came about, and when."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from device_client.correction.received import Received, cloud_times
from device_client.items import ItemId
from shared.outcomes import Outcome


@dataclass(slots=True)
class Timeline:
    """When it happened, in `time.perf_counter_ns`; 0 for what did not happen."""

    clicked_ns: int = 0
    hidden_ns: int = 0
    sent_ns: int = 0
    uploaded_ns: int = 0
    first_byte_ns: int = 0
    received_ns: int = 0
    reranked_ns: int = 0
    """When `rerank` was called."""
    applied_ns: int = 0
    """When waiting ended and scoring began, with the correction or without."""
    ranked_ns: int = 0
    server_timing: str = ""

    def note(self, received: Received) -> None:
        """Takes over the moments of a request."""
        self.sent_ns, self.uploaded_ns = received.sent_ns, received.uploaded_ns
        self.first_byte_ns, self.received_ns = received.first_byte_ns, received.received_ns
        self.server_timing = received.server_timing

    @property
    def queue_ms(self) -> float:
        """How long the request waited in the cloud, by the cloud's own account."""
        return cloud_times(self.server_timing).get("queue", 0.0)

    @property
    def compute_ms(self) -> float:
        """How long it was computed there."""
        return cloud_times(self.server_timing).get("gcn", 0.0)


@dataclass(slots=True)
class Ranking:
    """What `rerank` answers: always a ranking, and how it came about."""

    candidates: Sequence[ItemId] | NDArray[np.integer]
    """As they were given; rows, after `rerank_rows`."""
    scores: NDArray[np.float32]
    """(N,) one per candidate, in the order they were given; -inf for unknown items. `ranked` has
    items and scores side by side."""
    order: NDArray[np.int64]
    """(N,) places in `candidates`, best first; ties keep the order given, the cloud's."""
    outcome: Outcome | None
    """What became of the correction; None before the first click, when there is none to ask."""
    timeline: Timeline = field(default_factory=Timeline)
    reason: str = ""
    """Why no correction was applied, in words; empty where one was, and before the first click."""
    unknown: Sequence[ItemId] = ()
    """The candidates that this model does not know: they come last."""

    @property
    def items(self) -> list[ItemId]:
        """The candidates, best first."""
        return [self.candidates[int(position)] for position in self.order]

    @property
    def ranked(self) -> list[tuple[ItemId, float]]:
        """Each candidate beside its own score, best first."""
        return [(self.candidates[int(at)], float(self.scores[at])) for at in self.order]
