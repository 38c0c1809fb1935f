"""What `cloud-service evaluate` is asked for: data sets x models x seeds, from TOML or options.

A training option (any field of TrainingRecipe or ModelSettings that decides how a network trains)
may stand at the top, in a data set, in a model, or in a model's `on.DATASET`; the later wins. So
may `grid`, which as a whole replaces the grids before it.
"""

import difflib
import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from cloud_service.recommender.recipe import TRAINING_FIELDS, Network, Repeats, Seen, Ties
from shared.errors import InvalidRequest

NETWORKS: Final[tuple[str, ...]] = get_args(Network)
LOCAL: Final = "/local"
"""Ends the row of a corrected model's figures with every correction lost."""

Grid = dict[str, tuple[Any, ...]]
_MARKS: Final = frozenset("._+()= -")
_LONGEST_NAME: Final = 64
_ENDINGS = re.compile(r"(\.(csv|tsv|txt|inter|item|gz|parquet))+$")


def _named(name: Any) -> Any:
    if not isinstance(name, str):
        return name
    name = unicodedata.normalize("NFC", name)
    if name != _as_name(name):
        raise ValueError(
            f"the name {name!r} is not one: begin with a letter or a digit, go on with those, "
            "blanks and . _ + - ( ) =, and take 64 at most"
        )
    return name


Name = Annotated[str, BeforeValidator(_named)]


def names_of(data: Sequence[str]) -> list[str]:
    """A name for each log: its file's, with as many of its folders as tell it from the others.

    Where no folder does, the ending stays or a count follows; one file has one name.
    """
    depths = dict.fromkeys(data, 1)
    while True:
        names = {path: _name_of(path, depth) for path, depth in depths.items()}
        shared = Counter(names.values())
        same_name = [
            path
            for path, depth in depths.items()
            if shared[names[path]] > 1
            and is_path(path)  # a named set keeps its name
            and depth < len(Path(path).absolute().parts)
        ]
        if not same_name:
            break
        for path in same_name:
            depths[path] += 1
    files = {name: [path for path in names if names[path] == name] for name in shared}
    for name, paths in files.items():
        endings = [_ENDINGS.search(path.lower()) for path in paths]
        ends = [ending[0] if ending else "" for ending in endings]
        short = name if len(paths) == 1 else _name_of(paths[0], 1)
        for count, (path, end) in enumerate(zip(paths, ends, strict=True), 1):
            if len(paths) > 1:
                suffix = end if len(set(ends)) == len(ends) else f"-{count}"
                names[path] = short[: _LONGEST_NAME - len(suffix)] + suffix
    return [names[path] for path in data]


def _name_of(data: str, depth: int) -> str:
    path = Path(data) if depth == 1 else Path(data).absolute()
    text = _ENDINGS.sub("", "-".join(path.parts[-depth:]).replace("/", ""))
    return _as_name(text[-_LONGEST_NAME:]) or "log"


def _as_name(text: str) -> str:
    """`text` as a name: any script's letters and digits, and some marks, but none to begin with."""
    letters = "".join(
        letter if letter in _MARKS or unicodedata.category(letter)[0] in "LMN" else "-"
        for letter in unicodedata.normalize("NFC", text)
    )
    while letters and unicodedata.category(letters[0])[0] not in "LN":
        letters = letters[1:]
    return letters[:_LONGEST_NAME]


def nearest(text: str, names: Iterable[str]) -> str:
    """ "did you mean X?" or what there is."""
    candidates = list(names)
    near = difflib.get_close_matches(text.lower(), candidates, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there is {', '.join(candidates) or 'none'}"


class _Options(BaseModel):
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


class DataSet(_Options):
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


class Override(_Options):
    """Options of one model on one data set."""


class ModelRow(_Options):
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


class Recipe(_Options):
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
        if isinstance(seeds, int) and not isinstance(seeds, bool):
            seeds = list(range(seeds))
        if isinstance(seeds, list) and not seeds:
            raise ValueError("at least one seed is needed: a number of seeds, or a list of them")
        if isinstance(seeds, list) and len(set(map(repr, seeds))) < len(seeds):
            raise ValueError("a seed is named twice")
        return seeds

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


def read(path: Path) -> Recipe:
    """A recipe file. Paths in it are relative to its folder. Raises InvalidRequest."""
    try:
        values = tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidRequest(f"{path} is not TOML: {error}") from error
    return _moved(parse(values, str(path)), path.parent)


def parse(values: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from plain values; `where` opens what is said of a fault. Raises InvalidRequest."""
    try:
        return Recipe.model_validate(dict(values))
    except ValidationError as error:
        raise InvalidRequest(f"{where}: {faults(error)}") from error


def faults(error: ValidationError) -> str:
    """What does not fit, and where."""
    sentences = []
    for fault in error.errors(include_url=False, include_input=False)[:3]:
        where = ".".join(str(key) for key in fault["loc"] if key != "training")
        sentences.append(f"{where}: " * bool(where) + fault["msg"].removeprefix("Value error, "))
    return "; ".join(sentences)


def _moved(recipe: Recipe, folder: Path) -> Recipe:
    """Paths as seen from here."""
    datasets = tuple(
        entry.model_copy(update={"data": str(folder / entry.data)})
        if is_path(entry.data)
        else entry
        for entry in recipe.datasets
    )
    return recipe.model_copy(update={"datasets": datasets})


def is_path(data: str) -> bool:
    """Whether `data` is a file's path and not the name of a set."""
    return len(Path(data).parts) > 1 or bool(_ENDINGS.search(data.lower()))
