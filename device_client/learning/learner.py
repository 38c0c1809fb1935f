"""Learns the patch of a session's user on the device, in steps between clicks.

    learner = Learner(session)          goes on with what the session's store holds
    learner.learn(budget_ms=2)          when the app is idle: some steps of a round, then returns

A round (learning_round.py) trains a patch on the user's clicks but for the newest, and the patch
is used only if it ranks these better. Nothing in here sends anything. In the session's thread a
click waits for one step at most. Without a store, which is not thread-safe, `learn` may run in
another thread: then a click does not wait at all.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from device_client.learning.learning_round import DrawNegatives, LearningRound, held_out
from device_client.learning.memory import DeviceMemory
from device_client.learning.own_clicks import OwnClicks
from device_client.learning.patch import AppliedPatch, Basis, Patch, patch_settings
from shared.errors import PatchInvalid, StalePatch
from shared.outcomes import LearningOutcome

if TYPE_CHECKING:
    from device_client.scn import DeviceSCN
    from device_client.session import Session

_log = logging.getLogger(__name__)
Floats = NDArray[np.float32]

STATE: Final = "patch"
"""The name of the patch among the states of a store."""


class PatchStore(Protocol):
    """What a learner needs of a store: `ClickStore` has it."""

    def clicks(self) -> Iterable[tuple[str, int]]:
        """Pairs of catalogue id and time, newest last."""

    def save_state(self, name: str, content: bytes) -> bool:
        """Writes a state; False if it could not be."""

    def load_state(self, name: str) -> bytes | None:
        """A state; None if it is absent or damaged."""

    def remove_state(self, name: str) -> bool:
        """Removes a state."""


class Learner:
    """What one user's device learns: the memory of what was clicked, and the patch.

    Attaches itself to the session, which tells it every click and ranks with what it learns. A
    bundle without learning gives a learner that does nothing.
    """

    def __init__(
        self,
        session: "Session",
        store: PatchStore | None = None,
        draw: DrawNegatives | None = None,
    ) -> None:
        """`store` is the session's by default; without one, all is forgotten with the session.

        `draw` draws the negatives of a round; at random by default.

        Raises BundleInvalid if the files of the bundle do not fit its settings.
        """
        bundle = session.bundle
        self._session, self._bundle = session, bundle
        self._store: PatchStore | None = store if store is not None else session.store
        self.outcomes: Counter[LearningOutcome] = Counter()
        """Number of calls of `learn` by outcome."""
        self.patch: Patch | None = None
        """The patch that rankings use."""
        self._settings = patch_settings(bundle)
        learning = bundle.manifest.learning
        self._share = 1.0 if learning is None else learning.corrected_share
        self._memory: DeviceMemory | None = None
        if learning is not None and learning.memory is not None:
            self._memory = DeviceMemory(learning.memory, bundle.manifest.items + 1)
        self._round: LearningRound | None = None
        self._basis: Basis | None = None
        window = 1
        if self._settings is not None:
            window = self._settings.window + held_out(self._settings.window)
            if self._settings.form == "metapatch":
                self._basis = Basis(bundle, self._settings)
            self._round = LearningRound(bundle, self._settings, self._basis, draw)
        self._clicks = OwnClicks(session.scn.graphs, window)
        # Appending to a deque is atomic: a click needs no lock.
        self._noted: deque[tuple[int, Floats | None]] = deque()
        self._work: Generator[None, None, LearningOutcome] | None = None
        self._learned_at = 0
        """Clicks there were when the last round began."""
        self._lock = threading.Lock()
        self._restore()
        session.learner = self
        self._attach()

    def learn(self, budget_ms: float) -> LearningOutcome | None:
        """Works on the round for `budget_ms`, and a step (under 2 ms) longer at most.

        Begins a round if clicks have come since the last one. Returns None if there is nothing to
        do, OUT_OF_TIME if the round is not over: the next call goes on with it.
        """
        deadline = time.perf_counter_ns() + int(budget_ms * 1e6)
        while True:
            with self._lock:
                if not self._begin():
                    return None
                outcome = self._advance()
            if outcome is None and time.perf_counter_ns() >= deadline:
                outcome = LearningOutcome.OUT_OF_TIME
            if outcome is not None:
                self.outcomes[outcome] += 1
                return outcome

    def note(self, row: int, scn: "DeviceSCN") -> None:
        """Takes a click that `scn` has read, but has not prepared a ranking for: the session calls
        it after H has left."""
        if self._memory is not None:
            self._memory.note(row)
        if self._round is not None:
            # `prepare` has not run again: this is the state before the click. A first click has
            # none that is known here.
            state = scn.user.copy() if scn.user is not None and scn.count > 1 else None
            self._noted.append((row, state))

    def note_earlier(self, rows: NDArray[np.int64]) -> None:
        """Takes earlier clicks, oldest first, which came without their states."""
        if self._memory is not None:
            self._memory.note_all(rows)
        if self._round is not None:
            self._noted.extend((row, None) for row in rows.tolist())

    def forget(self) -> None:
        """Forgets clicks, states and patch, and a round that is not over; the store is not
        touched."""
        with self._lock:
            self._work = self.patch = None
            self._learned_at = 0
            self._noted.clear()
            self._clicks.forget()
            if self._round is not None:
                self._round.forget()
            if self._memory is not None:
                self._memory.forget()
            self._attach()

    def _begin(self) -> bool:
        """Begins a round if none is under way and there are new clicks."""
        if self._round is None:
            return False
        while self._noted:
            self._clicks.add(*self._noted.popleft())
        if self._work is None:
            if self._clicks.count == self._learned_at:
                return False
            self._learned_at = self._clicks.count
            self._work = self._round.run(self._clicks, self.patch)
        return True

    def _advance(self) -> LearningOutcome | None:
        """Does one step; the outcome if it was the last one."""
        assert self._work is not None
        assert self._round is not None
        try:
            next(self._work)
        except StopIteration as end:
            self._work = None
            outcome: LearningOutcome = end.value
            self._take(outcome, self._round.best)
            return outcome
        return None

    def _take(self, outcome: LearningOutcome, best: Floats | None) -> None:
        """Uses and stores the numbers that a round found best; None is no patch."""
        assert self._settings is not None
        if outcome not in (LearningOutcome.IMPROVED, LearningOutcome.KEPT):
            return
        if outcome is LearningOutcome.IMPROVED:
            assert best is not None
            self.patch = Patch(self._settings.form, best, self._bundle.version)
            if self._store is not None:
                self._store.save_state(STATE, self.patch.to_bytes())
        elif best is None and self.patch is not None:
            self.patch = None
            if self._store is not None:
                self._store.remove_state(STATE)
        self._attach()

    def _attach(self) -> None:
        """Lets the session rank with what was learned."""
        scn = self._session.scn
        scn.offsets = None if self._memory is None else self._memory.offsets
        if self.patch is None:
            scn.patch = None
        elif self._basis is not None:
            matrix, shift = self._basis.map(self.patch.numbers)
            scn.patch = AppliedPatch(shift, matrix, self._share)
        else:
            scn.patch = AppliedPatch(self.patch.numbers[None], None, self._share)

    def _restore(self) -> None:
        """Takes clicks and patch from the store."""
        if self._store is None:
            return
        rows = self._bundle.rows([item for item, _ in self._store.clicks()])
        self.note_earlier(rows[rows > 0])
        content = self._store.load_state(STATE) if self._settings is not None else None
        if content is None:
            return
        try:
            patch = Patch.from_bytes(content, self._bundle)
        except StalePatch:
            self.outcomes[LearningOutcome.STALE_BUNDLE] += 1
        except PatchInvalid as error:
            _log.warning("the stored patch is not used: %s", error)
        else:
            self.patch = patch if patch.adopted else None
