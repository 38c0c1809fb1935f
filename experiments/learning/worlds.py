"""Two generated worlds that check the machinery: in one learning must win, in one it must not lose.

Before the bundle is made, users click in sessions, each within one random group of items: a bundle
learns which items belong together, and nothing about a user. Afterwards a click is on any item or,
with `tastes`, one in four is on an item of the one group that its user likes. No bundle can know
them, and the last ten clicks hardly tell. Without tastes there is nothing to learn.
"""

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cloud_service.recommender.data.clicks import ClickLog
from cloud_service.recommender.data.prepare import prepare

GROUPS: Final = 25
LIKED: Final = 1
SHARE_OF_TASTE: Final = 0.25
SESSION: Final = 10

Int64 = NDArray[np.int64]


def control_world(
    *, tastes: bool, users: int = 300, items: int = 1000, clicks: int = 120, seed: int = 0
) -> ClickLog:
    """A log in which nobody clicks an item twice; the times number each user's clicks.

    The first half of each user's clicks is what the bundle may see.
    """
    random = np.random.default_rng(seed)
    group = random.permutation(items) % GROUPS
    share = SHARE_OF_TASTE if tastes else 0.0
    numbers = np.concatenate([_clicks(random, group, clicks, share) for _ in range(users)])
    frame = pl.DataFrame(
        {
            "user_id": np.repeat([f"user-{user:05d}" for user in range(users)], clicks),
            "item_id": [f"item-{number:05d}" for number in numbers],
            "timestamp": np.tile(np.arange(clicks), users),
        }
    )
    name = "with tastes" if tastes else "without tastes"
    return prepare(frame, name=f"control {name}", synthetic=True, source=f"generated, seed {seed}")


def _clicks(random: np.random.Generator, group: Int64, count: int, share: float) -> Int64:
    """A user's clicks: sessions in the first half, then anything and the liked groups."""
    is_left = np.ones(len(group), bool)
    liked = random.permutation(GROUPS)[:LIKED]
    topics = random.integers(0, GROUPS, -(-count // SESSION))
    chosen = np.empty(count, np.int64)
    for place in range(count):
        wanted = is_left
        if place < count // 2:
            wanted = is_left & (group == topics[place // SESSION])
        elif random.random() < share:
            wanted = is_left & np.isin(group, liked)
        candidates = np.flatnonzero(wanted if wanted.any() else is_left)
        chosen[place] = random.choice(candidates)
        is_left[chosen[place]] = False
    return chosen
