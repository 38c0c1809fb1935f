"""What every device has learned before each of its clicks."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from cloud_service.recommender.learning.events import Events, Int64
from cloud_service.recommender.learning.fleet import (
    LEAST_CLICKS,
    Samples,
    draw_negatives,
    learn_shifts,
)
from experiments.learning.spans import Spans, moments_after_bundle
from shared.learning import PatchSettings

EVERY: Final = 5
"""New clicks after which a device learns again."""
EVIDENCE_HALF_LIFE: Final = 100
"""Clicks after which one counts half in the judgement of a device's patches."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Learned:
    """The patches of all devices.

    Attributes:
        moments: events just before which a device learned, ascending, (moments,).
        shifts: the shift in use from each moment on, (moments, D).
        adopted: whether the patch of a round was taken, (moments,).
    """

    moments: Int64
    shifts: Float[Tensor, "moments dim"]
    adopted: NDArray[np.bool_]

    def before(self, events: Events, baskets: Int64) -> Float[Tensor, "clicks dim"]:
        """The shift of each click's device before the click's basket; zero before any round."""
        at = np.searchsorted(self.moments, baskets, side="right") - 1
        is_own = (at >= 0) & (events.users[self.moments[at]] == events.users[baskets])
        shift = self.shifts[at]
        shift[torch.from_numpy(~is_own)] = 0.0
        return shift


def learning_moments(spans: Spans, every: int = EVERY) -> Int64:
    """Events just before which devices learn: at baskets after t1, every so many new clicks."""
    moments = moments_after_bundle(spans, every)
    return moments[moments - spans.offsets[spans.users[moments]] > LEAST_CLICKS]


def learn(
    events: Events,
    moments: Int64,
    settings: PatchSettings,
    *,
    start: Float[Tensor, "n dim"] | None = None,
    samples: Samples | None = None,
    gate: bool = True,
    seed: int = 0,
) -> Learned:
    """The patches of all devices by gradient steps.

    With `gate`, a device uses its patch only while its patches have ranked the clicks that came
    after them no worse than no patch would have (`evidence`).
    """
    shifts = learn_shifts(events, moments, settings, start=start, samples=samples, seed=seed)
    learned = Learned(moments, shifts, np.ones(len(moments), bool))
    if not gate:
        return learned
    adopted = evidence(events, learned, settings, seed) >= 0
    shifts[torch.from_numpy(~adopted)] = 0.0
    return Learned(moments, shifts, adopted)


@torch.no_grad()
def evidence(events: Events, learned: Learned, settings: PatchSettings, seed: int) -> Float64:
    """How much better each device's patches have ranked its clicks so far than no patch.

    The sum, over the clicks since the device's first round, of the difference in reciprocal rank
    among the negatives, plus its standard error: below 0 a patch is shown to be worse. Each click
    is judged by the patch before it, which had not seen it. (moments,).
    """
    moments = learned.moments
    negatives = draw_negatives(len(events.catalogue), settings.negatives, seed)
    vectors = events.table[torch.from_numpy(negatives)]
    difference = np.zeros(len(events))
    users = events.users[moments]
    first = moments[
        np.searchsorted(users, np.arange(len(events.offsets) - 1)).clip(max=len(moments) - 1)
    ]
    judged = np.flatnonzero(
        np.isin(events.users, users) & (np.arange(len(events)) >= first[events.users])
    )
    for at in range(0, len(judged), 1024):
        clicks = judged[at : at + 1024]
        gains = []
        own = events.table[events.targets[clicks]]
        patched = events.states[clicks] + learned.before(events, clicks)
        for states in (events.states[clicks], patched):
            above = states @ vectors.T > (states * own).sum(1, keepdim=True)
            gains.append(1 / (1 + above.sum(1).double().numpy()))
        difference[clicks] = gains[1] - gains[0]
    return _sums_at(moments, users, difference)


def _sums_at(moments: Int64, users: Int64, difference: Float64) -> Float64:
    """At each moment, the decayed sum of its user's differences, plus its standard error."""
    decay = 0.5 ** (1 / EVIDENCE_HALF_LIFE)
    judged = np.zeros(len(moments))
    total = squares = 0.0
    for index in range(len(moments)):
        if not index or users[index] != users[index - 1]:
            total = squares = 0.0
            continue
        for value in difference[moments[index - 1] : moments[index]]:
            total = total * decay + value
            squares = squares * decay * decay + value * value
        judged[index] = total + squares**0.5
    return judged
