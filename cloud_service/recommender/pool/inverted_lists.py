"""Nearest vectors by cosine: exact for small sets, by inverted lists for large ones.

Inverted lists (IVF: Jégou, Douze and Schmid, 2011) group vectors by their nearest centre, so that
a search reads the lists of the centres nearest to a query and no others. A list is a contiguous
slice of the file, which can be mapped into memory: there is no other index.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Int64 = NDArray[np.int64]

EXACT: Final = 200_000
"""Vectors up to which every one of them is compared with a query."""
LIST_SIZE: Final = 1000
"""Vectors of a list, on average."""
PROBES: Final = 64
"""Lists that a search reads, for all of its queries together."""
LEAST_PROBES: Final = 16
"""Lists that a search reads for each query, at least."""
_SAMPLE: Final = 64
"""Vectors of each list that its centre is computed from, on average."""
_ITERATIONS: Final = 8
_CHUNK: Final = 1 << 14


def unit_rows(vectors: Floats) -> Floats:
    """The vectors (n, D), each divided by its length; a vector of zeros stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: Floats = vectors / np.maximum(lengths, np.float32(1e-12))
    return units


class Lists(NamedTuple):
    """Unit vectors, list after list.

    Attributes:
        units: (n, D) float32.
        order: (n,) the sample of each vector, uint32.
        centres: (lists, D) float32; none where the search is exact.
        offsets: (lists + 1,) int64: vectors `offsets[i]` up to `offsets[i + 1]` are of list i.
    """

    units: Floats
    order: NDArray[np.uint32]
    centres: Floats
    offsets: Int64

    def nearest(self, queries: Floats, count: int) -> Int64:
        """Up to `count` samples with the largest cosine to any of the queries, the nearest first.

        `queries` are unit vectors (m, D).
        """
        if not len(self.centres):
            chosen = _best((queries @ self.units.T).max(axis=0), count)
            return self.order[chosen].astype(np.int64)
        probes = max(LEAST_PROBES, PROBES // len(queries))
        pairs = [self._near_one(query, probes, count) for query in queries]
        positions, similarity = (np.concatenate(columns) for columns in zip(*pairs, strict=True))
        if len(queries) > 1:  # a sample may be near several queries
            order = np.argsort(-similarity, kind="stable")
            positions, first = np.unique(positions[order], return_index=True)
            similarity = similarity[order][first]
        samples: Int64 = self.order[positions[_best(similarity, count)]].astype(np.int64)
        return samples

    def _near_one(self, query: Floats, probes: int, count: int) -> tuple[Int64, Floats]:
        """Positions in `units` of the vectors nearest to one query, and their cosines."""
        lists = _best(self.centres @ query, probes)
        bounds = [(int(self.offsets[i]), int(self.offsets[i + 1])) for i in lists]
        similarity = np.concatenate([self.units[begin:end] @ query for begin, end in bounds])
        positions = np.concatenate([np.arange(begin, end) for begin, end in bounds])
        best = _best(similarity, count)
        return positions[best], similarity[best]


def make_lists(units: Floats, random: np.random.Generator, exact: int = EXACT) -> Lists:
    """Sorts unit vectors into lists; up to `exact` vectors stay as they are, without lists."""
    count, dim = units.shape
    if count <= exact:
        order = np.arange(count, dtype=np.uint32)
        return Lists(units, order, np.zeros((0, dim), np.float32), np.zeros(1, np.int64))
    centres = _centres(units, max(2, count // LIST_SIZE), random)
    nearest = _assigned(units, centres)
    by_list = np.argsort(nearest, kind="stable")
    sizes = np.bincount(nearest, minlength=len(centres))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Lists(units[by_list], by_list.astype(np.uint32), centres, offsets)


def _centres(units: Floats, lists: int, random: np.random.Generator) -> Floats:
    """Spherical k-means on a sample of the vectors, (lists, D)."""
    size = min(len(units), lists * _SAMPLE)
    sample = units[np.sort(random.choice(len(units), size, replace=False))]
    centres: Floats = sample[random.choice(size, lists, replace=False)]
    for _ in range(_ITERATIONS):
        nearest = _assigned(sample, centres)
        order = np.argsort(nearest, kind="stable")
        used, begins = np.unique(nearest[order], return_index=True)
        sums = np.add.reduceat(sample[order], begins, axis=0)
        centres = centres.copy()
        centres[used] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return centres


def _assigned(units: Floats, centres: Floats) -> Int64:
    """The nearest centre of each vector, (n,)."""
    nearest = [
        (units[at : at + _CHUNK] @ centres.T).argmax(axis=1) for at in range(0, len(units), _CHUNK)
    ]
    return np.concatenate(nearest).astype(np.int64)


def _best(similarity: Floats, count: int) -> Int64:
    """Positions of the `count` largest numbers, the largest first."""
    if count < len(similarity):
        chosen = np.argpartition(-similarity, count)[:count]
    else:
        chosen = np.arange(len(similarity))
    best: Int64 = chosen[np.argsort(-similarity[chosen], kind="stable")]
    return best
