"""NDCG@10 and HitRate@10 of the next click, with 95% intervals clustered by user.

Requests of one user are correlated, so each user is one cluster, whatever the number of requests
(cluster-robust variance; t distribution with users - 1 degrees of freedom).
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
"""97.5% quantiles by degrees of freedom, where the expansion in `t_95` is too inexact."""

Floats = NDArray[np.float64]
Rank = int | None
"""Position of the next click in the ranking, from 0; None if it was not a candidate."""


class Compared(NamedTuple):
    """The ranks of one request with and without its correction."""

    user: int
    step: int
    """Index of the user's click before it. `user` and `step` identify a request."""
    corrected: Rank
    local: Rank


def quality(form: Form, compared: Sequence[Compared]) -> Quality | None:
    """Returns NDCG@10 and HitRate@10 with and without the correction; `None` without requests.

    A request that occurs in several simulations counts once.
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
    """Returns (n,) NDCG@10 and (n,) HitRate@10 of each request: 0 if it was not a candidate."""
    ranks_or_infinity = np.array([np.inf if rank is None else rank for rank in ranks])
    hits = ranks_or_infinity < TOP
    gains = np.where(hits, 1 / np.log2(np.where(hits, ranks_or_infinity, 0) + 2), 0.0)
    return gains, hits.astype(np.float64)


def ranking(ndcg: Floats, hits: Floats) -> Ranking:
    """Averages (n,) NDCG@10 and (n,) HitRate@10."""
    return Ranking(ndcg10=float(ndcg.mean()), hitrate10=float(hits.mean()))


def interval(differences: Floats, users: Sequence[int]) -> Interval:
    """Returns the mean of (n,) paired differences in [-1, 1] and its 95% interval by user.

    With a single user the interval is [-1, 1]: one cluster gives no variance.
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
    """97.5% quantile of the t distribution, within 0.5% (Cornish-Fisher expansion)."""
    if freedom in SMALL_T:
        return SMALL_T[freedom]
    z = NORMAL_95
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
