"""The device's memory of what its user clicked before, as offsets of scores.

    base + count * log(1 + clicks on the item) - age * log(1 + clicks since the last of them)

The three numbers are shared by all users and fitted in the cloud; the counts are the device's own.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cloud_service.recommender.learning.events import Events, Int64
from cloud_service.recommender.learning.ranking import TOGETHER, Offsets
from shared.learning import MemorySettings

_EPOCHS: Final = 12
_RATE: Final = 0.05
_MOST: Final = 6000
"""Events that the numbers are fitted on."""


class ItemMemory:
    """Offsets of the items that a user clicked before each event."""

    def __init__(self, events: Events, settings: MemorySettings) -> None:
        self._events = events
        numbers = settings.base, settings.count, settings.age
        self._numbers = torch.tensor(numbers, dtype=torch.float32)

    def __call__(self, chosen: Int64) -> Offsets:
        """The offsets of some events."""
        rows, columns, features = _cells(self._events, chosen)
        return Offsets(
            torch.from_numpy(rows),
            torch.from_numpy(columns),
            torch.from_numpy(features) @ self._numbers,
        )


def _cells(events: Events, chosen: Int64) -> tuple[Int64, Int64, NDArray[np.float32]]:
    """Row, column and the three features of every item clicked before some events."""
    rows, columns = events.history(chosen)
    places = np.arange(len(rows)) - np.repeat(
        np.cumsum(events.places[chosen]) - events.places[chosen], events.places[chosen]
    )
    ages = events.places[chosen][rows] - 1 - places
    width = len(events.table)
    keys, inverse, counts = np.unique(
        rows * width + columns, return_inverse=True, return_counts=True
    )
    youngest = np.full(len(keys), np.iinfo(np.int64).max)
    np.minimum.at(youngest, inverse, ages)
    features = np.stack([np.ones(len(keys)), np.log1p(counts), -np.log1p(youngest)], axis=1)
    return keys // width, keys % width, features.astype(np.float32)


@torch.no_grad()
def fit_memory(events: Events, chosen: Int64, *, seed: int = 0) -> MemorySettings:
    """Fits the three numbers by cross-entropy on some events, the network unchanged."""
    random = np.random.default_rng(seed)
    drawn = random.permutation(chosen)[:_MOST]
    numbers = torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.Adam([numbers], lr=_RATE)
    for _ in range(_EPOCHS):
        for at in range(0, len(drawn), TOGETHER):
            part = drawn[at : at + TOGETHER]
            rows, columns, features = _cells(events, part)
            scores = events.states[part] @ events.catalogue.T
            with torch.enable_grad():
                values = torch.from_numpy(features) @ numbers
                offsets = Offsets(torch.from_numpy(rows), torch.from_numpy(columns), values)
                loss = functional.cross_entropy(offsets.add_to(scores), events.targets[part] - 1)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    base, count, age = (round(float(number), 6) for number in numbers.detach())
    return MemorySettings(base=base, count=count, age=age)
