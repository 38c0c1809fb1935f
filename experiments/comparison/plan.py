"""The cells of a comparison: every model on every data set, with its grid points and seeds."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from cloud_service.recommender.data.named_sets import identity
from cloud_service.recommender.recipe import TREATMENT_FIELDS, TrainingRecipe
from cloud_service.recommender.training.stages import NO_GCN, UNTRAINED, untrained
from experiments.comparison.comparison_recipe import (
    ComparisonRecipe,
    DataSet,
    Grid,
    ModelRow,
    Override,
    faults,
)
from shared.errors import InvalidRequest
from shared.model import ModelSettings


@dataclass(frozen=True)
class Cell:
    """One model on one data set: the points searched with the first seed, and the seeds."""

    dataset: DataSet
    model: ModelRow
    base: dict[str, Any]
    points: tuple[dict[str, Any], ...]
    seeds: tuple[int, ...]

    def training(self, point: Mapping[str, Any], seed: int) -> TrainingRecipe:
        """The training recipe of a point and a seed."""
        chosen = self.base | dict(point)
        shape = {k: v for k, v in chosen.items() if k in ModelSettings.model_fields}
        if self.model.network != "scn+gcn":
            shape["gcn"] = NO_GCN
        plain = {k: v for k, v in chosen.items() if k not in shape}
        data = self.dataset
        planned = TrainingRecipe.of(
            data=identity(data.data),
            **{name: getattr(data, name) for name in TREATMENT_FIELDS},
            seen=data.seen,
            network=self.model.network,
            model=ModelSettings(**shape),
            seed=seed,
            **plain,
        )
        return untrained(planned) if planned.network.kind in UNTRAINED else planned


def cells(recipe: ComparisonRecipe, overrides: Mapping[str, Any] | None = None) -> tuple[Cell, ...]:
    """Every model on every data set, each checked. `overrides` win over all options.

    Raises InvalidRequest.
    """
    planned = []
    for dataset in recipe.datasets:
        dataset_cells = [_cell(recipe, dataset, model, overrides or {}) for model in recipe.models]
        _check_budget(recipe, dataset, dataset_cells)
        planned += dataset_cells
    return tuple(planned)


def _cell(
    recipe: ComparisonRecipe, dataset: DataSet, model: ModelRow, overrides: Mapping[str, Any]
) -> Cell:
    where = f"{model.name} on {dataset.name}"
    levels: list[ComparisonRecipe | DataSet | ModelRow | Override] = [recipe, dataset, model]
    levels += [model.on[dataset.name]] if dataset.name in model.on else []
    base: dict[str, Any] = {}
    for level in levels:
        base |= level.training
    base |= overrides
    searched = [level_index for level_index, level in enumerate(levels) if level.grid is not None]
    grid: Grid = {}
    if searched and model.network not in UNTRAINED:
        grid = levels[searched[-1]].grid or {}
        fixed = set(overrides).union(*(level.training for level in levels[searched[-1] :]))
        if both := sorted(fixed & set(grid)):
            raise InvalidRequest(
                f"{where}: {both[0]} is given a value and searched by the grid: leave one out"
            )
    points = tuple(
        dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
    )
    seeds = recipe.seeds[:1] if model.network in UNTRAINED else recipe.seeds
    cell = Cell(dataset, model, base, points, seeds)
    for point in points:
        try:
            cell.training(point, seeds[0])
        except ValidationError as error:
            raise InvalidRequest(f"{where}: {faults(error)}") from error
    return cell


def _check_budget(recipe: ComparisonRecipe, dataset: DataSet, planned: list[Cell]) -> None:
    """Every model that trains is searched with as many points: more luck is no better model."""
    counts = {c.model.name: len(c.points) for c in planned if c.model.network not in UNTRAINED}
    if len(set(counts.values())) > 1 and not recipe.uneven_search:
        shown = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InvalidRequest(
            f"{dataset.name}: the models are not searched alike (points: {shown}): give each as "
            "many, or set uneven_search = true"
        )


def point_description(point: Mapping[str, Any]) -> str:
    """A grid point as it is shown: "learning_rate=0.001 dropout=0.2"."""
    return " ".join(f"{k}={v:g}" if _real(v) else f"{k}={v}" for k, v in point.items())


def _real(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)
