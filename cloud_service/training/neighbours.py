"""Item neighbours: what is clicked soon before or after what, counted on training clicks alone.

The candidate retrieval and item-kNN read them. An item's weight for another is the sum of
1 / distance over all places where it follows within reach (half that where it comes before),
divided by the square root of both items' popularity, or as `Counting` says.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_service.data.clicks import Split

POPULAR = 2000


@dataclass(frozen=True)
class Counting:
    """How neighbours are counted and weighed.

    Attributes:
        count: neighbours kept of each item.
        reach: clicks between two items of one user at most.
        fade: a pair counts 1 / distance ** fade.
        backward: what an item counts that comes before, against one that follows.
        power: both items' popularity counts to this power; 0.5 makes it a cosine.
        shrinkage: a pair seen w times counts w / (w + shrinkage) of that, 0 counts all in full.
        repeats: whether an item clicked again is a neighbour of its own.
    """

    count: int = 50
    reach: int = 5
    fade: float = 1.0
    backward: float = 0.5
    power: float = 0.5
    shrinkage: float = 0.0
    repeats: bool = False


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


def fit_neighbours(split: Split, counting: Counting | None = None) -> Neighbours:
    """Counts the neighbours of every item in the training clicks."""
    counting = counting or Counting()
    width, count = split.log.item_count + 1, counting.count
    pairs, weights = _pair_weights(split, width, counting)
    left, right = pairs // width, pairs % width
    popularity = np.maximum(split.train_counts(), 1).astype(np.float64) ** counting.power
    weights *= weights / (weights + counting.shrinkage) / (popularity[left] * popularity[right])
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


def _pair_weights(
    split: Split, width: int, counting: Counting
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Each ordered pair of items as one number, left * width + right, and its summed weight."""
    positions = split.train_positions
    ends = np.repeat(split.stops, split.stops - split.starts)
    items = split.log.items.astype(np.int64)
    pairs, weights = [], []
    for distance in range(1, counting.reach + 1):
        first = positions[positions + distance < ends]
        left, right = items[first], items[first + distance]
        kept = slice(None) if counting.repeats else left != right
        keys, counts = np.unique((left * width + right)[kept], return_counts=True)
        pairs.append(keys)
        weights.append(counts / distance**counting.fade)
    keys, total = _merged(pairs, weights)
    if not counting.backward:
        return keys, total
    turned = keys % width * width + keys // width
    return _merged([keys, turned], [total, counting.backward * total])


def _merged(
    keys: list[NDArray[np.int64]], weights: list[NDArray[np.float64]]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Each key once, ascending, with the sum of its weights."""
    found, place = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.bincount(place, np.concatenate(weights), minlength=len(found))
    return found, total.astype(np.float64)
