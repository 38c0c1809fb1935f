"""Item-kNN's settings, searched on the validation clicks: a baseline tuned as hard as a network."""

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from cloud_service.recommender.data.clicks import Split
from cloud_service.recommender.models.baselines.item_knn import ItemKNN
from cloud_service.recommender.ranking.evaluate import validation_ndcg
from cloud_service.recommender.training.neighbours import (
    Counting,
    Neighbours,
    count_pairs,
    fit_neighbours,
)

USERS = 10_000
"""Validation clicks that a search looks at, at most: more take longer and choose the same."""
ROUNDS = 2

GRID: dict[str, tuple[Any, ...]] = {
    "decay": (1.0, 0.9, 0.8, 0.6, 0.4, 0.2, 0.1),
    "power": (0.0, 0.25, 0.5, 0.75),
    "reach": (1, 3, 5, 10, 20, 50),
    "fade": (0.0, 0.5, 1.0),
    "backward": (0.0, 0.25, 0.5, 1.0),
    "exclude": (False, True),
    "repeats": (False, True),
    "shrinkage": (0.0, 1.0, 5.0, 20.0),
    "count": (50, 100, 200, 500),
}
"""Settings in the order they are searched, the ones that matter most first."""


@dataclass(frozen=True)
class KNNSettings:
    """Everything that is searched; the start is the candidate retrieval's counting."""

    counting: Counting = field(default_factory=Counting)
    decay: float = 0.8
    exclude: bool = False

    def value(self, name: str) -> Any:
        """One setting by its name in the grid."""
        return getattr(self.counting if name in _COUNTING else self, name)

    def changed(self, name: str, value: Any) -> "KNNSettings":
        """These settings with another value for one of them."""
        if name in _COUNTING:
            return replace(self, counting=replace(self.counting, **{name: value}))
        return replace(self, **{name: value})


_COUNTING = {trial.name for trial in fields(Counting)}


@dataclass(frozen=True, eq=False)
class Tuned:
    """An item-kNN, what it was made from, and the validation NDCG@10 it reaches."""

    settings: KNNSettings
    near: Neighbours
    model: ItemKNN
    reached: float


def tune_item_knn(split: Split, length: int) -> Tuned:
    """The best item-kNN of the grid, one setting searched after the other, twice over.

    Neighbours are counted on training clicks, settings chosen by NDCG@10 over all items on
    validation clicks, those of 10,000 random users where there are more; `length` clicks count.
    """
    judged = _some_users(split)
    pairs = count_pairs(split, max(GRID["reach"]))

    def tried(settings: KNNSettings, best: Tuned | None) -> Tuned:
        near = best.near if best and best.settings.counting == settings.counting else None
        near = near or fit_neighbours(split, settings.counting, pairs)
        model = item_knn(split, length, settings, near)
        return Tuned(settings, near, model, validation_ndcg(model, judged))

    best = tried(KNNSettings(), None)
    for _ in range(ROUNDS):
        before = best
        for name, values in GRID.items():
            for value in values:
                settings = best.settings.changed(name, value)
                if settings != best.settings:
                    best = max(best, tried(settings, best), key=lambda trial: trial.reached)
        if best is before:
            break
    return best


def item_knn(split: Split, length: int, settings: KNNSettings, near: Neighbours) -> ItemKNN:
    """The model of some settings, with the neighbours counted by them."""
    return ItemKNN(
        near.ids,
        near.weights,
        split.train_counts(),
        length,
        decay=settings.decay,
        exclude=settings.exclude,
    )


def _some_users(split: Split) -> Split:
    if len(split.train_users) <= USERS:
        return split
    chosen = np.random.default_rng(0).choice(split.train_users, USERS, replace=False)
    return replace(split, train_users=np.sort(chosen))
