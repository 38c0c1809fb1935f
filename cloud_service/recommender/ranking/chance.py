"""The expected metrics of a random ranking: every order of the candidates is equally likely."""

import numpy as np
from numpy.typing import NDArray

from cloud_service.recommender.data.clicks import Split, ranges

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

UAUC = 0.5


def candidates(split: Split) -> Int64:
    """Number of items that a ranking of all items contains for each test click, (training users,).

    0 if the test click's item is itself left out, and therefore always last.
    """
    tests, width = split.test_positions, split.log.item_count + 1
    if not split.seen_left_out:
        return np.full(len(tests), split.log.item_count, np.int64)
    rows = np.repeat(np.arange(len(tests), dtype=np.int64), tests - split.starts)
    seen = np.unique(rows * width + split.log.items[ranges(split.starts, tests)])
    ranked_items = split.log.item_count - np.bincount(seen // width, minlength=len(tests))
    own_targets = np.arange(len(tests)) * width + split.log.items[tests]
    return np.where(np.isin(own_targets, seen), 0, ranked_items).astype(np.int64)


def random_ndcg(counts: Int64, cutoff: int) -> Float64:
    """The expected NDCG@cutoff of a random ranking, (n,); 0 for users without candidates.

    Args:
        counts: number of candidates of each user, including the relevant one, (n,).
    """
    gains = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, cutoff + 2)))])
    return np.asarray(gains[np.minimum(counts, cutoff)] / np.maximum(counts, 1))
