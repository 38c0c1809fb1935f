"""Command-line options for TrainingRecipe, generated from its fields."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from cloud_service.recommender.recipe import OPTIONS, TRAINING_FIELDS, TrainingRecipe
from cloud_service.services.job import Promotion
from shared.errors import InvalidRequest
from shared.model import ModelSettings

PromoteOption = Annotated[
    Promotion,
    typer.Option(
        help="Whether `production`, and the alias of the log, point at the result: where it ranks "
        "validation clicks no worse than what they point at, always, or never."
    ),
]
_MODEL = frozenset(ModelSettings.model_fields)
_FIELDS: dict[str, FieldInfo] = {
    name: field for name, field in OPTIONS.items() if name != "model"
} | dict(ModelSettings.model_fields)

_PANELS = {
    "The log": (
        "data", "items", "columns", "min_item", "min_user", "iterate_filters", "holdout_users",
        "max_user_clicks", "repeats", "ties", "seen",
    ),
    "The network": ("gcn", "teachers", "readout", "history", "length"),
    "Devices that learn": ("learning", "pool", "pool_users"),
    "Training": (
        "epochs", "patience", "batch_size", "learning_rate", "dropout", "weight_decay", "seed",
    ),
}  # fmt: skip
_REST = "Rarely changed"


def with_recipe_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds one option per field to `command`, which gets the recipe as its first argument."""
    recipe = inspect.Parameter(
        "recipe",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            Path | None, typer.Option(help="A recipe as JSON; the other options win over it.")
        ],
    )

    def run(**arguments: Any) -> None:
        chosen = {name: arguments.pop(name) for name in _FIELDS}
        command(read_recipe(arguments.pop("recipe"), chosen), **arguments)

    grouped = [name for names in _PANELS.values() for name in names]
    ungrouped = [name for name in _FIELDS if name not in grouped]
    before = [_parameter(name, _FIELDS[name]) for name in grouped]
    after = [_parameter(name, _FIELDS[name]) for name in ungrouped]
    return _with_signature(run, command, [*before, recipe], after)


def with_training_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds one option per training field to `command`, after its own options.

    `command` gets a dict of the options that the user set as its first argument.
    """

    def run(**arguments: Any) -> None:
        chosen = {name: arguments.pop(name) for name in TRAINING_FIELDS}
        set_options = {name: value for name, value in chosen.items() if value is not None}
        command(set_options, **arguments)

    added = [_parameter(name, _FIELDS[name]) for name in TRAINING_FIELDS]
    return _with_signature(run, command, [], added)


def _with_signature(
    run: Callable[..., None],
    command: Callable[..., None],
    before: list[inspect.Parameter],
    after: list[inspect.Parameter],
) -> Callable[..., None]:
    """Gives `run` the signature of `command` without its first argument, plus more options."""
    parameters = list(inspect.signature(command).parameters.values())[1:]
    types = inspect.get_annotations(command)
    names = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    run.__signature__ = inspect.Signature([*before, *names, *after])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in [*before, *after]} | {
        p.name: types[p.name] for p in parameters
    }
    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    return run


def read_recipe(path: Path | None, chosen: Mapping[str, Any]) -> TrainingRecipe:
    """Combines a recipe file with the options that are not None. Raises InvalidRequest."""
    values: dict[str, Any] = {}
    try:
        if path is not None:
            values = TrainingRecipe.model_validate_json(path.read_bytes()).model_dump()
        set_options = {name: value for name, value in chosen.items() if value is not None}
        model = {name: value for name, value in set_options.items() if name in _MODEL}
        plain = {name: value for name, value in set_options.items() if name not in _MODEL}
        shape = values.get("model", {})
        if "gcn" in model:  # each GCN has its own default fusion
            shape.pop("fusion", None)
        values = values | plain | {"model": shape | model}
        return TrainingRecipe.model_validate(values)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise InvalidRequest(one_line(error)) from error


def one_line(error: ValidationError) -> str:
    """Formats the first validation errors in one line, without the invalid values."""
    faults = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, f['loc'])) or 'recipe'}: {f['msg']}" for f in faults[:3])


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    description = field.description or _described(name)
    option_type = field.annotation
    if name == "items":
        option_type = str
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            option_type | None,  # type: ignore[operator]
            typer.Option(
                help=f"{description} (default: {_default(name, field)})",
                rich_help_panel=_panel(name),
            ),
        ],
    )


def _panel(name: str) -> str:
    return next((panel for panel, names in _PANELS.items() if name in names), _REST)


def _default(name: str, field: FieldInfo) -> str:
    if field.default is not None:
        return str(field.default)
    by_log = name in TRAINING_FIELDS and field.annotation in (int | None, float | None)
    return "by the log" if by_log else "none"


def _described(name: str) -> str:
    return name.replace("_", " ")
