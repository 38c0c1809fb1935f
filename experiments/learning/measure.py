"""Ranks every click after t1 with what its device knew, and compares rows by user."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from cloud_service.recommender.learning.events import Events, Int64
from cloud_service.recommender.learning.memory import ItemMemory
from cloud_service.recommender.learning.ranking import Offsets, ranks_in
from cloud_service.recommender.learning.recall import recall_offsets, sample_weights
from cloud_service.recommender.ranking.metrics import Ranks
from experiments.learning.fleet_state import Learned
from experiments.learning.samples import Shelf
from experiments.learning.spans import Spans
from shared.learning import RecallSettings

_TOGETHER: Final = 128
CUTOFF: Final = 10

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Corrections:
    """The cloud's correction before some events: a shift and the residuals of boosted items.

    Attributes:
        moments: ascending, (moments,).
        shifts: (moments, D).
        items: item numbers, 0 for none, (moments, b).
        residuals: (moments, b).
    """

    moments: Int64
    shifts: Float[Tensor, "moments dim"]
    items: Tensor
    residuals: Tensor

    def at(self, events: Int64) -> tuple[Tensor, Tensor, Tensor]:
        """Shift, items and residuals just before some events that are moments."""
        rows = torch.from_numpy(np.searchsorted(self.moments, events))
        return self.shifts[rows], self.items[rows], self.residuals[rows]


@dataclass(frozen=True, eq=False)
class Parts:
    """What a device uses in a row of the comparison; None for a part that it does not have.

    Attributes:
        learned: patches by rounds of learning.
        shifts: a shift for every event, e.g. an amortised patch.
        memory: offsets of the items clicked before.
        shelf, recall: the cloud's samples, and how they count.
        corrections: the cloud's corrections.
        within: how much of the patch counts inside a basket.
        corrected_share: how much of patch and samples counts beside a correction.
        opening: how much of a correction counts where a basket opens.
    """

    learned: Learned | None = None
    shifts: Float[Tensor, "events dim"] | None = None
    memory: ItemMemory | None = None
    shelf: Shelf | None = None
    recall: RecallSettings | None = None
    corrections: Corrections | None = None
    within: float = 1.0
    corrected_share: float = 1.0
    opening: float = 1.0

    def changed(self, **changes: object) -> "Parts":
        """These parts with others in place of some."""
        return replace(self, **changes)  # type: ignore[arg-type]


@torch.no_grad()
def click_ranks(
    events: Events, spans: Spans, clicks: Int64, parts: Parts, *, in_basket: bool
) -> Ranks:
    """The rank of each click among all items that rankings show.

    It is ranked from the state before its basket or, `in_basket`, before itself; what was learned
    before the basket counts in both.
    """
    greater, equal = np.zeros(len(clicks), np.int64), np.zeros(len(clicks), np.int64)
    for at in range(0, len(clicks), _TOGETHER):
        chosen = clicks[at : at + _TOGETHER]
        moments = chosen if in_basket else spans.basket[chosen]
        scores = _scores(events, spans, chosen, moments, parts)
        rows = slice(at, at + len(chosen))
        targets = events.items[chosen].astype(np.int64)
        greater[rows], equal[rows] = ranks_in(events, scores, moments, targets)
    return Ranks(greater, equal)


def _scores(
    events: Events, spans: Spans, clicks: Int64, moments: Int64, parts: Parts
) -> Float[Tensor, "clicks items"]:
    baskets = spans.basket[clicks]
    share, corrected = torch.ones(len(clicks), 1), torch.ones(len(clicks), 1)
    is_inside = torch.from_numpy(moments > baskets)
    share[is_inside] = parts.within
    if spans.has_times:
        corrected[~is_inside] = parts.opening
    if parts.corrections is not None:
        share = share * (1 - (1 - parts.corrected_share) * corrected)
    shift = torch.zeros(len(clicks), events.table.shape[1])
    if parts.learned is not None:
        shift = parts.learned.before(events, baskets)
    elif parts.shifts is not None:
        shift = parts.shifts[baskets]
    scores = (events.states[moments] + share * shift) @ events.catalogue.T
    if parts.memory is not None:
        scores = parts.memory(moments).add_to(scores)
    if parts.shelf is not None and parts.recall is not None:
        scores = _recalled(events, scores, baskets, moments, parts.shelf, parts.recall, share)
    if parts.corrections is not None:
        correction, items, residuals = parts.corrections.at(moments)
        scores = scores + (corrected * correction) @ events.catalogue.T
        residuals = corrected * residuals * (items > 0)
        scores = scores.scatter_add(1, (items - 1).clamp_min(0), residuals)
    return scores


def _recalled(
    events: Events,
    scores: Float[Tensor, "clicks items"],
    baskets: Int64,
    moments: Int64,
    shelf: Shelf,
    settings: RecallSettings,
    share: Float[Tensor, "clicks 1"],
) -> Float[Tensor, "clicks items"]:
    """Scores with what the samples say."""
    samples, is_there = shelf.before(events, baskets, settings.kept)
    items = events.targets[samples]
    there = torch.from_numpy(is_there.astype(np.float32))
    log_total = events.unseen(scores.clone(), moments).logsumexp(1)
    weights = sample_weights(events.states[moments], events.states[samples], there, settings)
    of_sample = scores.gather(1, items - 1)
    values = _summed(scores, items, weights, of_sample, log_total, settings)
    rows = torch.arange(len(moments)).unsqueeze(1).expand_as(items)
    return Offsets(rows.flatten(), (items - 1).flatten(), (share * values).flatten()).add_to(scores)


def _summed(
    scores: Tensor, items: Tensor, weights: Tensor, of_sample: Tensor, log_total: Tensor,
    settings: RecallSettings,
) -> Tensor:  # fmt: skip
    """`recall_offsets` by a table of all items: faster for many samples than by comparison."""
    if items.shape[1] <= 64:
        return recall_offsets(of_sample, items, weights, log_total, settings)
    mass = torch.zeros_like(scores).scatter_add_(1, items - 1, weights)
    counts = torch.zeros_like(scores).scatter_add_(1, items - 1, torch.ones_like(weights))
    ratio = settings.share / (1 - settings.share)
    of_item = mass.gather(1, items - 1)
    offset = torch.log1p(ratio * of_item * (log_total.unsqueeze(1) - of_sample).exp())
    return offset / counts.gather(1, items - 1)


def gains(ranks: Ranks) -> Float64:
    """NDCG@10 of each click."""
    rank = ranks.pessimistic
    return np.where(rank <= CUTOFF, 1 / np.log2(1.0 + rank), 0.0)


@dataclass(frozen=True)
class Difference:
    """A row against another, over the same clicks; the interval resamples users.

    `value` and `reference` are means over clicks; `p` is of a two-sided test by the bootstrap's
    standard error.
    """

    value: float
    reference: float
    low: float
    high: float
    users: int
    clicks: int

    @property
    def relative(self) -> float:
        """The difference as a share of the reference."""
        return (self.value - self.reference) / self.reference if self.reference else 0.0

    @property
    def certain(self) -> bool:
        """Whether the interval excludes 0."""
        return not self.low <= 0 <= self.high


def compare(
    values: Float64, references: Float64, users: Int64, *, resamples: int = 2000, seed: int = 0
) -> Difference:
    """Compares two rows click by click. Each user's clicks stay together in every resample."""
    total = np.bincount(users, values - references)
    counts = np.bincount(users).astype(np.float64)
    total, counts = total[counts > 0], counts[counts > 0]
    random = np.random.default_rng(seed)
    means = []
    step = max(1, (1 << 22) // max(len(total), 1))
    for at in range(0, resamples, step):
        drawn = random.multinomial(
            len(total), np.full(len(total), 1 / len(total)), min(step, resamples - at)
        )
        means.append(drawn @ total / (drawn @ counts))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return Difference(
        float(values.mean()),
        float(references.mean()),
        float(low),
        float(high),
        len(total),
        len(values),
    )
