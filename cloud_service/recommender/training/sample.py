"""Some users of a large log, where a training must end within minutes."""

from dataclasses import replace

import numpy as np

from cloud_service.recommender.data.clicks import ClickLog, ranges


def sampled(log: ClickLog, clicks: int, seed: int) -> ClickLog:
    """The log of random users with about so many clicks in all; the log itself where it has fewer.

    Items that none of them clicked are no longer in the catalogue. At least two users stay, and
    `preprocessing` says how many do.
    """
    if log.click_count <= clicks:
        return log
    order = np.random.default_rng(seed).permutation(log.user_count)
    enough = int(np.searchsorted(np.cumsum(log.lengths[order]), clicks, side="right"))
    users = np.sort(order[: max(2, enough)])
    positions = ranges(log.offsets[users], log.offsets[users + 1])
    items, renumbered = np.unique(log.items[positions], return_inverse=True)
    titles = log.titles and tuple(log.titles[item - 1] for item in items)
    description = f"a sample of {len(users):,} of {log.user_count:,} users (seed {seed})"
    return replace(
        log,
        preprocessing=f"{log.preprocessing}; {description}",
        item_ids=tuple(log.item_ids[item - 1] for item in items),
        items=(renumbered + 1).astype(np.int32),
        timestamps=log.timestamps[positions],
        offsets=np.concatenate([[0], np.cumsum(log.lengths[users])]).astype(np.int64),
        user_ids=tuple(log.user_ids[user] for user in users),
        titles=titles if titles and any(titles) else None,
        agreed=None if log.agreed is None else log.agreed[users],
    )
