"""A training recipe: everything that decides the outcome of a training run."""

from collections.abc import Mapping
from copy import copy
from typing import Any, Final, Self, cast, get_args

from pydantic import (
    ConfigDict,
    GetJsonSchemaHandler,
    create_model,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from cloud_service.recommender.recipe_sections import (
    OPTION_PATHS,
    TEACHERS,
    Ablation,
    CoCorrRecNetwork,
    CountingNetwork,
    DataRecipe,
    FactorNetwork,
    LayeredNetwork,
    Network,
    NetworkRecipe,
    Optimisation,
    PoolRecipe,
    Repeats,
    SCNNetwork,
    Seen,
    TeacherRecipe,
    Ties,
)
from shared.model import ModelSettings, StrictModel

__all__ = [
    "DATA_FIELDS",
    "OPTIONS",
    "POOL_FIELDS",
    "TEACHERS",
    "TRAINING_FIELDS",
    "TREATMENT_FIELDS",
    "Ablation",
    "CoCorrRecNetwork",
    "CountingNetwork",
    "DataRecipe",
    "FactorNetwork",
    "FlatRecipe",
    "LayeredNetwork",
    "Network",
    "Optimisation",
    "PoolRecipe",
    "Repeats",
    "SCNNetwork",
    "Seen",
    "TeacherRecipe",
    "Ties",
    "TrainingRecipe",
    "identity",
]

INTRODUCED: Final[dict[str, Any]] = {
    "model.inner_step": None,
    "pool": "agreed",
    "pool_users": 10,
    "pool_states": "mean",
    "pool_limit": 1_000_000,
    "learning": "off",
}
"""The value that an option had when it was introduced, as JSON; `model.NAME` for a field of
ModelSettings.

An entry is added with each new option and never edited: a run made before the option existed was
made with this value. The options that were there before this table are always in the digest."""


def _option_field(name: str) -> FieldInfo:
    """The field of an option, from the section that has it."""
    section, *_, field = OPTION_PATHS[name]
    if name == "network":
        return FieldInfo(
            annotation=cast(Any, Network),
            default="scn+gcn",
            description="what is trained; baselines for comparison",
        )
    if section == "data":
        return DataRecipe.model_fields[field]
    if section == "optimisation":
        return Optimisation.model_fields[field]
    if section == "samples":
        return PoolRecipe.model_fields[field]
    if "teachers" in OPTION_PATHS[name][:-1]:
        return TeacherRecipe.model_fields[field]
    return (CoCorrRecNetwork.model_fields | LayeredNetwork.model_fields)[field]


OPTIONS: Final[dict[str, FieldInfo]] = {name: _option_field(name) for name in OPTION_PATHS}
"""The options of the flat form and their fields, in the order of the flat form."""


class _FrozenOptions(StrictModel):
    model_config = ConfigDict(frozen=True)


FlatRecipe: Final[type[StrictModel]] = create_model(
    "FlatRecipe",
    __base__=_FrozenOptions,
    __doc__="Everything that decides the outcome of a training run, and nothing that does not.",
    **cast(Any, {name: (field.annotation, copy(field)) for name, field in OPTIONS.items()}),
)
"""A recipe as it is written in JSON, in TOML and on the command line: one level, any option.

An option that the recipe's network does not read has no effect: it is dropped when the recipe is
composed.
"""


_LAYERED: Final = get_args(LayeredNetwork.model_fields["kind"].annotation)


class TrainingRecipe(StrictModel):
    """Everything that decides the outcome of a training run, and nothing that does not.

    Written and read as JSON it is flat (`FlatRecipe`), so jobs and runs of older releases stay
    readable; it may be given in its sections too.
    """

    model_config = ConfigDict(frozen=True)

    data: DataRecipe = DataRecipe()
    network: NetworkRecipe = CoCorrRecNetwork()
    optimisation: Optimisation = Optimisation()
    samples: PoolRecipe = PoolRecipe()

    @classmethod
    def of(cls, **options: Any) -> Self:
        """A recipe from options of the flat form. Raises ValidationError."""
        return cls.model_validate(options)

    def changed(self, **options: Any) -> Self:
        """This recipe with other values for options of the flat form. Raises ValidationError."""
        return self.model_validate(self.options() | options)

    def options(self) -> dict[str, Any]:
        """The flat form; an option that the network does not read has its default."""
        return {name: _value_at(self, path, OPTIONS[name]) for name, path in OPTION_PATHS.items()}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As Pydantic's; refuses options of the flat form, which would have no effect."""
        if update is not None and not _is_composed(dict(update)):
            raise TypeError("use changed() for options of the flat form")
        return super().model_copy(update=update, deep=deep)

    @model_validator(mode="before")
    @classmethod
    def _compose(cls, given: Any) -> Any:
        """Accepts the flat form beside the sections."""
        if not isinstance(given, dict | FlatRecipe) or _is_composed(given):
            return given
        flat = given if isinstance(given, FlatRecipe) else FlatRecipe.model_validate(given)
        return _sections(flat)

    @model_serializer
    def _flatten(self) -> dict[str, Any]:
        return self.options()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The schema of the flat form, which is what is read and written."""
        return handler(FlatRecipe.__pydantic_core_schema__)


def _is_composed(given: Mapping[str, Any] | StrictModel) -> bool:
    return (
        isinstance(given, dict)
        and bool(given)
        and all(
            name in TrainingRecipe.model_fields and not isinstance(section, str)
            for name, section in given.items()
        )
    )


def _sections(flat: StrictModel) -> dict[str, Any]:
    """The values of the flat form in their sections, without what the network does not read."""
    sections: dict[str, Any] = {
        "data": {},
        "network": {"teachers": {}},
        "optimisation": {},
        "samples": {},
    }
    for name, path in OPTION_PATHS.items():
        target = sections[path[0]]
        for step in path[1:-1]:
            target = target[step]
        target[path[-1]] = getattr(flat, name)
    network = sections["network"]
    if network["kind"] != "scn+gcn":
        for unread in ("teachers", "drop_corrections", "ablation"):
            del network[unread]
    if network["kind"] not in _LAYERED:
        del network["layers"]
    return sections


def _value_at(recipe: TrainingRecipe, path: tuple[str, ...], field: FieldInfo) -> Any:
    value: Any = recipe
    for step in path:
        if not hasattr(value, step):
            return field.default
        value = getattr(value, step)
    return value


def identity(recipe: TrainingRecipe, introduced: Mapping[str, Any] = INTRODUCED) -> dict[str, Any]:
    """What the digest of a run is made of: the flat form as JSON, in its order.

    An option that still has the value it was introduced with is left out, so that a new option
    makes no finished run a new one. A changed default does: the value itself is in the digest.
    """
    return identity_of(recipe.model_dump(mode="json"), introduced)


def identity_of(options: Mapping[str, Any], introduced: Mapping[str, Any]) -> dict[str, Any]:
    """`options` of the flat form without those that have their value of `introduced`."""

    def kept(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        absent = object()
        return {
            name: kept(value, f"{name}.") if isinstance(value, dict) else value
            for name, value in values.items()
            if introduced.get(prefix + name, absent) != value
        }

    return kept(options, "")


TREATMENT_FIELDS: Final = (
    "columns",
    "ties",
    "repeats",
    "max_user_clicks",
    "min_item",
    "min_user",
    "iterate_filters",
)
"""The options that say how a log is read, ordered and filtered: a `Treatment`."""
DATA_FIELDS: Final = ("data", "items", *TREATMENT_FIELDS, "max_clicks", "holdout_users", "seen")
"""The options that say which clicks are trained on, and how they are split."""
POOL_FIELDS: Final = tuple(PoolRecipe.model_fields)
"""The options that say which samples devices may get."""
_ELSEWHERE = frozenset({*DATA_FIELDS, *POOL_FIELDS, "network", "model", "seed"})
TRAINING_FIELDS: Final = (
    *(name for name in OPTIONS if name not in _ELSEWHERE),
    *ModelSettings.model_fields,
)
"""The options that say how a network is trained, its shape included."""
