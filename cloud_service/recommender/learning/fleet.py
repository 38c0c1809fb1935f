"""Many devices at once: the training of patches by thousands, in one batched computation.

A round of learning is that of the device (`TrainingStep`): Adam on the newest own clicks, against
negatives that the user never clicked. Here rounds run for many (device, moment) pairs together.
"""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from cloud_service.recommender.learning.events import Events, Int64
from cloud_service.recommender.learning.step import StepState, adam
from shared.learning import PatchSettings, adam_factors

_TOGETHER: Final = 16
"""Devices in one computation: their scores (devices, window, negatives) stay in a core's cache."""
LEAST_CLICKS: Final = 5
"""Own clicks before which a device does not learn."""

Samples = Callable[[Int64], tuple[Tensor, Tensor, Tensor]]
"""For some events: states (n, s, D), item numbers (n, s) and weights (n, s) of the cloud's samples
that their devices learn from too."""


def draw_negatives(items: int, count: int, seed: int) -> Int64:
    """Item numbers that all devices of a round share, (count,), each once."""
    drawn = np.random.default_rng(seed).permutation(items)[:count] + 1
    return drawn.astype(np.int64)


@torch.no_grad()
def learn_shifts(
    events: Events,
    moments: Int64,
    settings: PatchSettings,
    *,
    start: Float[Tensor, "n dim"] | None = None,
    samples: Samples | None = None,
    seed: int = 0,
) -> Float[Tensor, "moments dim"]:
    """The shift that each device has learned just before some events (its moments).

    `start` has a row for every event: what a round begins from and is pulled to.
    """
    negatives = draw_negatives(len(events.catalogue), settings.negatives, seed)
    parts = [
        _learn(
            events, moments[at : at + _TOGETHER], settings, negatives,
            None if start is None else start[moments[at : at + _TOGETHER]], samples,
        )
        for at in range(0, len(moments), _TOGETHER)
    ]  # fmt: skip
    return torch.cat(parts) if parts else torch.zeros(0, events.table.shape[1])


def _learn(
    events: Events,
    moments: Int64,
    settings: PatchSettings,
    negatives: Int64,
    start: Tensor | None,
    samples: Samples | None,
) -> Tensor:
    dim = events.table.shape[1]
    begin = torch.zeros(len(moments), dim) if start is None else start
    vectors = events.table[torch.from_numpy(negatives)]
    states, positives, weights = own_clicks(events, moments, settings.window)
    if samples is not None:
        more_states, more_items, more_weights = samples(moments)
        states = torch.cat([states, more_states], 1)
        positives = torch.cat([positives, events.table[more_items]], 1)
        weights = torch.cat([weights, more_weights], 1)
    offsets = negative_offsets(events, moments, negatives)
    negative_scores = states @ vectors.T + offsets.unsqueeze(1)
    positive_scores = (states * positives).sum(-1)
    share = weights / weights.sum(1, keepdim=True).clamp_min(1e-9)
    state = StepState(begin.clone(), torch.zeros_like(begin), torch.zeros_like(begin))
    for step in range(1, settings.steps + 1):
        patch = state.patch
        positive = positive_scores + (positives @ patch.unsqueeze(-1)).squeeze(-1)
        negative = negative_scores + (patch @ vectors.T).unsqueeze(1)
        highest = torch.maximum(positive, negative.amax(-1))
        weight = (negative - highest.unsqueeze(-1)).exp()
        own = (positive - highest).exp()
        total = own + weight.sum(-1)
        gradient = ((share / total).unsqueeze(1) @ weight).squeeze(1) @ vectors
        gradient = gradient - ((share * (1 - own / total)).unsqueeze(1) @ positives).squeeze(1)
        gradient = gradient + settings.decay * (patch - begin)
        state = adam(state, gradient, *adam_factors(step, settings.learning_rate))
    return state.patch


def own_clicks(
    events: Events, moments: Int64, window: int
) -> tuple[Float[Tensor, "n window dim"], Float[Tensor, "n window dim"], Float[Tensor, "n window"]]:
    """States, vectors of the clicked items, and weights of the last clicks before some events.

    A weight is 0 where there is no click. A user's first click has no state and does not count.
    """
    index, is_click = own_events(events, moments, window)
    return (
        events.states[index],
        events.table[events.targets[index]],
        torch.from_numpy(is_click.astype(np.float32)),
    )


def own_events(events: Events, moments: Int64, window: int) -> tuple[Int64, NDArray[np.bool_]]:
    """The last events of the same users before some events, and which are there, (n, window)."""
    first = np.maximum(events.starts[moments] + 1, moments - window)
    index = first[:, None] + np.arange(window)
    return np.minimum(index, len(events) - 1), index < moments[:, None]


def negative_offsets(events: Events, moments: Int64, negatives: Int64) -> Float[Tensor, "n m"]:
    """What is added to the scores of negatives, which stand for the whole catalogue: log(V / m).

    m counts the negatives that the user never clicked; the others get a score that counts 0.
    """
    column = np.full(len(events.table), -1)
    column[negatives] = np.arange(len(negatives))
    rows, columns = events.history(moments)
    at = column[columns + 1]
    mask = torch.zeros(len(moments), len(negatives))
    mask[torch.from_numpy(rows[at >= 0]), torch.from_numpy(at[at >= 0])] = -1e9
    allowed = (mask == 0).sum(1).clamp_min(1)
    return mask + (math.log(len(events.catalogue)) - allowed.log()).unsqueeze(1)
