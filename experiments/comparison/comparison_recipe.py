"""What `cloud-service evaluate` is asked for: data sets x models x seeds, from TOML or options.

A training option (any field of TrainingRecipe or ModelSettings that decides how a network trains)
may stand at the top, in a data set, in a model, or in a model's `on.DATASET`; the later wins. So
may `grid`, which as a whole replaces the grids before it.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from cloud_service.recommender.recipe import TRAINING_FIELDS, Network, Repeats, Seen, Ties
from experiments.comparison.names import Name, is_path, names_of
from shared.errors import InvalidRequest

NETWORKS: Final[tuple[str, ...]] = get_args(Network)
LOCAL: Final = "/local"
"""Ends the row of a corrected model's figures with every correction lost."""

Grid = dict[str, tuple[Any, ...]]


def nearest(text: str, names: Iterable[str]) -> str:
    """ "did you mean X?" or what there is."""
    candidates = list(names)
    near = difflib.get_close_matches(text.lower(), candidates, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there is {', '.join(candidates) or 'none'}"


class Options(BaseModel):
    """A table of a recipe that may hold training options beside its own keys, and a grid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    training: dict[str, Any] = {}
    grid: Grid | None = None

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, values: Any) -> Any:
        """Moves training options, which are written flat, into `training`."""
        if not isinstance(values, dict):
            return values
        own_keys = [name for name in cls.model_fields if name != "training"]
        for key in values:
            if key not in own_keys and key not in TRAINING_FIELDS:
                raise ValueError(
                    f"there is no key {key}: {nearest(key, (*own_keys, *TRAINING_FIELDS))}"
                )
        settings = {key: value for key, value in values.items() if key in own_keys}
        return settings | {"training": {k: v for k, v in values.items() if k not in own_keys}}

    @field_validator("grid", mode="before")
    @classmethod
    def _grid(cls, grid: Any) -> Any:
        if not isinstance(grid, dict):
            return grid
        if not grid:
            raise ValueError("an empty grid searches nothing: leave it out, or give it values")
        for name, values in grid.items():
            if name not in TRAINING_FIELDS:
                raise ValueError(f"there is no option {name}: {nearest(name, TRAINING_FIELDS)}")
            if not isinstance(values, list | tuple) or not values:
                raise ValueError(f"{name} needs a list of at least one value")
            if len({repr(value) for value in values}) < len(values):
                raise ValueError(f"{name} holds a value twice")
        return grid


class DataSet(Options):
    """A click log and its treatment. `data` is a named set or a path; it stands for `name` too."""

    name: Name = ""
    data: str = ""
    columns: str | None = None
    ties: Ties = "auto"
    repeats: Repeats = "once"
    max_user_clicks: Annotated[int | None, Field(ge=3)] = None
    min_item: Annotated[int, Field(ge=1)] = 1
    min_user: Annotated[int, Field(ge=3)] = 3
    iterate_filters: bool = False
    seen: Seen = "auto"
    """Whether rankings over all items hold what the user clicked before."""

    @model_validator(mode="before")
    @classmethod
    def _default(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        data, name = values.get("data"), values.get("name")
        if not data and not name:
            raise ValueError("a data set needs data: a named set, or the path of a click log")
        if not name:
            values = values | {"name": names_of([str(data)])[0]}
        return values if data else values | {"data": name}


AnyDataSet = TypeVar("AnyDataSet", bound=DataSet)


class Override(Options):
    """Options of one model on one data set."""


class ModelRow(Options):
    """A row of the results: a network and how it trains. Its name is the network's by default."""

    name: Name = ""
    network: Network
    on: dict[str, Override] = {}

    @model_validator(mode="before")
    @classmethod
    def _default(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        network = values.get("network", values.get("name"))
        if not isinstance(network, str):
            raise ValueError(f"a model needs a network: one of {', '.join(NETWORKS)}")
        if network not in NETWORKS:
            raise ValueError(f"there is no network {network}: {nearest(network, NETWORKS)}")
        return {"name": network} | values | {"network": network}


def seeds_of(seeds: Any) -> Any:
    """The seeds of a recipe: a list, or so many from 0. Raises ValueError."""
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        seeds = list(range(seeds))
    if isinstance(seeds, list) and not seeds:
        raise ValueError("at least one seed is needed: a number of seeds, or a list of them")
    if isinstance(seeds, list) and len(set(map(repr, seeds))) < len(seeds):
        raise ValueError("a seed is named twice")
    return seeds


class ComparisonRecipe(Options):
    """Everything that decides the figures of an evaluation."""

    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = (0,)
    datasets: tuple[DataSet, ...]
    models: tuple[ModelRow, ...]
    reference: str | None = None
    uneven_search: bool = False
    """Models may have grids of different numbers of points."""

    @field_validator("datasets", mode="before")
    @classmethod
    def _names(cls, datasets: Any) -> Any:
        """Names the data sets that have none, each unlike the others."""
        if not isinstance(datasets, list | tuple) or not all(isinstance(d, dict) for d in datasets):
            return datasets
        unnamed = [
            str(entry["data"]) for entry in datasets if entry.get("data") and not entry.get("name")
        ]
        names = iter(names_of(unnamed))
        return [
            entry | {"name": next(names)} if entry.get("data") and not entry.get("name") else entry
            for entry in datasets
        ]

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, seeds: Any) -> Any:
        return seeds_of(seeds)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for noun, rows in (("data set", self.datasets), ("model", self.models)):
            names = [row.name for row in rows]
            if not names:
                raise ValueError(f"at least one {noun} is needed")
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice:
                raise ValueError(f"two {noun}s are named {twice}: give one another name")
        dataset_names = [entry.name for entry in self.datasets]
        for model in self.models:
            for name in model.on:
                if name not in dataset_names:
                    raise ValueError(
                        f"{model.name}.on: no data set {name}: {nearest(name, dataset_names)}"
                    )
        shown = self.row_names()
        if self.reference is not None and self.reference not in shown:
            near = nearest(self.reference, shown)
            raise ValueError(f"reference: no row {self.reference}: {near}")
        return self

    def row_names(self) -> list[str]:
        """The rows of the results: a corrected model has two."""
        names = []
        for model in self.models:
            names += [model.name] + [model.name + LOCAL] * (model.network == "scn+gcn")
        return names


def read(path: Path) -> ComparisonRecipe:
    """A recipe file. Paths in it are relative to its folder. Raises InvalidRequest."""
    return _resolve_paths(parse(read_toml(path), str(path)), path.parent)


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file. Raises InvalidRequest."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidRequest(f"{path} is not TOML: {error}") from error


def parse(values: Mapping[str, Any], where: str) -> ComparisonRecipe:
    """A recipe from plain values; `where` opens what is said of a fault. Raises InvalidRequest."""
    try:
        return ComparisonRecipe.model_validate(dict(values))
    except ValidationError as error:
        raise InvalidRequest(f"{where}: {faults(error)}") from error


def faults(error: ValidationError) -> str:
    """What does not fit, and where."""
    sentences = []
    for fault in error.errors(include_url=False, include_input=False)[:3]:
        where = ".".join(str(key) for key in fault["loc"] if key != "training")
        sentences.append(f"{where}: " * bool(where) + fault["msg"].removeprefix("Value error, "))
    return "; ".join(sentences)


def _resolve_paths(recipe: ComparisonRecipe, folder: Path) -> ComparisonRecipe:
    """The recipe with its paths relative to the working directory."""
    datasets = tuple(resolved(entry, folder) for entry in recipe.datasets)
    return recipe.model_copy(update={"datasets": datasets})


def resolved(dataset: AnyDataSet, folder: Path) -> AnyDataSet:
    """A data set of a recipe in `folder`, its path relative to the working directory."""
    if not is_path(dataset.data):
        return dataset
    return dataset.model_copy(update={"data": str(folder / dataset.data)})
