"""Whether any model of an evaluation on noise is told from chance."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cloud_service.data.clicks import Split
from cloud_service.evaluation import chance
from cloud_service.evaluation.board import Board
from cloud_service.evaluation.files import read_ranks
from cloud_service.evaluation.metrics import ALL, SAMPLED, Ranks
from cloud_service.evaluation.recipe import LOCAL
from cloud_service.evaluation.significance import LEVEL, bootstrap, holm, per_user, t_test

CUTOFF: Final = 10
METRICS: Final = {ALL: f"ndcg@{CUTOFF}", SAMPLED: "uauc"}
_CERTAIN: Final = 0.99
_POPULARITY: Final = "popularity"

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Against:
    """A model against chance on one world, in one protocol."""

    model: str
    world: str
    protocol: str
    value: float
    chance: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Verdict:
    """All comparisons of one protocol.

    Attributes:
        one_sided: only what is better than chance counts.
        holm: the smallest p after Holm's correction over all comparisons.
        outside: intervals that leave 0 out (above it, where one-sided).
        allowed: as many as 99 of 100 binomials of the intervals' own rate hold at most.
    """

    protocol: str
    one_sided: bool
    comparisons: int
    holm: float
    outside: int
    allowed: int

    @property
    def holds(self) -> bool:
        """Nothing is told from chance."""
        return self.holm >= 1.0 - LEVEL and self.outside <= self.allowed


def fair_gains(found: Ranks, cutoff: int = CUTOFF) -> Float64:
    """Each user's NDCG, the mean over all orders of the candidates that tie with the target.

    The figures of an evaluation put the target behind all that tie with it: a model that says the
    same of many items is then below chance, which is no fault of it here.
    """
    gains = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, cutoff + 2)))])
    upper = gains[np.minimum(found.greater + found.equal + 1, cutoff)]
    lower = gains[np.minimum(found.greater, cutoff)]
    return np.asarray((upper - lower) / (found.equal + 1))


def against_chance(board: Board, parts: Split, world: str, *, skewed: bool) -> list[Against]:
    """Every model of a world against a random ranking, or against popularity where it is skewed."""
    values = {
        row: _users(board, world, row) for row in board.about.models if not row.endswith(LOCAL)
    }
    ranked = chance.candidates(parts)
    found = []
    for protocol in METRICS:
        users = {row: part[protocol] for row, part in values.items()}
        if skewed:
            base = users.pop(_POPULARITY)
        elif protocol == ALL:
            base = chance.random_ndcg(ranked, CUTOFF)
        else:
            base = np.full(len(next(iter(users.values()))), chance.UAUC)
        differences = np.stack([part - base for part in users.values()], axis=1)
        lows, highs = bootstrap(differences)
        for column, row in enumerate(users):
            found.append(
                Against(
                    row,
                    world,
                    protocol,
                    float(users[row].mean()),
                    float(base.mean()),
                    float(lows[column]),
                    float(highs[column]),
                    t_test(differences[:, column]),
                )
            )
    return found


def verdicts(comparisons: Sequence[Against], *, one_sided: bool) -> list[Verdict]:
    """A verdict for each protocol."""
    found = []
    for protocol in METRICS:
        mine = [each for each in comparisons if each.protocol == protocol]
        above = [each.value > each.chance for each in mine]
        p_values = [
            each.p if up or not one_sided else 1.0 for each, up in zip(mine, above, strict=True)
        ]
        outside = sum(each.low > 0 or (each.high < 0 and not one_sided) for each in mine)
        rate = (1.0 - LEVEL) / (2 if one_sided else 1)
        found.append(
            Verdict(
                protocol,
                one_sided,
                len(mine),
                min(holm(p_values)),
                outside,
                allowed(len(mine), rate),
            )
        )
    return found


def allowed(count: int, rate: float) -> int:
    """The smallest number that a binomial of `count` and `rate` stays at or below at 99%."""
    total = 0.0
    for successes in range(count + 1):
        total += math.comb(count, successes) * rate**successes * (1 - rate) ** (count - successes)
        if total >= _CERTAIN:
            return successes
    return count


def as_values(comparisons: Sequence[Against], results: Sequence[Verdict]) -> dict[str, Any]:
    """For a file of results."""
    means: dict[str, dict[str, float]] = {}
    for protocol, metric in METRICS.items():
        mine = [each for each in comparisons if each.protocol == protocol]
        rows = dict.fromkeys(each.model for each in mine)
        means[f"{protocol}/{metric}"] = {
            row: float(np.mean([each.value for each in mine if each.model == row])) for row in rows
        } | {"chance": float(np.mean([each.chance for each in mine]))}
    return {
        "means": means,
        "verdicts": [asdict(each) | {"holds": each.holds} for each in results],
        "comparisons": [asdict(each) for each in comparisons],
    }


def _users(board: Board, world: str, row: str) -> dict[str, Float64]:
    (run,) = board.chosen(world, row)
    ranks = read_ranks(Path(board.folder) / run["folder"] / "ranks.npz")
    return {ALL: fair_gains(ranks[ALL][0]), SAMPLED: per_user(ranks[SAMPLED][0], "uauc")}
