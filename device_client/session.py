"""One user on one device: clicks in, rankings out, whatever the cloud does."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from device_client.budget import Budget
from device_client.bundle import Bundle
from device_client.link import CorrectionLink, Received, cloud_times
from device_client.scn import DeviceSCN, Graphs
from shared.errors import UnknownItem
from shared.outcomes import Outcome
from shared.wire import RowCorrection

Candidates = Sequence[int | str] | NDArray[np.int64]


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

    candidates: Candidates
    scores: NDArray[np.float32]
    """(N,) one per candidate, in the order they were given; -inf for unknown items."""
    order: NDArray[np.int64]
    """(N,) places in `candidates`, best first; ties keep the cloud's order."""
    outcome: Outcome | None
    """What became of the correction; None before the first click, when there is none to ask."""
    timeline: Timeline = field(default_factory=Timeline)

    @property
    def items(self) -> list[int | str]:
        """The candidates, best first."""
        return [self.candidates[int(place)] for place in self.order]


class Session:
    """A user's SCN, its history, and its link to the cloud (None: the device is on its own).

    Items are catalogue ids (str) or item numbers of the bundle (int). Not for use from several
    threads at once. Sessions of one process share `Graphs`.
    """

    def __init__(
        self,
        bundle: Bundle | Graphs,
        link: CorrectionLink | None = None,
        budget: Budget | None = None,
    ) -> None:
        graphs = bundle if isinstance(bundle, Graphs) else Graphs(bundle)
        self.bundle, self.link, self.budget = graphs.bundle, link, budget or Budget()
        self.outcomes: Counter[Outcome] = Counter()
        """How often a rerank had each outcome."""
        self._scn = DeviceSCN(graphs)
        self._ticket = 0
        self._clicked_ns = self._hidden_ns = 0
        if link is not None:
            link.open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the link."""
        if self.link is not None:
            self.link.close()

    def click(self, item: int | str) -> None:
        """Takes a click: computes H and asks for its correction in the background.

        Raises UnknownItem, changing nothing, where the bundle does not know the item.
        """
        clicked = time.perf_counter_ns()
        self._scn.click(self.bundle.index(item))
        self._clicked_ns, self._hidden_ns = clicked, time.perf_counter_ns()
        if self.link is not None:
            self._ticket = self.link.ask(self._scn.hidden, self._scn.count - 1)
        self._scn.prepare()  # while the correction is on its way

    @property
    def ticket(self) -> int:
        """The link's number for the request of the clicks so far; 0 if none was made."""
        return self._ticket

    def preload(self, items: Sequence[int | str]) -> None:
        """Takes earlier clicks, oldest first, without asking for corrections.

        Raises UnknownItem before any of them is taken.
        """
        settings = self.bundle.manifest.model
        indices = [self.bundle.index(item) for item in items]
        if settings.history == "window":
            indices = indices[-settings.length :]
        for index in indices:
            self._scn.click(index)
        self._ticket = 0

    def rerank(self, candidates: Candidates) -> Ranking:
        """Ranks candidates for the clicks so far, waiting for a correction within the budget.

        A fault of the cloud or the network never raises: it becomes the outcome, and the
        ranking is the local one.
        """
        timeline = Timeline(self._clicked_ns, self._hidden_ns)
        timeline.reranked_ns = time.perf_counter_ns()
        received = self._wait()
        outcome = received.outcome if received is not None else None
        timeline.applied_ns = time.perf_counter_ns()
        scores = self.scores(candidates, received.correction if received is not None else None)
        order = np.argsort(-scores, kind="stable")
        timeline.ranked_ns = time.perf_counter_ns()
        if received is not None:
            self.outcomes[received.outcome] += 1
            if received.sent_ns:
                _note(timeline, received)
        return Ranking(candidates, scores, order, outcome, timeline)

    def scores(
        self, candidates: Candidates, correction: RowCorrection | None = None
    ) -> NDArray[np.float32]:
        """Scores (N,) for the clicks so far, with `correction` or without.

        Before the first click every score is 0, which keeps the cloud's order.
        """
        numbers, unknown = self._numbers(candidates)
        if not len(numbers) or not self._scn.count:
            scores = np.zeros(len(numbers), np.float32)
        else:
            scores = self._scn.scores(numbers, correction)
        if unknown is not None:
            scores[unknown] = -np.inf
        return scores

    def settle(self, timeout_s: float = 10.0) -> Received | None:
        """What became of the request for the clicks so far, however late it is.

        Asks if it was not asked; None without a link or a click. For measuring, not for serving.
        """
        if self.link is None or not self._scn.count:
            return None
        if not self._ticket:
            self._ticket = self.link.ask(self._scn.hidden, self._scn.count - 1)
        return self.link.wait(self._ticket, time.perf_counter_ns() + int(timeout_s * 1e9))

    def _wait(self) -> Received | None:
        if not self._scn.count:
            return None
        if self.link is None or not self._ticket:
            return Received(0, Outcome.OFFLINE)
        return self.link.wait(self._ticket, self.budget.deadline_ns(self._hidden_ns))

    def _numbers(
        self, candidates: Candidates
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
        """Item numbers, and which are unknown to this bundle (newer than it, say)."""
        if not isinstance(candidates, np.ndarray) or _is_no_list_of_numbers(candidates):
            candidates = np.array([self._number(item) for item in candidates], np.int64)
        numbers = np.ascontiguousarray(candidates, np.int64)
        if not len(numbers) or (numbers.min() >= 1 and numbers.max() <= self.bundle.manifest.items):
            return numbers, None
        unknown = (numbers < 1) | (numbers > self.bundle.manifest.items)
        return np.where(unknown, 0, numbers), unknown

    def _number(self, item: int | str) -> int:
        try:
            return self.bundle.index(item)
        except UnknownItem:
            return 0


def _is_no_list_of_numbers(array: NDArray[np.generic]) -> bool:
    return array.ndim != 1 or array.dtype.kind not in "iu"


def _note(timeline: Timeline, received: Received) -> None:
    timeline.sent_ns, timeline.uploaded_ns = received.sent_ns, received.uploaded_ns
    timeline.first_byte_ns, timeline.received_ns = received.first_byte_ns, received.received_ns
    timeline.server_timing = received.server_timing
