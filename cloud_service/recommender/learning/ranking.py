"""Ranks clicks among all items, with what a device has learned added to its scores.

What is learned comes in two parts: a shift of the user state, and offsets of single items' scores.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from cloud_service.recommender.learning.events import Events, Int64
from cloud_service.recommender.ranking.metrics import Ranks

TOGETHER: Final = 256
"""Events whose scores are in memory at once."""


class Offsets(NamedTuple):
    """Offsets of scores: `values[i]` is added in row `rows[i]` to item `columns[i]` + 1."""

    rows: Int[Tensor, " n"]
    columns: Int[Tensor, " n"]
    values: Float[Tensor, " n"]

    def add_to(self, scores: Float[Tensor, "events items"]) -> Float[Tensor, "events items"]:
        """Scores with the offsets added."""
        return scores.index_put((self.rows, self.columns), self.values, accumulate=True)


ItemOffsets = Callable[[Int64], Offsets]
"""The offsets of some events; rows count from the first of them."""


def scores_of(
    events: Events,
    moments: Int64,
    shift: Float[Tensor, "moments dim"] | None = None,
    offsets: ItemOffsets | None = None,
) -> Float[Tensor, "moments items"]:
    """Scores of all items just before some events."""
    states = events.states[moments]
    scores = (states if shift is None else states + shift) @ events.catalogue.T
    return scores if offsets is None else offsets(moments).add_to(scores)


@torch.no_grad()
def event_ranks(
    events: Events,
    moments: Int64,
    targets: Int64,
    shift: Float[Tensor, "moments dim"] | None = None,
    offsets: ItemOffsets | None = None,
) -> Ranks:
    """The rank of an item at each moment among all items that rankings show.

    A moment is an event: its state and its user's clicks before it count. The target is ranked
    even if it was clicked before.
    """
    greater, equal = np.zeros(len(moments), np.int64), np.zeros(len(moments), np.int64)
    for at in range(0, len(moments), TOGETHER):
        rows = slice(at, min(at + TOGETHER, len(moments)))
        part = moments[rows]
        scores = scores_of(events, part, None if shift is None else shift[rows], offsets)
        greater[rows], equal[rows] = ranks_in(events, scores, part, targets[rows])
    return Ranks(greater, equal)


def ranks_in(
    events: Events, scores: Float[Tensor, "moments items"], moments: Int64, targets: Int64
) -> Ranks:
    """The rank of each target among the items that rankings show. Changes `scores`."""
    column = torch.from_numpy(targets).unsqueeze(1) - 1
    target = scores.gather(1, column)
    scores = events.unseen(scores, moments).scatter_(1, column, -torch.inf)
    return Ranks((scores > target).sum(1).numpy(), (scores == target).sum(1).numpy())


def cross_entropy(
    events: Events, chosen: Int64, states: Float[Tensor, "chosen dim"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy of the clicked items, over the items that rankings show.

    Without the items that rankings leave out: a model that learns to avoid what was clicked before
    avoids what is like it, which is what its user likes.
    """
    scores = states @ events.catalogue.T
    if events.seen_left_out:
        rows, columns = (torch.from_numpy(index) for index in events.history(chosen))
        is_target = columns == events.targets[chosen][rows] - 1
        mask = torch.zeros_like(scores)
        mask[rows[~is_target], columns[~is_target]] = -torch.inf
        scores = scores + mask
    return functional.cross_entropy(scores, events.targets[chosen] - 1)
