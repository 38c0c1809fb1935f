"""The rows of the comparison: what each device has, its settings chosen between t1 and t2."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Final

import numpy as np
from torch import Tensor

from cloud_service.recommender.learning.amortised import (
    amortised_shifts,
    fit_amortised,
    history_sums,
)
from cloud_service.recommender.learning.events import Events, Int64
from cloud_service.recommender.learning.memory import ItemMemory, fit_memory
from cloud_service.recommender.models.cocorrrec import ProjectedCoCorrRec
from experiments.learning.corrections import corrections_at
from experiments.learning.fleet_state import Learned, learn, learning_moments
from experiments.learning.measure import Parts, click_ranks, gains
from experiments.learning.samples import Matching, Shelf, fetch, pool_of
from experiments.learning.spans import BUNDLE, CHOICE, TEST, Spans, moments_after_bundle
from shared.learning import PatchSettings, RecallSettings

ROWS: Final = (
    "scn", "memory", "amortised", "patch", "coda-random", "coda", "corrected", "everything",
)  # fmt: skip
WITHIN: Final = (1.0, 0.5, 0.25, 0.0)
STEPS: Final = ((0.03, 0.1), (0.03, 0.3), (0.1, 0.03))
"""Learning rates and decays of a round: careful, more careful, bold."""
SHARPNESSES: Final = (1.5, 3.0, 6.0)
SHARES: Final = (0.1, 0.25, 0.4)
CORRECTED_SHARES: Final = (1.0, 0.5, 0.25, 0.0)
OPENINGS: Final = (1.0, 0.5, 0.0)
FETCH_EVERY: Final = 3
CHOICE_CLICKS: Final = 15_000
"""Clicks on which settings are chosen; a user's clicks are all in or all out."""


