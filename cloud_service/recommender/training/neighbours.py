"""Item neighbours: what is clicked soon before or after what, counted on training clicks alone.

The candidate retrieval and item-kNN read them. An item's weight for another is the sum of
1 / distance over all places where it follows within reach (half that where it comes before),
divided by the square root of both items' popularity, or as `Counting` says.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_service.recommender.data.clicks import Split

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


@dataclass(frozen=True, eq=False)
class Pairs:
    """How often one item follows another, by the clicks between them, (n,) each.

    Ordered by pair, `left * width + right`, then distance.
    """

    reach: int
    keys: NDArray[np.int64]
    distances: NDArray[np.int64]
    counts: NDArray[np.int64]


def count_pairs(split: Split, reach: int) -> Pairs:
    """Counts all pairs of a user's training clicks at most `reach` apart."""
    width = split.log.item_count + 1
    positions = split.train_positions
    ends = np.repeat(split.stops, split.stops - split.starts)
    items = split.log.items.astype(np.int64)
    distinct, often = [], []
    for distance in range(1, reach + 1):
        starts = positions[positions + distance < ends]
        pair = items[starts] * width + items[starts + distance]
        keys, counts = np.unique(pair * (reach + 1) + distance, return_counts=True)
        distinct.append(keys)
        often.append(counts)
    everything = np.concatenate(distinct)
    order = np.argsort(everything, kind="stable")  # runs that are sorted already: it merges them
    keys = everything[order]
    counts = np.concatenate(often)[order].astype(np.int64)
    return Pairs(reach, keys // (reach + 1), keys % (reach + 1), counts)


def fit_neighbours(
    split: Split, counting: Counting | None = None, pairs: Pairs | None = None
) -> Neighbours:
    """Counts the neighbours of every item in the training clicks.

    `pairs` are those of the split, of at least the reach of `counting`; where many countings are
    tried they need to be counted once.
    """
    counting = counting or Counting()
    width, count = split.log.item_count + 1, counting.count
    keys, weights = _pair_weights(pairs or count_pairs(split, counting.reach), width, counting)
    rows, right = keys // width, keys % width
    popularity = np.maximum(split.train_counts(), 1).astype(np.float64) ** counting.power
    weights *= weights / (weights + counting.shrinkage) / (popularity[rows] * popularity[right])
    order = np.lexsort((-weights, rows))
    rows, right, weights = rows[order], right[order], weights[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    is_kept = rank < count
    ids = np.zeros((width, count), np.int32)
    table = np.zeros((width, count), np.float32)
    ids[rows[is_kept], rank[is_kept]] = right[is_kept]
    table[rows[is_kept], rank[is_kept]] = weights[is_kept]
    by_count = np.argsort(-split.train_counts()[1:], kind="stable")[:POPULAR] + 1
    return Neighbours(ids, table, by_count.astype(np.int32))


def _pair_weights(
    pairs: Pairs, width: int, counting: Counting
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Each ordered pair of items as one number, left * width + right, and its summed weight."""
    is_kept = pairs.distances <= counting.reach
    if not counting.repeats:
        is_kept &= pairs.keys // width != pairs.keys % width
    keys = pairs.keys[is_kept]
    weights = pairs.counts[is_kept] / pairs.distances[is_kept] ** counting.fade
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    if not len(starts):
        return keys, weights
    total = np.add.reduceat(weights, starts)
    keys = keys[starts]
    if not counting.backward:
        return keys, total
    turned = keys % width * width + keys // width
    return _merged([keys, turned], [total, counting.backward * total])


def _merged(
    keys: list[NDArray[np.int64]], weights: list[NDArray[np.float64]]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Each key once, ascending, with the sum of its weights."""
    distinct, rank = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.bincount(rank, np.concatenate(weights), minlength=len(distinct))
    return distinct, total.astype(np.float64)
