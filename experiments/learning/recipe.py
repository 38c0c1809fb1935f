"""What an evaluation of learning is asked for, from TOML: data sets, seeds, rows.

A training option may stand at the top or in a data set; the later wins.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, field_validator, model_validator

from cloud_service.recommender.data.clicks import ClickLog
from cloud_service.recommender.data.named_sets import identity
from cloud_service.recommender.recipe import TREATMENT_FIELDS, TrainingRecipe
from experiments.comparison.comparison_recipe import (
    DataSet,
    Options,
    faults,
    nearest,
    resolved,
    seeds_of,
)
from experiments.learning.rows import ROWS
from experiments.learning.spans import Cut
from shared.errors import InvalidRequest
from shared.model import ModelSettings

PROTOCOL: Final = "prequential"


class LearningDataSet(DataSet):
    """A click log, and where its three spans end."""

    cut: Literal["auto", "time", "position"] = "auto"
    """`auto`: by time, or by position where the times only number each user's clicks."""
    users: Annotated[int, Field(ge=2)] | None = None
    """Devices are those of so many random users; the bundle is trained on all."""

    def cut_of(self, log: ClickLog) -> Cut:
        """How the log is cut."""
        if self.cut != "auto":
            return self.cut
        counts = np.arange(log.click_count) - np.repeat(log.offsets[:-1], log.lengths)
        first = np.repeat(log.timestamps[log.offsets[:-1]], log.lengths)
        is_numbered = np.array_equal(log.timestamps - first, counts)
        return "position" if is_numbered else "time"


class LearningRecipe(Options):
    """Everything that decides the figures of an evaluation of learning."""

    protocol: Literal["prequential"]
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = (0,)
    datasets: tuple[LearningDataSet, ...]
    rows: tuple[str, ...] = ROWS

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, seeds: Any) -> Any:
        return seeds_of(seeds)

    @field_validator("rows")
    @classmethod
    def _known(cls, rows: tuple[str, ...]) -> tuple[str, ...]:
        for row in rows:
            if row not in ROWS:
                raise ValueError(f"no row {row}: {nearest(row, ROWS)}")
        return tuple(row for row in ROWS if row in rows)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [dataset.name for dataset in self.datasets]
        if not names or len(set(names)) < len(names):
            raise ValueError("at least one data set is needed, each with a name of its own")
        if self.grid is not None or any(dataset.grid is not None for dataset in self.datasets):
            raise ValueError("a grid is not searched here: settings are chosen between t1 and t2")
        return self

    def bundle_recipe(
        self, dataset: LearningDataSet, seed: int, overrides: Mapping[str, Any]
    ) -> TrainingRecipe:
        """The recipe of a bundle. Raises InvalidRequest."""
        options = {**self.training, **dataset.training, **overrides}
        shape = {k: v for k, v in options.items() if k in ModelSettings.model_fields}
        plain = {k: v for k, v in options.items() if k not in shape}
        try:
            return TrainingRecipe.of(
                data=identity(dataset.data),
                **{name: getattr(dataset, name) for name in TREATMENT_FIELDS},
                seen=dataset.seen,
                network="scn+gcn",
                model=ModelSettings(**(shape | {"gcn": "projected"})),
                seed=seed,
                **plain,
            )
        except ValidationError as error:
            raise InvalidRequest(f"{dataset.name}: {faults(error)}") from error


def parse_learning(values: Mapping[str, Any], where: str, folder: Path) -> LearningRecipe:
    """A recipe from plain values, its paths relative to `folder`. Raises InvalidRequest."""
    try:
        recipe = LearningRecipe.model_validate(dict(values))
    except ValidationError as error:
        raise InvalidRequest(f"{where}: {faults(error)}") from error
    datasets = tuple(resolved(dataset, folder) for dataset in recipe.datasets)
    return recipe.model_copy(update={"datasets": datasets})
