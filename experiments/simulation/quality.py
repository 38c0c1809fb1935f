"""How well the next click was ranked, and with what certainty: intervals are by user.

The requests of one user resemble each other, so a user counts as one observation, however many
requests he made (cluster-robust variance, t distribution with one degree of freedom per user
but one).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.simulation.measured import Interval, Ranking
from experiments.simulation.report import Quality
from shared.wire import Form

TOP = 10
NORMAL_95 = 1.959964
SMALL_T = {1: 12.7062, 2: 4.3027, 3: 3.1824}
"""Quantiles of the t distribution that the expansion below misses."""

Floats = NDArray[np.float64]
Rank = int | None
"""Where the next click stood, 0 the first place; None: it was not a candidate."""


class Compared(NamedTuple):
    """One request ranked with its correction and without."""

    user: int
    step: int
    """Which of the user's clicks it follows: the request is the same wherever both are."""
    corrected: Rank
    local: Rank


def quality(form: Form, compared: Sequence[Compared]) -> Quality | None:
    """NDCG@10 and HitRate@10 with the correction and without; `None` of nothing.

    A request that several simulations made counts once.
    """
    distinct = list({(row.user, row.step): row for row in compared}.values())
    if not distinct:
        return None
    users = [row.user for row in distinct]
    corrected = scores([row.corrected for row in distinct])
    local = scores([row.local for row in distinct])
    return Quality(
        form=form,
        requests=len(distinct),
        users=len(set(users)),
        recall=sum(row.local is not None for row in distinct) / len(distinct),
        corrected=ranking(*corrected),
        local=ranking(*local),
        gain_ndcg10=interval(corrected[0] - local[0], users),
        gain_hitrate10=interval(corrected[1] - local[1], users),
    )


def scores(ranks: Sequence[Rank]) -> tuple[Floats, Floats]:
    """(n,) NDCG@10 and (n,) HitRate@10 of each request; no candidate counts 0."""
    ranks_or_infinity = np.array([np.inf if rank is None else rank for rank in ranks])
    hits = ranks_or_infinity < TOP
    gains = np.where(hits, 1 / np.log2(np.where(hits, ranks_or_infinity, 0) + 2), 0.0)
    return gains, hits.astype(np.float64)


def ranking(ndcg: Floats, hits: Floats) -> Ranking:
    """The means of (n,) NDCG@10 and (n,) HitRate@10."""
    return Ranking(ndcg10=float(ndcg.mean()), hitrate10=float(hits.mean()))


def interval(differences: Floats, users: Sequence[int]) -> Interval:
    """Mean of (n,) paired differences in [-1, 1] and its 95% interval, by user.

    One user alone tells nothing of others: the interval is all that is possible.
    """
    mean = float(differences.mean())
    _, user = np.unique(np.asarray(users), return_inverse=True)
    count = int(user.max()) + 1
    if count == 1:
        return Interval(mean=mean, low=-1.0, high=1.0)
    sums = np.bincount(user, weights=differences - mean, minlength=count)
    error = float(np.sqrt((sums**2).sum() * count / (count - 1))) / len(differences)
    half = t_95(count - 1) * error
    return Interval(mean=mean, low=mean - half, high=mean + half)


def t_95(freedom: int) -> float:
    """The 97.5% quantile of the t distribution, right to 0.5% (Cornish-Fisher expansion)."""
    if freedom in SMALL_T:
        return SMALL_T[freedom]
    z = NORMAL_95
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
