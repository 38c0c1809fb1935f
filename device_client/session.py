"""A session ranks for one user on one device, with or without the cloud."""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from device_client.bundle import Bundle
from device_client.correction.budget import Budget
from device_client.correction.link import CorrectionLink
from device_client.correction.received import Received
from device_client.items import ItemId, ItemIds, Rows, listed, row_array
from device_client.ranking import Ranking, Timeline
from device_client.scn import DeviceSCN, Graphs
from shared.outcomes import Outcome
from shared.wire import RowCorrection

if TYPE_CHECKING:  # it needs POSIX file locks, and a session without it does not
    from device_client.learning.learner import Learner
    from device_client.learning.store import ClickStore

_log = logging.getLogger(__name__)

NO_CLOUD = "no cloud is configured: the session was made without a link"
NONE_KNOWN = "none of the candidates is in the catalogue of this model: pull the bundle in use"


class Session:
    """A user's SCN, click history and link to the cloud (`link=None`: device only).

    With a `store`, it begins with the clicks in it and adds its own; `close` leaves it open.

    Items are catalogue ids, as text or as integers (`ItemId`). `click_row`, `preload_rows`,
    `rerank_rows` and `score_rows` take rows of the bundle's item table instead. Not thread-safe.
    Sessions of one process can share `Graphs`.
    """

    def __init__(
        self,
        bundle: Bundle | Graphs,
        link: CorrectionLink | None = None,
        budget: Budget | None = None,
        *,
        store: "ClickStore | None" = None,
    ) -> None:
        graphs = bundle if isinstance(bundle, Graphs) else Graphs(bundle)
        self.bundle, self.link, self.budget = graphs.bundle, link, budget or Budget()
        self.outcomes: Counter[Outcome] = Counter()
        """Number of reranks by outcome."""
        self._graphs, self._scn = graphs, DeviceSCN(graphs)
        self._ticket = 0
        self._clicked_ns = self._hidden_ns = 0
        self.store, self.restored, self.not_restored = store, 0, 0
        """The memory, its clicks that the session began with, and those of unknown items."""
        self.learner: Learner | None = None
        """Is told every click; it attaches itself (device_client/learning/learner.py)."""
        if link is not None:
            link.open()
        if store is not None:
            self._restore(store)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the link."""
        if self.link is not None:
            self.link.close()

    def click(self, item: ItemId) -> None:
        """Adds a click: computes H and requests its correction in the background.

        Raises UnknownItem if the item is not in the bundle and InvalidItem if it is not a
        catalogue id; the session is unchanged then.
        """
        clicked = time.perf_counter_ns()
        self._click(self.bundle.index(item), clicked)

    def click_row(self, row: int) -> None:
        """Like `click`, for a row of the item table (from 1)."""
        clicked = time.perf_counter_ns()
        self._click(self.bundle.check_row(row), clicked)

    @property
    def scn(self) -> DeviceSCN:
        """The user's SCN; another one after `forget`."""
        return self._scn

    @property
    def ticket(self) -> int:
        """The link's ticket of the latest request; 0 before the first one."""
        return self._ticket

    def preload(self, items: ItemIds, *, ask: bool = True) -> list[ItemId]:
        """Adds earlier clicks, oldest first, e.g. after a restart, and returns the skipped ones.

        Skips items that are not in the bundle, such as delisted ones. With `ask`, requests the
        correction for the last click, like `click`; the budget counts from then. Without `ask`
        (a click follows at once), the next rerank requests it if no click did. Raises InvalidItem
        before any change if an item is not a catalogue id.
        """
        ids = listed(items, "clicks")
        rows = self.bundle.rows(ids)
        in_catalogue = rows > 0
        self._preload(rows[in_catalogue], ask=ask)
        left_out = [item for item, is_known in zip(ids, in_catalogue, strict=True) if not is_known]
        if left_out:
            _log.warning(
                "%d of %d clicks of a history were left out: model %s does not know their items",
                len(left_out), len(ids), self.bundle.version,
            )  # fmt: skip
        return left_out

    def preload_rows(self, rows: Rows, *, ask: bool = True) -> None:
        """Like `preload`, for rows of the item table. Raises UnknownItem before any change."""
        array = row_array(rows, "clicks")
        for row in array:
            self.bundle.check_row(row)
        self._preload(array, ask=ask)

    def shown(self, items: ItemIds, clicked: Iterable[int] = ()) -> None:
        """Tells the store, if any, which list the app shows, top first: see `ClickStore.shown`."""
        if self.store is not None:
            self.store.shown(items, clicked)

    def forget(self) -> None:
        """Forgets the user: window, inner state, the correction on its way, and the store.

        Raises NotForgotten if a file of the store is still there; the session has forgotten then.
        """
        forget = self._forget if self.store is None else self.store.forget
        forget()

    def rerank(self, candidates: ItemIds) -> Ranking:
        """Ranks candidates for the clicks so far, waiting for a correction within the budget.

        A fault of the cloud or the network never raises: the ranking is then the local one, with
        the fault as its outcome and reason. A candidate given twice is ranked twice; unknown
        candidates come last. Raises InvalidItem if `candidates` is not a list of catalogue ids,
        e.g. a single id, a set, or floats.
        """
        begun = time.perf_counter_ns()
        ids = listed(candidates, "candidates")
        # The lookup of ids overlaps with the request in flight.
        return self._rerank(ids, self.bundle.rows(ids), begun)

    def rerank_rows(self, rows: Rows) -> Ranking:
        """Like `rerank`, for rows of the item table; rows outside it are unknown items."""
        begun = time.perf_counter_ns()
        array = row_array(rows, "candidates")
        return self._rerank(rows, array, begun)

    def scores(
        self, candidates: ItemIds, correction: RowCorrection | None = None
    ) -> NDArray[np.float32]:
        """Scores (N,) for the clicks so far, optionally with `correction`; -inf for unknown items.

        Before the first click every score is 0, which keeps the cloud's order.
        """
        rows = self.bundle.rows(listed(candidates, "candidates"))
        return self._scores(*self._known(rows), correction)

    def score_rows(
        self, rows: Rows, correction: RowCorrection | None = None
    ) -> NDArray[np.float32]:
        """The same for rows of the item table."""
        return self._scores(*self._known(row_array(rows, "candidates")), correction)

    def settle(self, timeout_s: float = 10.0) -> Received | None:
        """What became of the request for the clicks so far, however late it is.

        Asks if it was not asked; None without a link or a click. For measuring, not for serving.
        """
        if self.link is None or not self._scn.count:
            return None
        if not self._ticket:
            self._ask(self.link)
        return self.link.wait(self._ticket, time.perf_counter_ns() + int(timeout_s * 1e9))

    def _click(self, row: int, clicked_ns: int) -> None:
        self._scn.click(row)
        self._clicked_ns, self._hidden_ns = clicked_ns, time.perf_counter_ns()
        if self.link is not None:
            self._ask(self.link)
        if self.learner is not None:
            self.learner.note(row, self._scn)
        self._scn.prepare()  # while the correction is on its way
        if self.store is not None:
            self.store.click(self.bundle.item_id(row))

    def _restore(self, store: "ClickStore") -> None:
        """Begins with the clicks in the store, and forgets when it does."""
        clicks = store.clicks()
        self.not_restored = len(self.preload([item for item, _ in clicks]))
        self.restored = len(clicks) - self.not_restored
        store.watch_forget(self._forget)

    def _forget(self) -> None:
        self._scn = DeviceSCN(self._graphs)
        self._ticket = self._clicked_ns = self._hidden_ns = 0
        if self.link is not None:
            self.link.forget()
        if self.learner is not None:
            self.learner.forget()

    def _ask(self, link: CorrectionLink) -> None:
        self._ticket = link.ask(self._scn.hidden, self._scn.count - 1)

    def _preload(self, rows: NDArray[np.int64], *, ask: bool) -> None:
        if self.learner is not None:
            self.learner.note_earlier(rows)
        settings = self.bundle.manifest.model
        if settings.history == "window":
            rows = rows[-settings.length :]
        if not len(rows):
            return
        for row in rows:
            clicked = time.perf_counter_ns()
            self._scn.click(int(row))
        self._clicked_ns, self._hidden_ns = clicked, time.perf_counter_ns()
        self._ticket = 0
        if ask and self.link is not None:
            self._ask(self.link)
        self._scn.prepare()

    def _rerank(
        self, ids: Sequence[ItemId] | Rows, rows: NDArray[np.int64], begun_ns: int
    ) -> Ranking:
        timeline = Timeline(self._clicked_ns, self._hidden_ns)
        timeline.reranked_ns = begun_ns
        rows, unknown = self._known(rows)
        if unknown is not None and unknown.all():
            return self._none_known(ids, rows, timeline)
        received = self._wait()
        timeline.hidden_ns = self._hidden_ns  # a request made only now counts from now
        timeline.applied_ns = time.perf_counter_ns()
        scores = self._scores(rows, unknown, received.correction if received is not None else None)
        order = np.argsort(-scores, kind="stable")
        timeline.ranked_ns = time.perf_counter_ns()
        ranking = Ranking(ids, scores, order, None, timeline)
        if received is not None:
            ranking.outcome, ranking.reason = received.outcome, received.reason
            self.outcomes[received.outcome] += 1
            if received.sent_ns:
                timeline.note(received)
            elif received.outcome is Outcome.OFFLINE:
                self._ask_again()
        if unknown is not None:
            ranking.unknown = [ids[int(at)] for at in np.flatnonzero(unknown)]
        return ranking

    def _none_known(
        self, ids: Sequence[ItemId] | Rows, rows: NDArray[np.int64], timeline: Timeline
    ) -> Ranking:
        """Ranks candidates that are all unknown, without waiting for a correction."""
        timeline.applied_ns = timeline.ranked_ns = time.perf_counter_ns()
        scores, order = np.full(len(rows), -np.inf, np.float32), np.arange(len(rows))
        self.outcomes[Outcome.UNKNOWN_CANDIDATES] += 1
        return Ranking(
            ids, scores, order, Outcome.UNKNOWN_CANDIDATES, timeline, NONE_KNOWN, list(ids)
        )

    def _wait(self) -> Received | None:
        if not self._scn.count:
            return None
        if self.link is None:
            return Received(0, Outcome.OFFLINE, reason=NO_CLOUD)
        if not self._ticket:
            self._ask(self.link)
            self._hidden_ns = time.perf_counter_ns()
        return self.link.wait(self._ticket, self.budget.deadline_ns(self._hidden_ns))

    def _ask_again(self) -> None:
        """Requests the correction again for the next rerank if the last request never reached
        the cloud, which may be back before the next click."""
        if self.link is not None and self.link.takes_calls:
            self._ask(self.link)

    def _known(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
        """Returns rows that are safe to look up, and a mask (N,) of the unknown items."""
        items = self.bundle.manifest.items
        # `reduce` directly: the array methods add a Python call.
        if not len(rows) or (np.minimum.reduce(rows) >= 1 and np.maximum.reduce(rows) <= items):
            return rows, None
        unknown = (rows < 1) | (rows > items)
        return np.where(unknown, 0, rows), unknown

    def _scores(
        self,
        rows: NDArray[np.int64],
        unknown: NDArray[np.bool_] | None,
        correction: RowCorrection | None,
    ) -> NDArray[np.float32]:
        if not len(rows) or not self._scn.count:
            scores = np.zeros(len(rows), np.float32)
        else:
            scores = self._scn.scores(rows, correction)
        if unknown is not None:
            scores[unknown] = -np.inf
        return scores
