"""The interface of models that rank items for a user, for training, evaluation and export.

A model scores candidates from a *state*: for most models a vector, for models whose score depends
on candidate and clicks together the last clicks. Users are numbered from 1 (their row in the click
log plus 1); user 0 is an unknown user, as on a device.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional


class Recommender(nn.Module, ABC):
    """Maps clicks (0 is padding, on the right) to states, and states to scores."""

    factorised: ClassVar[bool] = False
    """Whether a score is the product of a state and an item vector (see `DotProduct`)."""
    items: int
    """Items in the catalogue, padding not counted."""
    length: int
    """Maximum number of clicks that it reads, the latest ones."""
    carries: bool = False
    """Whether clicks before the last `length` have an effect through a carried state."""

    @abstractmethod
    def states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Shaped[Tensor, "batch length *state"]:
        """The state after every click, computed only from that click and those before it."""

    def last_states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Shaped[Tensor, "batch *state"]:
        """The state after the last click that is not padding."""
        return at_last(self.states(clicks, users), clicks)

    @abstractmethod
    def score(
        self, states: Shaped[Tensor, "n *state"], candidates: Int[Tensor, "n count"]
    ) -> Float[Tensor, "n count"]:
        """A score for each candidate."""

    @abstractmethod
    def score_all(self, states: Shaped[Tensor, "n *state"]) -> Float[Tensor, "n items"]:
        """A score for every item of the catalogue; column i is item i + 1."""

    def examples(
        self, clicks: Int[Tensor, "batch length"], targets: Int[Tensor, "batch length"]
    ) -> tuple[Int[Tensor, "batch length2"], Int[Tensor, "batch length2"]]:
        """Inputs and targets of a training step, from next-click pairs; a target of 0 is ignored.

        Unchanged for a model that predicts the next click from those before it.
        """
        return clicks, targets

    def training_states(
        self, clicks: Int[Tensor, "batch length2"], users: Int[Tensor, " batch"]
    ) -> Shaped[Tensor, "batch length2 *state"]:
        """The state at every position of the inputs from `examples`, for the loss.

        Equal to `states` for a model that predicts the next click from those before it.
        """
        return self.states(clicks, users)


class DotProduct(Recommender):
    """A model whose score is the product of a state (n, D) and an item vector (D)."""

    factorised = True

    @abstractmethod
    def item_vectors(self, items: Int[Tensor, "*n"]) -> Float[Tensor, "*n dim"]:
        """The vectors of some items, by number."""

    def catalogue(self) -> Float[Tensor, "items dim"]:
        """The vectors of all items; row i is item i + 1."""
        device = next(self.parameters()).device
        return self.item_vectors(torch.arange(1, self.items + 1, device=device))

    def score(
        self, states: Float[Tensor, "n dim"], candidates: Int[Tensor, "n count"]
    ) -> Float[Tensor, "n count"]:
        """A score for each candidate."""
        return (self.item_vectors(candidates) @ states.unsqueeze(-1)).squeeze(-1)

    def score_all(self, states: Float[Tensor, "n dim"]) -> Float[Tensor, "n items"]:
        """A score for every item of the catalogue; column i is item i + 1."""
        return states @ self.catalogue().T


class Tied(DotProduct):
    """A dot product whose item vectors are the rows of the embedding of clicks (tied)."""

    item_embedding: nn.Parameter

    def item_vectors(self, items: Int[Tensor, "*n"]) -> Float[Tensor, "*n dim"]:
        """Rows of the item embedding."""
        return look_up(self.item_embedding, items)

    def catalogue(self) -> Float[Tensor, "items dim"]:
        """The item embedding without padding."""
        return self.item_embedding[1:]


class Stepwise(DotProduct):
    """A model that can read one click at a time, at a cost independent of the history's length.

    It carries a state of fixed size from click to click; a device stores that in place of clicks.
    """

    carried: ClassVar[tuple[str, ...]]
    """The name of each tensor of the carried state."""

    @abstractmethod
    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        """The carried state before the first click; the first axis of each tensor is the batch."""

    @abstractmethod
    def step(
        self, state: tuple[Tensor, ...], clicks: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch dim"], tuple[Tensor, ...]]:
        """The state after one more click (as from `states`), and the new carried state."""


def at_last(
    states: Shaped[Tensor, "batch length *state"], clicks: Int[Tensor, "batch length"]
) -> Shaped[Tensor, "batch *state"]:
    """The states at the last click that is not padding (at position 0 if all are padding)."""
    position = ((clicks > 0).sum(1) - 1).clamp_min(0)
    return states[torch.arange(position.shape[0], device=position.device), position]


def item_table(items: int, dim: int, std: float = 0.02) -> nn.Parameter:
    """A table (items + 1, dim) of item embeddings; row 0, padding, is zero and stays zero."""
    table = torch.randn(items + 1, dim) * std
    table[0] = 0.0
    return nn.Parameter(table)


def look_up(table: Float[Tensor, "rows dim"], items: Int[Tensor, "*n"]) -> Float[Tensor, "*n dim"]:
    """Rows of an item table; padding gets no gradient."""
    return functional.embedding(items, table, padding_idx=0)
