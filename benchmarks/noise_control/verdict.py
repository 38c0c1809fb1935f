"""Whether any model of an evaluation on noise is told from chance.

World by world a model is compared, as the tables of an evaluation compare, with a ranking that was
drawn: two rankings that know nothing differ as often one way as the other, so that intervals and p
are what they say. Over all worlds together it is compared with what such a ranking scores in the
mean, which sees far smaller differences.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from benchmarks.noise_control.worlds import DISGUISES
from cloud_service.recommender.data.clicks import Split
from cloud_service.recommender.ranking import chance
from cloud_service.recommender.ranking.metrics import ALL, NEGATIVES, SAMPLED, Ranks
from cloud_service.recommender.ranking.significance import LEVEL, compare, holm, per_user
from experiments.comparison.board import Board
from experiments.comparison.files import read_ranks
from experiments.comparison.recipe import LOCAL

CUTOFF: Final = 10
METRICS: Final = {ALL: f"ndcg@{CUTOFF}", SAMPLED: "uauc"}
_CERTAIN: Final = 0.99
_FAMILIES: Final = len(DISGUISES) * len(METRICS)
_POPULARITY: Final = "popularity"
_GAINS: Final = 1.0 / np.log2(np.arange(2, CUTOFF + 2))
_UAUC_VARIANCE: Final = ((NEGATIVES + 1) ** 2 - 1) / 12 / NEGATIVES**2

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Against:
    """A model against chance on one world, in one protocol.

    Attributes:
        value, reference: means over users, of the model and of the ranking compared with.
        low, high, p: as in an evaluation's tables.
        chance: what a ranking that knows nothing scores in the mean.
        error: the standard error of `value` around `chance`.
    """

    model: str
    world: str
    protocol: str
    value: float
    reference: float
    low: float
    high: float
    p: float
    chance: float
    error: float


@dataclass(frozen=True)
class Verdict:
    """All comparisons of one protocol.

    Attributes:
        one_sided: only what is better than chance counts.
        holm: the smallest p after Holm's correction over all comparisons.
        outside: intervals that leave 0 out (above it, where one-sided).
        allowed: as many as 99 of 100 binomials of the intervals' own rate hold at most.
        pooled: the smallest p of a model over all worlds together, after Holm's correction over
            models, times the ten disguises and two protocols that are looked at.
    """

    protocol: str
    one_sided: bool
    comparisons: int
    holm: float
    outside: int
    allowed: int
    pooled: float

    @property
    def holds(self) -> bool:
        """Nothing is told from chance."""
        return min(self.holm, self.pooled) >= 1.0 - LEVEL and self.outside <= self.allowed


def fair_gains(found: Ranks) -> Float64:
    """Each user's NDCG@10, the mean over all orders of the candidates that tie with the target.

    The figures of an evaluation put the target behind all that tie with it: a model that says the
    same of many items is then below chance, which is no fault of it here.
    """
    gains = np.concatenate([[0.0], np.cumsum(_GAINS)])
    upper = gains[np.minimum(found.greater + found.equal + 1, CUTOFF)]
    lower = gains[np.minimum(found.greater, CUTOFF)]
    return np.asarray((upper - lower) / (found.equal + 1))


def against_chance(board: Board, dataset: Split, world: str, *, skewed: bool) -> list[Against]:
    """Every model of a world against a random ranking, or against popularity where it is skewed."""
    rows = [row for row in board.about.models if not row.endswith(LOCAL)]
    users = {row: _users(board, world, row) for row in rows}
    counts = chance.candidates(dataset)
    clicks = int(dataset.log.digest()[:16], 16)
    comparisons = []
    for row in rows:
        if skewed and row == _POPULARITY:
            continue
        random = np.random.default_rng([clicks, crc32(row.encode())])
        for protocol in METRICS:
            values = users[row][protocol]
            if skewed:
                references = users[_POPULARITY][protocol]
                mean = references.mean()
                error = (values - references).std(ddof=1) / math.sqrt(len(values))
            elif protocol == ALL:
                references = drawn_gains(counts, random)
                mean = chance.random_ndcg(counts, CUTOFF).mean()
                error = math.sqrt(_variances(counts).sum()) / len(counts)
            else:
                references = random.integers(0, NEGATIVES + 1, len(values)) / NEGATIVES
                mean = chance.UAUC
                error = math.sqrt(_UAUC_VARIANCE / len(values))
            (compared,) = compare(values[:, None], references[:, None])
            comparisons.append(
                Against(
                    row,
                    world,
                    protocol,
                    compared.value,
                    compared.reference,
                    compared.low,
                    compared.high,
                    compared.p,
                    float(mean),
                    float(error),
                )
            )
    return comparisons


def drawn_gains(counts: Int64, random: np.random.Generator) -> Float64:
    """Each user's NDCG@10 of a ranking in which every rank is as likely; 0 without candidates."""
    ranks = random.integers(0, np.maximum(counts, 1))
    hit = (ranks < CUTOFF) & (counts > 0)
    return np.where(hit, _GAINS[np.minimum(ranks, CUTOFF - 1)], 0.0)


