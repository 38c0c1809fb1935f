"""Ranking metrics of next-item recommendation: one relevant item per user.

UAUC, NDCG@k and HitRate@k as in CoCorrRec (IJCAI 2025, Section 4), against 100 sampled negatives,
and NDCG@k and HitRate@k over all items, because sampled figures can reverse the order of models
(Krichene and Rendle, KDD 2020).

    found = ranks(scores, targets)            # column of the relevant item, per user
    figures = rank_metrics(ALL, found)
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cloud_service.recommender.data.clicks import ClickLog
from shared.errors import DataError

CUTOFFS = (5, 10, 20)
HIT_CUTOFFS = (1, *CUTOFFS)
"""At 1, NDCG and HitRate are the same."""
NEGATIVES = 100
ALL = "all"
SAMPLED = f"sampled{NEGATIVES}"

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

_ROUNDS = 20


class Ranks(NamedTuple):
    """Numbers of other candidates that score above the relevant item, and equal to it, (n,)."""

    greater: Int64
    equal: Int64

    @property
    def pessimistic(self) -> Int64:
        """The rank (1 is best) of the relevant item, after all candidates that tie with it."""
        return 1 + self.greater + self.equal


def ranks(scores: NDArray[np.floating], target_column: int | Int64) -> Ranks:
    """Ranks the relevant item in each row of scores.

    Args:
        scores: (n, m), higher is better; -inf excludes a candidate.
        target_column: the column of the relevant item, one for all rows or (n,).

    Raises:
        ValueError: a score is NaN, which is neither above nor below any other and would rank
            well; or the shapes do not fit.
    """
    if scores.ndim != 2:
        raise ValueError(f"scores must be (n, m), not {scores.shape}")
    columns = np.broadcast_to(np.asarray(target_column, np.int64), (len(scores),))[:, None]
    # The minimum of a row is NaN if any score is, and needs no second array.
    if scores.size and np.isnan(scores.min(axis=1)).any():
        raise ValueError("scores hold NaN: the model or its input is broken")
    target = np.take_along_axis(scores, columns, axis=1)
    greater = np.count_nonzero(scores > target, axis=1)
    equal = np.count_nonzero(scores == target, axis=1) - 1
    return Ranks(greater.astype(np.int64), equal.astype(np.int64))


def ndcg(rank: Int64, cutoff: int) -> float:
    """Mean of 1 / log2(1 + rank) for ranks up to `cutoff`, else 0 (the ideal gain is 1)."""
    return float(np.where(rank <= cutoff, 1.0 / np.log2(1.0 + rank), 0.0).mean())


def hit_rate(rank: Int64, cutoff: int) -> float:
    """Share of ranks up to `cutoff`."""
    return float((rank <= cutoff).mean())


def uauc(target_ranks: Ranks, negatives: int | Int64) -> float:
    """Mean over users of the share of negatives below the relevant item; a tie counts half."""
    above = (target_ranks.greater + 0.5 * target_ranks.equal) / negatives
    return float((1.0 - above).mean())


def rank_metrics(
    name: str, target_ranks: Ranks, *, negatives: int | Int64 | None = None
) -> dict[str, float]:
    """All metrics by name: "all/ndcg@10", "sampled100/hitrate@5", "sampled100/uauc".

    NDCG and HitRate count ties against the model, UAUC counts them half: a scorer that gives
    every candidate the same score gets HitRate 0 (with enough candidates) and UAUC 0.5.

    Args:
        name: the protocol, `ALL` or `SAMPLED`; every key begins with it.
        negatives: number of candidates that are not relevant, one for all users or (n,); UAUC is
            reported only if it is given.

    Raises:
        ValueError: there is no user to average over.
    """
    if not len(target_ranks.greater):
        raise ValueError("no user to average over")
    rank = target_ranks.pessimistic
    figures = {f"{name}/ndcg@{cutoff}": ndcg(rank, cutoff) for cutoff in CUTOFFS}
    figures |= {f"{name}/hitrate@{cutoff}": hit_rate(rank, cutoff) for cutoff in HIT_CUTOFFS}
    if negatives is not None:
        figures[f"{name}/uauc"] = uauc(target_ranks, negatives)
    return figures


def sample_negatives(
    log: ClickLog, users: Int64, *, count: int = NEGATIVES, seed: int = 0
) -> Int32:
    """Samples for each user distinct items that the user never interacted with.

    Uniform over such items; the same for the same log, users and seed. The whole log counts:
    training, validation and test.

    Args:
        users: user rows of `log`, (n,).

    Returns:
        (n, count) int32 item numbers.

    Raises:
        DataError: a user has interacted with so many items that fewer than `count` are left.
    """
    users = np.asarray(users, np.int64)
    width = log.item_count + 1
    seen = _seen_keys(log, users, width)
    unseen_items = _unseen(log, seen, width)[users]
    if len(users) and unseen_items.min() < count:
        poorest = int(unseen_items.argmin())
        raise DataError(
            f"User {log.user_ids[users[poorest]]!r} has only {int(unseen_items[poorest])} items "
            f"left to sample {count} negatives from: use a larger catalogue or fewer negatives."
        )
    random = np.random.default_rng(seed)
    drawn = random.integers(1, width, (len(users), count), dtype=np.int32)
    for _ in range(_ROUNDS):
        bad = _repeats(drawn) | _contains(seen, users[:, None] * width + drawn)
        misses = int(np.count_nonzero(bad))
        if not misses:
            return drawn
        drawn[bad] = random.integers(1, width, misses, dtype=np.int32)
    # Rejection would not end for users who know nearly the whole catalogue: draw from the rest.
    bad = _repeats(drawn) | _contains(seen, users[:, None] * width + drawn)
    for row in np.flatnonzero(bad.any(axis=1)):
        unseen = np.setdiff1d(np.arange(1, width), log.sequence(int(users[row])))
        drawn[row] = random.choice(unseen, count, replace=False)
    return drawn


def unseen_counts(log: ClickLog) -> Int64:
    """Number of items that each user has never interacted with, (users,)."""
    width = log.item_count + 1
    seen = _seen_keys(log, np.arange(log.user_count), width)
    return _unseen(log, seen, width)


def _unseen(log: ClickLog, seen: Int64, width: int) -> Int64:
    return log.item_count - np.bincount(seen // width, minlength=log.user_count)


def _seen_keys(log: ClickLog, users: Int64, width: int) -> Int64:
    """Sorted keys, user row * width + item number, of the pairs that these users clicked."""
    is_included = np.zeros(log.user_count, bool)
    is_included[users] = True
    rows = np.repeat(np.arange(log.user_count, dtype=np.int64), log.lengths)
    mine = is_included[rows]
    return np.unique(rows[mine] * width + log.items[mine])


def _contains(ordered: Int64, keys: Int64) -> NDArray[np.bool_]:
    positions = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
    is_contained: NDArray[np.bool_] = ordered[positions] == keys
    return is_contained


def _repeats(drawn: Int32) -> NDArray[np.bool_]:
    """Marks the numbers that occur earlier in their row."""
    order = np.argsort(drawn, axis=1, kind="stable")
    ordered = np.take_along_axis(drawn, order, axis=1)
    repeated = np.zeros(drawn.shape, bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    in_row_order = np.zeros_like(repeated)
    np.put_along_axis(in_row_order, order, repeated, axis=1)
    return in_row_order
