"""Small pools of samples with known content."""

import numpy as np

from cloud_service.recommender.pool.inverted_lists import Lists, make_lists, unit_rows
from cloud_service.recommender.pool.pool_file import Pool


def small_pool(count: int, dim: int, items: int, *, item: int | None = None, seed: int = 0) -> Pool:
    """Random samples, all of `item` where one is given; exact search."""
    random = np.random.default_rng(seed)
    states = random.normal(size=(count, dim)).astype(np.float32)
    rows = random.integers(1, items + 1, count) if item is None else np.full(count, item)
    histories: Lists = make_lists(unit_rows(states[::-1].copy()), random)
    return Pool(
        states=make_lists(unit_rows(states), random),
        lengths=np.linalg.norm(states, axis=1).astype(np.float32),
        rows=rows.astype(np.uint32),
        histories=histories,
        sample_users=10,
        radius=0.1,
    )
