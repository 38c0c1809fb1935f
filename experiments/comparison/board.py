"""What an evaluation found, read back from its folder: figures, runs and every user's ranks."""

import math
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from cloud_service.recommender.ranking.metrics import ALL, CUTOFFS, HIT_CUTOFFS, SAMPLED
from cloud_service.recommender.ranking.significance import (
    Comparison,
    Float64,
    compare,
    corrected,
    per_user,
)
from experiments.comparison.files import Trained, read_ranks, read_trained
from experiments.comparison.recipe import LOCAL, nearest
from experiments.comparison.results import About, read_about, read_results, read_runs
from shared.errors import InvalidRequest

_RANKED: Final = (
    *(f"ndcg@{cutoff}" for cutoff in CUTOFFS),
    *(f"hitrate@{cutoff}" for cutoff in HIT_CUTOFFS),
)
METRICS: Final = {ALL: _RANKED, SAMPLED: ("uauc", *_RANKED)}
"""The metrics of each protocol, in the order of the tables."""


@dataclass(frozen=True)
class Figure:
    """One figure of a model over its seeds; `spread` is their standard deviation."""

    mean: float
    spread: float | None
    seeds: int


@dataclass(frozen=True)
class Board:
    """An evaluation's folder, read."""

    folder: Path
    about: About
    values: dict[tuple[str, str, str, str], dict[int, float]]
    runs: list[dict[str, str]]

    @classmethod
    def read(cls, folder: Path) -> "Board":
        """Reads a folder. Raises InvalidRequest."""
        return cls(folder, read_about(folder), read_results(folder), read_runs(folder))

    def reference(self, name: str | None) -> str:
        """The row to compare with: asked for, the recipe's, scn, or the first. InvalidRequest."""
        rows = self.about.models
        if name is not None and name not in rows:
            raise InvalidRequest(f"--reference: no row {name}: {nearest(name, rows)}")
        return name or self.about.reference or ("scn" if "scn" in rows else rows[0])

    def figure(self, dataset: str, row: str, protocol: str, metric: str) -> Figure | None:
        """A figure over the seeds that gave one, or None where none did."""
        figures = list(self.values.get((dataset, row, protocol, metric), {}).values())
        if not figures:
            return None
        mean = math.fsum(figures) / len(figures)
        squares = math.fsum((value - mean) ** 2 for value in figures)
        spread = math.sqrt(squares / (len(figures) - 1)) if len(figures) > 1 else None
        return Figure(mean, spread, len(figures))

    def best(self, dataset: str, protocol: str, metric: str) -> float:
        """The highest mean of any row."""
        figures = [self.figure(dataset, row, protocol, metric) for row in self.about.models]
        return max((figure.mean for figure in figures if figure), default=math.nan)

    def runs_of(self, dataset: str, row: str) -> list[dict[str, str]]:
        """The runs behind a row, those of the search too."""
        model = row.removesuffix(LOCAL)
        return [run for run in self.runs if (run["dataset"], run["model"]) == (dataset, model)]

    def chosen(self, dataset: str, row: str) -> list[dict[str, str]]:
        """The runs of a row's figures, one a seed."""
        return [run for run in self.runs_of(dataset, row) if run["chosen"] == "yes"]

    def missing(self, dataset: str, row: str) -> str:
        """What became of the seeds without a figure: "diverged", "1 of 3 diverged", or ""."""
        runs = self.chosen(dataset, row) or self.runs_of(dataset, row)
        bad = Counter(run["status"] for run in runs if run["status"] != "done")
        if not runs:
            return "not run"
        if sum(bad.values()) == len(runs):
            return "diverged" if bad["diverged"] else "failed"
        if not self.chosen(dataset, row):
            return "failed" if bad["failed"] else "not run"
        return ", ".join(f"{count} of {len(runs)} {status}" for status, count in bad.items())

    def curves(self, dataset: str, row: str) -> Iterator[Trained]:
        """How validation went in each run of a row that was trained, epoch by epoch.

        A model put together of several has no epochs of its own.
        """
        for run in self.chosen(dataset, row):
            trained = read_trained(self.folder / run["folder"])
            if trained is not None and 0 < len(trained.metrics) == len(trained.seconds):
                yield trained

    def users(self, dataset: str, row: str, protocol: str) -> Float64 | None:
        """Each user's part of every metric, averaged over seeds, (users, metrics); or None.

        Raises InvalidRequest where ranks are not what was written.
        """
        ending = LOCAL.replace("/", "-") if row.endswith(LOCAL) else ""
        seeds = []
        for run in self.chosen(dataset, row):
            if run["status"] != "done":
                continue
            path = self.folder / run["folder"] / f"ranks{ending}.npz"
            try:
                ranks, _ = read_ranks(path)[protocol]
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
                raise InvalidRequest(
                    f"{path} cannot be read ({error}): remove its folder and evaluate again"
                ) from error
            seeds.append(np.stack([per_user(ranks, name) for name in METRICS[protocol]], axis=1))
        if not seeds or not len(seeds[0]):
            return None
        figures: Float64 = np.mean(seeds, axis=0)
        return figures

    def comparisons(
        self, dataset: str, reference: str, protocol: str, among: Sequence[str] | None = None
    ) -> dict[tuple[str, str], Comparison]:
        """Other rows (all, or `among` them) against the reference, by row and metric.

        All are on the same resamples; a p is corrected for the rows compared in its metric.
        """
        base = self.users(dataset, reference, protocol)
        if base is None:
            return {}
        gains_by_row = {
            row: self.users(dataset, row, protocol) for row in among or self.about.models
        }
        rows = [row for row in gains_by_row if row != reference and gains_by_row[row] is not None]
        if not rows:
            return {}
        figures = compare(
            _beside([gains_by_row[row] for row in rows]), np.tile(base, (1, len(rows)))
        )
        keys = [(row, metric) for row in rows for metric in METRICS[protocol]]
        compared = dict(zip(keys, figures, strict=True))
        for metric in METRICS[protocol]:
            family = [(row, metric) for row in rows]
            results = corrected([compared[key] for key in family])
            compared |= dict(zip(family, results, strict=True))
        return compared


def _beside(blocks: Sequence[Float64 | None]) -> Float64:
    return np.concatenate([block for block in blocks if block is not None], axis=1)
