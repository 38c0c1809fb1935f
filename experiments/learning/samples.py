"""The cloud's samples on the devices of an experiment: a pool, what was fetched, what is kept."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch

from cloud_service.recommender.learning.events import Events, Int64
from experiments.learning.spans import BUNDLE, Spans
from shared.learning import RecallSettings

Matching = Literal["state", "random"]
_LARGEST: Final = 200_000
_TOGETHER: Final = 256


@dataclass(frozen=True, eq=False)
class Shelf:
    """What devices have fetched, by the events before which they asked.

    Attributes:
        pool: the events that are samples, (pool,).
        moments: ascending, (moments,).
        answers: the samples of each answer, as indices into the pool, (moments, fetched).
    """

    pool: Int64
    moments: Int64
    answers: Int64

    def before(self, events: Events, baskets: Int64, kept: int) -> tuple[Int64, np.ndarray]:
        """Samples of the newest answers before each click's basket, at most `kept`.

        Returns events (clicks, kept) and which of them are there (clicks, kept).
        """
        per = self.answers.shape[1]
        count = max(1, kept // per)
        newest = np.searchsorted(self.moments, baskets, side="right") - 1
        at = newest[:, None] - np.arange(count)
        users = events.users[self.moments]
        is_own = (at >= 0) & (users[at] == events.users[baskets][:, None])
        samples = self.pool[self.answers[at]].reshape(len(baskets), count * per)
        is_there = np.repeat(is_own, per, axis=1)
        return samples, is_there & _is_first(samples, is_there)


def _is_first(samples: Int64, is_there: np.ndarray) -> np.ndarray:
    """Marks each sample of a row once."""
    keys = np.where(is_there, samples, -1)
    order = np.argsort(keys, axis=1, kind="stable")
    ordered = np.take_along_axis(keys, order, axis=1)
    first = np.ones(keys.shape, bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    marked = np.zeros_like(first)
    np.put_along_axis(marked, order, first, axis=1)
    return marked


def pool_of(events: Events, spans: Spans, *, least_users: int = 1, seed: int = 0) -> Int64:
    """The events that the pool of a bundle holds, (pool,).

    Only the clicks that it was trained on; with `least_users`, of items that so many of its users
    clicked.
    """
    trained = spans.is_known[spans.users] & (spans.span == BUNDLE) & (events.places > 0)
    pool = np.flatnonzero(trained)
    if least_users > 1:
        width = len(events.table)
        pairs = np.unique(events.users[pool] * width + events.items[pool])
        counts = np.bincount(pairs % width, minlength=width)
        pool = pool[counts[events.items[pool]] >= least_users]
    return np.sort(np.random.default_rng(seed).permutation(pool)[:_LARGEST])


@torch.no_grad()
def fetch(
    events: Events,
    pool: Int64,
    moments: Int64,
    settings: RecallSettings,
    matching: Matching = "state",
    seed: int = 0,
) -> Shelf:
    """What the cloud answers to each device: the samples nearest to its state, or random ones."""
    count = min(settings.fetched, len(pool))
    if matching == "random":
        random = np.random.default_rng(seed)
        answers = random.integers(0, max(len(pool), 1), (len(moments), count))
        return Shelf(pool, moments, answers)
    states = events.states[pool]
    length = states.square().sum(1)
    nearest = []
    for at in range(0, len(moments), _TOGETHER):
        asked = events.states[moments[at : at + _TOGETHER]]
        distance = length - 2 * asked @ states.T
        nearest.append(distance.topk(count, dim=1, largest=False).indices.numpy())
    answers = np.concatenate(nearest) if nearest else np.zeros((0, count), np.int64)
    return Shelf(pool, moments, answers)
