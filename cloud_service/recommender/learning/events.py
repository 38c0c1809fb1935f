"""What devices learn from: the clicks of many users, and the user state before each click."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from cloud_service.recommender.data.clicks import Split, ranges
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.ranking.evaluate import user_states

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Events:
    """Clicks of users, one after another, with the unpatched user state before each.

    Event n is a click on `items[n]` by user `users[n]`, the `places[n]`-th of that user (from 0).

    Attributes:
        items: item numbers, (n,).
        offsets: of each user's clicks, (users + 1,).
        states: the user state before each click, from the clicks before it, (n, D); zero before
            a user's first click.
        table: the item table with padding, (V + 1, D).
        seen_left_out: rankings leave out the items that their user clicked before.
    """

    items: Int32
    offsets: Int64
    states: Float[Tensor, "n dim"]
    table: Float[Tensor, "rows dim"]
    seen_left_out: bool

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def users(self) -> Int64:
        """The user of each event, (n,)."""
        counts = np.diff(self.offsets)
        return np.repeat(np.arange(len(counts), dtype=np.int64), counts)

    @cached_property
    def starts(self) -> Int64:
        """The first event of each event's user, (n,)."""
        return self.offsets[self.users]

    @cached_property
    def places(self) -> Int64:
        """How many clicks its user made before each event, (n,)."""
        return np.arange(len(self.items), dtype=np.int64) - self.starts

    @cached_property
    def targets(self) -> Int[Tensor, " n"]:
        """Item numbers as a tensor, (n,)."""
        return torch.from_numpy(self.items.astype(np.int64))

    @property
    def catalogue(self) -> Float[Tensor, "items dim"]:
        """The item table without padding; row i is item i + 1."""
        return self.table[1:]

    def in_turn(self) -> Iterator[Int64]:
        """Events by place: every user's first, then every user's second, and so on."""
        order = np.argsort(self.places, kind="stable")
        bounds = np.searchsorted(self.places[order], np.arange(self.places.max(initial=-1) + 2))
        for begin, end in pairwise(bounds):
            yield order[begin:end]

    def history(self, chosen: Int64) -> tuple[Int64, Int64]:
        """Rows and columns of the items clicked before some events, in a matrix (chosen, V)."""
        rows = np.repeat(np.arange(len(chosen), dtype=np.int64), self.places[chosen])
        return rows, self.items[ranges(self.starts[chosen], chosen)].astype(np.int64) - 1

    def unseen(self, scores: Float[Tensor, "n items"], chosen: Int64) -> Float[Tensor, "n items"]:
        """Scores of some events, in place: -inf for items that rankings leave out."""
        if self.seen_left_out:
            rows, columns = self.history(chosen)
            scores[torch.from_numpy(rows), torch.from_numpy(columns)] = -torch.inf
        return scores


@torch.no_grad()
def events_of(
    scn: SCN, items: Int32, offsets: Int64, *, seen_left_out: bool, cut: Int64 | None = None
) -> Events:
    """Computes the state before every click of some users.

    `items` and `offsets` are flat, as in a ClickLog. `cut` keeps the first clicks of each user
    only, (users,): those that training may see.
    """
    if cut is not None:
        items = items[ranges(offsets[:-1], offsets[:-1] + cut)]
        offsets = np.concatenate([[0], np.cumsum(cut)]).astype(np.int64)
    counts = np.diff(offsets)
    starts = np.repeat(offsets[:-1], counts)
    positions = np.arange(len(items), dtype=np.int64)
    later = np.flatnonzero(positions > starts)
    states = torch.zeros(len(items), scn.settings.dim)
    nobody = np.zeros(len(later), np.int64)
    states[later] = user_states(scn, items, starts[later], positions[later], nobody)
    return Events(items, offsets, states, scn.item_embedding.detach(), seen_left_out)


def training_events(scn: SCN, split: Split, *, with_validation: bool = False) -> Events:
    """The training clicks of a split's users, with the validation click if asked."""
    log, users = split.log, split.train_users
    counts = split.stops - split.starts + with_validation
    items = log.items[ranges(split.starts, split.starts + counts)]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    assert len(offsets) == len(users) + 1
    return events_of(scn, items, offsets, seen_left_out=split.seen_left_out)
