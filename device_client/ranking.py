"""The result of a rerank: ranking, outcome of the correction, and timeline."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from device_client.correction.received import Received, cloud_times
from device_client.items import ItemId
from shared.outcomes import Outcome


@dataclass(slots=True)
class Timeline:
    """Times of the steps (`time.perf_counter_ns`); 0 for a step that did not happen."""

    clicked_ns: int = 0
    hidden_ns: int = 0
    sent_ns: int = 0
    uploaded_ns: int = 0
    first_byte_ns: int = 0
    received_ns: int = 0
    reranked_ns: int = 0
    """When `rerank` was called."""
    applied_ns: int = 0
    """When waiting ended and scoring began, with or without the correction."""
    ranked_ns: int = 0
    server_timing: str = ""

    def note(self, received: Received) -> None:
        """Copies the times of a request."""
        self.sent_ns, self.uploaded_ns = received.sent_ns, received.uploaded_ns
        self.first_byte_ns, self.received_ns = received.first_byte_ns, received.received_ns
        self.server_timing = received.server_timing

    @property
    def queue_ms(self) -> float:
        """Time in the cloud's queue, in ms, as the cloud reports it."""
        return cloud_times(self.server_timing).get("queue", 0.0)

    @property
    def compute_ms(self) -> float:
        """Time of the cloud's computation, in ms, as the cloud reports it."""
        return cloud_times(self.server_timing).get("gcn", 0.0)


@dataclass(slots=True)
class Ranking:
    """The result of `rerank`: a ranking, and whether it is corrected, with the reason."""

    candidates: Sequence[ItemId] | NDArray[np.integer]
    """The candidates as passed; rows after `rerank_rows`."""
    scores: NDArray[np.float32]
    """(N,) one per candidate, in the order of `candidates`; -inf for unknown items. `ranked`
    pairs items with scores."""
    order: NDArray[np.int64]
    """(N,) positions in `candidates`, best first; ties keep the order of `candidates`."""
    outcome: Outcome | None
    """Outcome of the correction; None before the first click, without a request."""
    timeline: Timeline = field(default_factory=Timeline)
    reason: str = ""
    """Why no correction was applied; empty if one was, and before the first click."""
    unknown: Sequence[ItemId] = ()
    """Candidates that are not in the catalogue; they are ranked last."""

    @property
    def items(self) -> list[ItemId]:
        """The candidates, best first."""
        return [self.candidates[int(position)] for position in self.order]

    @property
    def ranked(self) -> list[tuple[ItemId, float]]:
        """(candidate, score) pairs, best first."""
        return [(self.candidates[int(at)], float(self.scores[at])) for at in self.order]
