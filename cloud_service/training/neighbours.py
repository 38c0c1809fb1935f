"""Item neighbours for the candidate retrieval: what is clicked soon before or after what.

Counted on training clicks alone. An item's weight for another is the sum of 1 / distance over
all places where it follows within five clicks (half that where it comes before), divided by the
square root of both items' popularity, as item-kNN does.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_service.data.clicks import Split

REACH = 5
BACKWARD = 0.5
POPULAR = 2000


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The tables of a retrieval.

    Attributes:
        ids: the nearest items of each item, nearest first, 0 where there are fewer,
            (items + 1, count) int32.
        weights: their weights, 0 where there is none, (items + 1, count) float32.
        popular: items by number of training clicks, most first, (at most 2,000,) int32.
    """

    ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    popular: NDArray[np.int32]


def fit_neighbours(split: Split, *, count: int = 50) -> Neighbours:
    """Counts the neighbours of every item in the training clicks."""
    width = split.log.item_count + 1
    pairs, weights = _pair_weights(split, width)
    left, right = pairs // width, pairs % width
    popularity = np.sqrt(np.maximum(split.train_counts(), 1).astype(np.float64))
    weights = weights / (popularity[left] * popularity[right])
    order = np.lexsort((-weights, left))
    left, right, weights = left[order], right[order], weights[order]
    place = np.arange(len(left)) - np.searchsorted(left, left)
    kept = place < count
    ids = np.zeros((width, count), np.int32)
    table = np.zeros((width, count), np.float32)
    ids[left[kept], place[kept]] = right[kept]
    table[left[kept], place[kept]] = weights[kept]
    by_count = np.argsort(-split.train_counts()[1:], kind="stable")[:POPULAR] + 1
    return Neighbours(ids, table, by_count.astype(np.int32))


def _pair_weights(split: Split, width: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Each ordered pair of different items as one number, left * width + right, and its weight."""
    positions = split.train_positions
    ends = np.repeat(split.stops, split.stops - split.starts)
    items = split.log.items.astype(np.int64)
    pairs, weights = [], []
    for distance in range(1, REACH + 1):
        first = positions[positions + distance < ends]
        left, right = items[first], items[first + distance]
        for one, other, share in ((left, right, 1.0), (right, left, BACKWARD)):
            keys, counts = np.unique((one * width + other)[one != other], return_counts=True)
            pairs.append(keys)
            weights.append(counts * share / distance)
    keys, inverse = np.unique(np.concatenate(pairs), return_inverse=True)
    total = np.bincount(inverse, np.concatenate(weights), minlength=len(keys))
    return keys, total.astype(np.float64)
