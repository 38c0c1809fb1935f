"""Fits what a bundle ships for learning on the device, and keeps what validation is better with."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
import torch
from torch import Tensor

from cloud_service.recommender.data.clicks import Split
from cloud_service.recommender.learning.amortised import (
    AmortisedPatch,
    amortised_shifts,
    fit_amortised,
    history_sums,
)
from cloud_service.recommender.learning.events import Events, Int64, training_events
from cloud_service.recommender.learning.fleet import learn_shifts
from cloud_service.recommender.learning.memory import ItemMemory, fit_memory
from cloud_service.recommender.learning.patch import MetapatchBasis
from cloud_service.recommender.learning.ranking import ItemOffsets, Offsets, event_ranks
from cloud_service.recommender.models.cocorrrec import SCNAndGCN
from cloud_service.recommender.ranking.metrics import ALL, rank_metrics
from shared.learning import LearningSettings, MemorySettings, PatchSettings

USERS: Final = 5000
"""Most users whose validation clicks choose."""
DECAYS: Final = (0.1, 0.3, 1.0)
_METRIC: Final = f"{ALL}/ndcg@10"


@dataclass(frozen=True, eq=False)
class Learning:
    """What a bundle ships.

    Attributes:
        settings: for the manifest.
        amortised: the network that a patch begins from, where the settings have one.
        validation: NDCG@10 of the validation clicks without learning, and with it.
        basis: that of a metapatch.
    """

    settings: LearningSettings
    amortised: AmortisedPatch | None
    validation: tuple[float, float]
    basis: MetapatchBasis | None = None


@torch.no_grad()
def fit_learning(
    model: SCNAndGCN, split: Split, *, seed: int = 0, log: Callable[[str], None] = lambda line: None
) -> Learning:
    """Fits memory and patch on the training clicks, and chooses by the validation click.

    A part that does not rank the validation clicks better is left out. The model is not changed.
    """
    events = training_events(model.scn, split, with_validation=True)
    last = events.offsets[1:] - 1
    training = np.setdiff1d(np.arange(len(events), dtype=np.int64), last)
    users = np.random.default_rng(seed).permutation(len(last))[:USERS]
    choice = _Choice(events, np.sort(last[users]))
    alone = choice.quality(None, None)
    memory = (
        None if events.seen_left_out else fit_memory(events, training[events.places[training] > 0])
    )
    best = alone
    if memory is not None:
        best = choice.quality(None, ItemMemory(events, memory))
        if best <= alone:
            memory, best = None, alone
        log(f"memory: validation NDCG@10 {alone:.4f} without, {best:.4f} with what is kept")
    with torch.enable_grad():
        amortised = fit_amortised(events, training, seed=seed)
    settings, with_patch = _best_patch(choice, memory, amortised, best, seed, log)
    kept = amortised if settings is not None and settings.start == "amortised" else None
    return Learning(
        LearningSettings(patch=settings, memory=memory), kept, (alone, max(best, with_patch))
    )


@dataclass(frozen=True, eq=False)
class _Choice:
    """The validation clicks of some users."""

    events: Events
    clicks: Int64

    def quality(self, shift: Tensor | None, offsets: ItemOffsets | None) -> float:
        """NDCG@10 with a shift (clicks, D) and offsets."""
        targets = self.events.items[self.clicks].astype(np.int64)
        ranks = event_ranks(self.events, self.clicks, targets, shift, offsets)
        return rank_metrics(ALL, ranks)[_METRIC]


def _best_patch(
    choice: _Choice,
    memory: MemorySettings | None,
    amortised: AmortisedPatch,
    without: float,
    seed: int,
    log: Callable[[str], None],
) -> tuple[PatchSettings | None, float]:
    """The settings of the patch that ranks best, or None; and its quality."""
    events = choice.events
    start = amortised_shifts(amortised, events, history_sums(events))
    offsets: Callable[[Int64], Offsets] | None = ItemMemory(events, memory) if memory else None
    best, chosen = without, None
    for decay, begin in product(DECAYS, ("zero", "amortised")):
        settings = PatchSettings.model_validate(
            {"size": events.table.shape[1], "decay": decay, "start": begin}
        )
        shift = learn_shifts(
            events, choice.clicks, settings,
            start=start if begin == "amortised" else None, seed=seed,
        )  # fmt: skip
        quality = choice.quality(shift, offsets)
        log(f"patch from {begin}, decay {decay:g}: validation NDCG@10 {quality:.4f}")
        if quality > best:
            best, chosen = quality, settings
    log("no patch ranks better than none" if chosen is None else f"kept: {chosen}")
    return chosen, best
