"""Hides users among others before a sample may leave the cloud: k users, one item, one radius.

A sample is a user state before a click, and the item of that click. It may be handed out only if
at least k users clicked the same item from states within a radius of it. A radius is a cosine
distance, 1 - cos: it is chosen so that two samples of a pool, drawn at random, lie within it with
a probability of RADIUS_SHARE.

`users_near` counts these users; every sample keeps its own state. `microaggregates` replaces k
samples of k users by their mean (microaggregation: Domingo-Ferrer and Mateo-Sanz, 2002). Its
groups are disjoint, so no difference of two means is the state of one user.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Int64 = NDArray[np.int64]

RADIUS_SHARE: Final = 0.05
_PAIRS: Final = 20_000
_BLOCK: Final = 4096
"""Samples of one item that are compared with each other. Those of a more popular item are split at
random, so a count can only be too low."""


def pool_radius(units: Floats, random: np.random.Generator) -> float:
    """The cosine distance within which a share RADIUS_SHARE of random pairs of samples lie."""
    if len(units) < 2:
        return 0.0
    first = random.integers(0, len(units), _PAIRS)
    second = (first + random.integers(1, len(units), _PAIRS)) % len(units)
    distances = 1.0 - np.einsum("nd,nd->n", units[first], units[second])
    return float(np.quantile(distances, RADIUS_SHARE))


def users_near(
    units: Floats, items: Int64, users: Int64, radius: float, random: np.random.Generator
) -> Int64:
    """How many users have the item of each sample within the radius of it, itself included, (n,).

    `units` are directions (n, D). The count is a lower bound for items with over 4,096 samples.
    """
    counts = np.zeros(len(items), np.int64)
    for block in _item_blocks(items, random):
        block = block[np.argsort(users[block], kind="stable")]
        vectors = units[block]
        is_near = vectors @ vectors.T >= 1.0 - radius
        np.fill_diagonal(is_near, True)  # rounding may put a sample outside a radius of zero
        begins = np.flatnonzero(np.diff(users[block], prepend=-1))
        counts[block] = np.logical_or.reduceat(is_near, begins, axis=1).sum(axis=1)
    return counts


def microaggregates(
    units: Floats,
    items: Int64,
    users: Int64,
    radius: float,
    k: int,
    random: np.random.Generator,
) -> Int64:
    """Partitions samples of the same item into disjoint groups of k users within the radius.

    A group is a sample, drawn at random, and the nearest sample of each of the k - 1 nearest other
    users, all within the radius of it. A sample without so many is in no group.

    Returns:
        (groups, k) positions of the samples, those of one group in order of their distance.
    """
    groups = [
        group
        for block in _item_blocks(items, random)
        if len(block) >= k
        for group in _groups_of(block, units, users, radius, k)
    ]
    return np.array(groups, np.int64).reshape(-1, k)


def _groups_of(block: Int64, units: Floats, users: Int64, radius: float, k: int) -> Iterator[Int64]:
    """The groups of one item; the samples of `block` are in random order."""
    free = block
    while len(free) >= k:
        distances = 1.0 - units[free] @ units[free[0]]
        distances[0] = -1.0  # the sample itself is the first member, whatever rounding says
        order = np.argsort(distances, kind="stable")
        order = order[distances[order] <= radius]
        _, nearest = np.unique(users[free[order]], return_index=True)
        if len(nearest) < k:
            free = free[1:]
            continue
        chosen = order[np.sort(nearest)[:k]]
        yield free[chosen]
        free = np.delete(free, chosen)


def _item_blocks(items: Int64, random: np.random.Generator) -> Iterator[Int64]:
    """Positions of the samples of one item after another, in random order, in blocks."""
    shuffled = random.permutation(len(items))
    by_item = shuffled[np.argsort(items[shuffled], kind="stable")]
    ends = np.flatnonzero(np.diff(items[by_item])) + 1
    for positions in np.split(by_item, ends):
        for at in range(0, len(positions), _BLOCK):
            block = positions[at : at + _BLOCK]
            if len(block):
                yield block
