"""Tests whether two models differ by more than chance, paired by user.

Both models ranked the same click of the same users, so the differences are paired. Only the sample
of users is varied: a significant difference may still be specific to the data set.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cloud_service.recommender.ranking.metrics import NEGATIVES, Ranks

RESAMPLES: Final = 10_000
LEVEL: Final = 0.95
_SEED: Final = 0
_DRAWN: Final = 1 << 21
"""Users drawn in one step of the bootstrap."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Compares a model with a reference in one metric.

    Attributes:
        value, reference: their means over users.
        low, high: the 95% bootstrap interval of the difference.
        p: p-value of a two-sided paired t-test, uncorrected.
        holm: p corrected by Holm's method for all comparisons that were made together.
    """

    value: float
    reference: float
    low: float
    high: float
    p: float
    holm: float
    users: int

    @property
    def difference(self) -> float:
        """How much higher the model is."""
        return self.value - self.reference

    @property
    def relative(self) -> float | None:
        """The difference as a share of the reference; None if the reference is 0."""
        return self.difference / self.reference if self.reference else None

    @property
    def certain(self) -> bool:
        """Whether the interval excludes 0 and the corrected p is below 1 - LEVEL."""
        return not self.low <= 0 <= self.high and self.holm < 1.0 - LEVEL


def per_user(target_ranks: Ranks, metric: str) -> Float64:
    """Each user's "ndcg@10", "hitrate@5" or (against sampled negatives) "uauc", (n,)."""
    name, _, cutoff = metric.partition("@")
    if name == "uauc":
        return 1.0 - (target_ranks.greater + 0.5 * target_ranks.equal) / NEGATIVES
    rank = target_ranks.pessimistic
    gain = 1.0 / np.log2(1.0 + rank) if name == "ndcg" else np.ones(len(rank))
    return np.where(rank <= int(cutoff), gain, 0.0)


def compare(values: Float64, references: Float64) -> list[Comparison]:
    """Compares columns (users, metrics) of a model with those of a reference.

    Their p-values are uncorrected: `corrected` corrects those that belong together.
    """
    if values.shape != references.shape:
        raise ValueError(f"not the same users: {values.shape} against {references.shape}")
    differences = values - references
    lows, highs = bootstrap(differences)
    comparisons = []
    for column in range(values.shape[1]):
        p = t_test(differences[:, column])
        means = float(values[:, column].mean()), float(references[:, column].mean())
        comparisons.append(
            Comparison(*means, float(lows[column]), float(highs[column]), p, p, len(values))
        )
    return comparisons


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons, with p-values corrected for their number."""
    adjusted = holm([comparison.p for comparison in comparisons])
    return [
        replace(comparison, holm=p) for comparison, p in zip(comparisons, adjusted, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, which controls the family-wise error rate.

    A p that is NaN (one user) stays NaN and is not counted.
    """
    ordered = sorted((p, at) for at, p in enumerate(p_values) if not math.isnan(p))
    adjusted = list(p_values)
    highest = 0.0
    for smaller, (p, at) in enumerate(ordered):
        highest = max(highest, min(1.0, p * (len(ordered) - smaller)))
        adjusted[at] = highest
    return adjusted


def bootstrap(
    columns: Float64, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = _SEED
) -> tuple[Float64, Float64]:
    """Percentile interval of the mean of each column (n, columns) over resampled rows.

    All columns share the same resamples: each row's draws are counted once, and a matrix product
    with the columns gives all means.
    """
    count = len(columns)
    random = np.random.default_rng(seed)
    step = max(1, _DRAWN // count)
    means = []
    for at in range(0, resamples, step):
        rows = min(step, resamples - at)
        drawn = random.integers(0, count, (rows, count), dtype=np.int32)
        bins = drawn + np.arange(rows, dtype=np.int64)[:, None] * count
        often = np.bincount(bins.ravel(), minlength=rows * count).reshape(rows, count)
        means.append(often.astype(np.float64) @ columns / count)
    tail = (1.0 - level) / 2
    low, high = np.quantile(np.concatenate(means), (tail, 1.0 - tail), axis=0)
    return low, high


def t_test(differences: Float64) -> float:
    """Two-sided p-value of a paired t-test: that the mean of the differences is 0."""
    count = len(differences)
    if count < 2:
        return math.nan
    spread = float(differences.std(ddof=1))
    mean = float(differences.mean())
    if spread == 0.0:
        return 1.0 if mean == 0.0 else 0.0
    t = mean / (spread / math.sqrt(count))
    return student_tail(t, count - 1)


def student_tail(t: float, freedom: int) -> float:
    """P(|T| >= |t|) of Student's t: the incomplete beta function I_x(freedom / 2, 1 / 2)."""
    x = freedom / (freedom + t * t)
    a, b = freedom / 2.0, 0.5
    if x in (0.0, 1.0):
        return x
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _fraction(a, b, x) / a
    return 1.0 - front * _fraction(b, a, 1.0 - x) / b


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function, by Lentz's method."""
    tiny = 1e-300
    c, d = 1.0, 1.0 / ((1.0 - (a + b) * x / (a + 1.0)) or tiny)
    fraction = d
    for m in range(1, 300):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / ((1.0 + term * d) or tiny)
            c = (1.0 + term / c) or tiny
            fraction *= c * d
        if abs(c * d - 1.0) < 1e-14:
            break
    return fraction