@dataclass(eq=False)
class Devices:
    """All devices of one log and bundle, and what the rows need of them, computed once.

    Attributes:
        chosen: what was chosen for each row, in words.
        say: takes lines about progress.
    """

    events: Events
    spans: Spans
    model: ProjectedCoCorrRec
    seed: int
    say: Callable[[str], None]
    chosen: dict[str, str] = field(default_factory=dict)
    adopted: dict[str, float] = field(default_factory=dict)
    """By row: the share of rounds whose patch was in use."""

    def quality(self, parts: Parts, *, in_basket: bool = False) -> float:
        """NDCG@10 over the clicks between t1 and t2 of random users, `CHOICE_CLICKS` at most."""
        clicks = self.choice_clicks
        ranks = click_ranks(self.events, self.spans, clicks, parts, in_basket=in_basket)
        return float(gains(ranks).mean())

    @cached_property
    def choice_clicks(self) -> Int64:
        """The clicks that settings are chosen on, ascending."""
        clicks = self.spans.chosen(CHOICE)
        users = self.spans.users[clicks]
        order = np.random.default_rng(0).permutation(len(self.spans.offsets) - 1)
        counts = np.bincount(users, minlength=len(order))[order]
        kept = order[np.cumsum(counts) - counts < CHOICE_CLICKS]
        return clicks[np.isin(users, kept)]

    def best(self, row: str, options: Iterable[tuple[str, Parts]]) -> Parts:
        """The parts that rank best between t1 and t2, then how much counts inside a basket."""
        tried = {name: (self.quality(parts), parts) for name, parts in options}
        name, (_, parts) = max(tried.items(), key=lambda entry: entry[1][0])
        if self.spans.has_times and (parts.learned is not None or parts.shifts is not None):
            inside = {
                share: self.quality(parts.changed(within=share), in_basket=True) for share in WITHIN
            }
            share = max(inside, key=lambda candidate: inside[candidate])
            parts, name = parts.changed(within=share), f"{name}, inside a basket {share:g}"
        self.chosen[row] = name
        figures = ", ".join(f"{option}: {value:.4f}" for option, (value, _) in tried.items())
        self.say(f"{row}: {name} ({figures})")
        return parts

    @cached_property
    def memory(self) -> Parts:
        """The memory, fitted on the bundle's clicks or on those between t1 and t2, or none."""
        if self.events.seen_left_out:
            self.chosen["memory"] = "none: items clicked before are left out of rankings"
            return Parts()
        spans = {"the bundle's clicks": BUNDLE, "clicks between t1 and t2": CHOICE}
        options = [("none", Parts())]
        for name, span in spans.items():
            clicks = self.spans.chosen(span)
            settings = fit_memory(self.events, clicks[self.events.places[clicks] > 0])
            options.append((name, Parts(memory=ItemMemory(self.events, settings))))
        return self.best("memory", options)

    @cached_property
    def amortised_shifts(self) -> Tensor:
        """The amortised patch before every event."""
        trained = np.flatnonzero(
            (self.spans.span == BUNDLE) & self.spans.is_known[self.spans.users]
        )
        network = fit_amortised(self.events, trained, seed=self.seed)
        return amortised_shifts(network, self.events, history_sums(self.events))

    @cached_property
    def amortised(self) -> Parts:
        """The rival without gradients."""
        with_shift = self.memory.changed(shifts=self.amortised_shifts)
        return self.best("amortised", [("off", self.memory), ("on", with_shift)])

    def rounds(self, settings: PatchSettings, *, amortised: bool) -> Learned:
        """The patches of all devices."""
        start = self.amortised_shifts if amortised else None
        moments = learning_moments(self.spans)
        return learn(self.events, moments, settings, start=start, seed=self.seed)

    @cached_property
    def patch(self) -> Parts:
        """The patch that devices learn alone."""
        options = [("off", self.memory)]
        for (rate, decay), amortised in product(STEPS, (False, True)):
            settings = PatchSettings(learning_rate=rate, decay=decay)
            learned = self.rounds(settings, amortised=amortised)
            begin = "the amortised patch" if amortised else "zero"
            name = f"from {begin}, rate {rate:g}, decay {decay:g}"
            options.append((name, self.memory.changed(learned=learned)))
        parts = self.best("patch", options)
        if parts.learned is not None:
            self.adopted["patch"] = float(parts.learned.adopted.mean())
        return parts

    def shelf(self, matching: Matching) -> Shelf:
        """What devices fetched of the cloud's samples."""
        pool = pool_of(self.events, self.spans, seed=self.seed)
        moments = moments_after_bundle(self.spans, FETCH_EVERY)
        settings = RecallSettings(every=FETCH_EVERY)
        return fetch(self.events, pool, moments, settings, matching, self.seed)

    def recalled(self, row: str, matching: Matching) -> Parts:
        """The patch, and the cloud's samples beside it."""
        shelf = self.shelf(matching)
        options = [("off", self.patch)]
        for sharpness, share in product(SHARPNESSES, SHARES):
            settings = RecallSettings(sharpness=sharpness, share=share, every=FETCH_EVERY)
            name = f"sharpness {sharpness:g}, share {share:g}"
            options.append((name, self.patch.changed(shelf=shelf, recall=settings)))
        return self.best(row, options)

    @cached_property
    def coda(self) -> Parts:
        """The patch and the samples that the cloud matched by state."""
        return self.recalled("coda", "state")

    @cached_property
    def corrected(self) -> Parts:
        """The SCN with the cloud's correction."""
        clicks = np.concatenate([self.spans.chosen(CHOICE), self.spans.chosen(TEST)])
        moments = np.concatenate([clicks, self.spans.basket[clicks]])
        return Parts(corrections=corrections_at(self.model, self.events, moments))

    @cached_property
    def everything(self) -> Parts:
        """Correction, memory, patch and samples; how much the last two count beside the first."""
        openings = OPENINGS if self.spans.has_times else (1.0,)
        options = [
            (
                f"beside a correction {share:g}, correction where a basket opens {opening:g}",
                self.coda.changed(
                    corrections=self.corrected.corrections, corrected_share=share, opening=opening
                ),
            )
            for opening in openings
            for share in (CORRECTED_SHARES if opening else (1.0,))
        ]
        return self.best("everything", [("corrected alone", self.corrected), *options])

    def parts(self, row: str) -> Parts:
        """The parts of a row of ROWS."""
        match row:
            case "scn":
                return Parts()
            case "coda-random":
                return self.recalled(row, "random")
            case _:
                made: Parts = getattr(self, row)
                return made
