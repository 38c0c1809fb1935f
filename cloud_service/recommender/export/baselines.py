"""Exports ONNX graphs of the baselines as a device would run them, to compare with the SCN.

ranker   item_table (V+1, D), clicks (L,), candidates (N,) -> scores (N,)
step     item_table, click (), NAME ... -> user_state (D,), next_NAME ...
scorer   item_table, user_state (D,), candidates (N,) -> scores (N,)

Clicks are padded with 0 on the right. `step` and `scorer` are for a model that carries a state from
click to click; NAME is each name in its `carried`. There is no batch axis, and the item table (the
`item_embedding` of a model) is an input. The user is the unknown user 0, because a device does not
know its user number.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cloud_service.recommender.export.graphs import export_module
from cloud_service.recommender.models.recommender import Recommender, Stepwise
from shared.errors import DataError

TABLE = "item_embedding"

_CANDIDATES = torch.ones(7, dtype=torch.int64)
_DYNAMIC = {
    "item_table": {0: torch.export.Dim("items", min=2)},
    "candidates": {0: torch.export.Dim("candidates", min=1)},
}


class _Call(nn.Module):
    """Calls a function on a model from `forward`, the only method `functional_call` can call."""

    def __init__(self, model: Recommender, function: Callable[..., Any]) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self, *inputs: Any) -> Any:
        return self.function(self.model, *inputs)


class _Graph(nn.Module):
    """A function of a model, with the item table as an input."""

    def __init__(self, model: Recommender, function: Callable[..., Any]) -> None:
        super().__init__()
        self.inside = _Call(model, function)
        self.table = f"model.{table_name(model)}"

    def called(self, item_table: Tensor, *inputs: Any) -> Any:
        return functional_call(self.inside, {self.table: item_table}, inputs)


class RankerGraph(_Graph):
    """Computes scores from clicks and candidates."""

    def forward(self, item_table: Tensor, clicks: Tensor, candidates: Tensor) -> Any:
        return self.called(item_table, clicks, candidates)


class StepGraph(_Graph):
    """Computes the user state and the new carried state after one more click."""

    def forward(self, item_table: Tensor, click: Tensor, carried: dict[str, Tensor]) -> Any:
        return self.called(item_table, click, carried)


class ScorerGraph(_Graph):
    """Computes scores from a user state and candidates."""

    def forward(self, item_table: Tensor, user_state: Tensor, candidates: Tensor) -> Any:
        return self.called(item_table, user_state, candidates)


def export_ranker(model: Recommender, length: int) -> bytes:
    """Exports `ranker` for at most `length` clicks. Raises DataError if there is no item table."""
    return export_module(
        RankerGraph(model.eval().cpu(), _rank),
        {
            "item_table": _rows(model),
            "clicks": torch.zeros(length, dtype=torch.int64),
            "candidates": _CANDIDATES,
        },
        ["scores"],
        _DYNAMIC,
    )


def export_step(model: Stepwise) -> bytes:
    """Exports `step`. The carried state of a new user is `initial_state`."""
    state = (tensor[0] for tensor in model.eval().cpu().initial_state(1))
    return export_module(
        StepGraph(model, _step),
        {
            "item_table": _rows(model),
            "click": torch.tensor(1),
            "carried": dict(zip(model.carried, state, strict=True)),
        },
        ["user_state", *(f"next_{name}" for name in model.carried)],
        {"item_table": _DYNAMIC["item_table"], "carried": dict.fromkeys(model.carried)},
    )


def export_scorer(model: Stepwise) -> bytes:
    """Exports `scorer`."""
    rows = _rows(model.eval().cpu())
    return export_module(
        ScorerGraph(model, _score),
        {"item_table": rows, "user_state": torch.zeros_like(rows[0]), "candidates": _CANDIDATES},
        ["scores"],
        _DYNAMIC,
    )


def table_name(model: Recommender) -> str:
    """The full name of a model's item table. Raises DataError if it has none."""
    for name, _ in model.named_parameters():
        if name.rsplit(".", 1)[-1] == TABLE:
            return name
    raise DataError(f"{type(model).__name__} learns no item table: it has no graph for a device")


def _rows(model: Recommender) -> Tensor:
    return torch.zeros_like(model.get_parameter(table_name(model)))


def _rank(model: Recommender, clicks: Tensor, candidates: Tensor) -> Tensor:
    states = model.last_states(clicks[None], torch.zeros(1, dtype=torch.int64))
    return model.score(states, candidates[None])[0]


def _step(model: Stepwise, click: Tensor, carried: dict[str, Tensor]) -> tuple[Tensor, ...]:
    before = tuple(carried[name][None] for name in model.carried)
    states, after = model.step(before, click[None])
    return states[0], *(tensor[0] for tensor in after)


def _score(model: Stepwise, user_state: Tensor, candidates: Tensor) -> Tensor:
    return model.score(user_state[None], candidates[None])[0]
