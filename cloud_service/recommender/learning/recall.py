"""What the cloud's samples say for a user state: an interpolation of two distributions.

    p(i) = (1 - share) * softmax(scores)(i) + share * (weights of the samples on item i)

A nearest-neighbour model over (state, next item) pairs, as kNN language models have it (Khandelwal
et al., ICLR 2020), kept on the device. As offsets of scores, only items of samples change.
"""

from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from shared.learning import RecallSettings

REFERENCE: Final = 100
"""The distance of the sample of this rank, above the nearest one's, is the unit of distance."""
_TINY: Final = 1e-6
_FAR: Final = 1e12
"""Distance of a sample that is not there; finite, as a device may have none at all."""


def sample_weights(
    state: Float[Tensor, "n dim"],
    states: Float[Tensor, "n s dim"],
    is_there: Float[Tensor, "n s"],
    settings: RecallSettings,
) -> Float[Tensor, "n s"]:
    """The weight of each sample for a user state; `is_there` weighs a sample, 0 for none."""
    distance = (states - state.unsqueeze(1)).square().sum(-1)
    distance = torch.where(is_there > 0, distance, _FAR)
    nearest = distance.amin(1, keepdim=True)
    count = (is_there > 0).sum(1, keepdim=True)
    rank = count.clamp(1, REFERENCE + 1) - 1
    unit = (distance.sort(1).values.gather(1, rank) - nearest).clamp_min(_TINY)
    logits = -settings.sharpness * (distance - nearest) / unit
    weights = logits.exp() * is_there
    return weights / weights.sum(1, keepdim=True).clamp_min(_TINY)


def recall_offsets(
    scores: Float[Tensor, "n s"],
    items: Int[Tensor, "n s"],
    weights: Float[Tensor, "n s"],
    log_total: Float[Tensor, " n"],
    settings: RecallSettings,
) -> Float[Tensor, "n s"]:
    """What is added to the score of each sample's item, once for an item (0 in repetitions).

    `scores` are those of the samples' items, `log_total` the log of the sum of exp of all scores.
    """
    same = items.unsqueeze(1) == items.unsqueeze(2)
    of_item = (same * weights.unsqueeze(1)).sum(2)
    is_first = ~(same.tril(-1).any(2))
    ratio = settings.share / (1 - settings.share)
    offset = torch.log1p(ratio * of_item * (log_total.unsqueeze(1) - scores).exp())
    return offset * is_first