def verdicts(comparisons: Sequence[Against], *, one_sided: bool) -> list[Verdict]:
    """A verdict for each protocol."""
    verdict_list = []
    for protocol in METRICS:
        mine = [comparison for comparison in comparisons if comparison.protocol == protocol]
        p_values = [
            1.0 if one_sided and comparison.value < comparison.reference else comparison.p
            for comparison in mine
        ]
        outside = sum(
            comparison.low > 0 or (comparison.high < 0 and not one_sided) for comparison in mine
        )
        rate = (1.0 - LEVEL) / (2 if one_sided else 1)
        models = dict.fromkeys(comparison.model for comparison in mine)
        pooled = [
            _pooled([comparison for comparison in mine if comparison.model == model], one_sided)
            for model in models
        ]
        verdict_list.append(
            Verdict(
                protocol=protocol,
                one_sided=one_sided,
                comparisons=len(mine),
                holm=min(holm(p_values)),
                outside=outside,
                allowed=allowed(len(mine), rate),
                pooled=min(1.0, _FAMILIES * min(holm(pooled))),
            )
        )
    return verdict_list


def allowed(count: int, rate: float) -> int:
    """The smallest number that a binomial of `count` and `rate` stays at or below at 99%."""
    total = 0.0
    for successes in range(count + 1):
        total += math.comb(count, successes) * rate**successes * (1 - rate) ** (count - successes)
        if total >= _CERTAIN:
            return successes
    return count


def as_values(comparisons: Sequence[Against], results: Sequence[Verdict]) -> dict[str, Any]:
    """For a file of results: means over worlds, verdicts, and intervals that leave 0 out."""
    means: dict[str, dict[str, float]] = {}
    for protocol, metric in METRICS.items():
        mine = [comparison for comparison in comparisons if comparison.protocol == protocol]
        rows = dict.fromkeys(comparison.model for comparison in mine)
        means[f"{protocol}/{metric}"] = {
            row: float(
                np.mean([comparison.value for comparison in mine if comparison.model == row])
            )
            for row in rows
        } | {"chance": float(np.mean([comparison.chance for comparison in mine]))}
    return {
        "means": means,
        "verdicts": [asdict(result) | {"holds": result.holds} for result in results],
        "outside": [
            asdict(comparison)
            for comparison in comparisons
            if comparison.low > 0 or comparison.high < 0
        ],
    }


def _pooled(worlds: Sequence[Against], one_sided: bool) -> float:
    """The p of one model's mean over worlds, against chance."""
    above = sum(world.value - world.chance for world in worlds)
    if one_sided and above <= 0:
        return 1.0
    error = math.sqrt(sum(world.error**2 for world in worlds))
    return math.erfc(abs(above) / error / math.sqrt(2))


def _variances(counts: Int64) -> Float64:
    """Of each user's NDCG@10 of a random ranking."""
    squares = np.concatenate([[0.0], np.cumsum(_GAINS**2)])[np.minimum(counts, CUTOFF)]
    return np.asarray(squares / np.maximum(counts, 1) - chance.random_ndcg(counts, CUTOFF) ** 2)


def _users(board: Board, world: str, row: str) -> dict[str, Float64]:
    (run,) = board.chosen(world, row)
    ranks = read_ranks(board.folder / run["folder"] / "ranks.npz")
    return {ALL: fair_gains(ranks[ALL][0]), SAMPLED: per_user(ranks[SAMPLED][0], "uauc")}
