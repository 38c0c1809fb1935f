"""Mamba4Rec (Liu et al., 2024): selective state spaces (Gu and Dao, 2023) over the clicks."""

import math
from typing import ClassVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.recommender.models.baselines.selective_scan import (
    recall,
    remember,
    selective_scan,
)
from cloud_service.recommender.models.recommender import (
    Stepwise,
    Tied,
    at_last,
    item_table,
    look_up,
)
from cloud_service.recommender.models.residual import PostNorm

MEMORY = 32
"""Size of a channel's memory."""
WIDTH = 4
"""Width of the convolution in clicks."""
EXPAND = 2
"""Channels per feature."""
_FASTEST, _SLOWEST = 0.1, 0.001


class SelectiveSpace(nn.Module):
    """Mamba's block: a causal convolution per channel, then a memory gated by input and rate."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        channels, rank = EXPAND * dim, math.ceil(dim / 16)
        self.split = (rank, MEMORY, MEMORY)
        self.enter = nn.Linear(dim, 2 * channels, bias=False)
        self.convolution = nn.Conv1d(channels, channels, WIDTH, groups=channels)
        self.select = nn.Linear(channels, sum(self.split), bias=False)
        self.rate = nn.Linear(rank, channels)
        rates = torch.arange(1, MEMORY + 1, dtype=torch.float32)
        self.log_decay = nn.Parameter(rates.log().repeat(channels, 1))
        self.skip = nn.Parameter(torch.ones(channels))
        self.leave = nn.Linear(channels, dim, bias=False)
        _init_rate(self.rate, rank)

    def forward(self, x: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length dim"]:
        value, gate = self.enter(x).chunk(2, dim=-1)
        value = functional.pad(value.transpose(1, 2), (WIDTH - 1, 0))
        value = functional.silu(self.convolution(value)).transpose(1, 2)
        rate, write, read = self._selected(value)
        recalled = selective_scan(rate * value, rate, self._decay(), write, read)
        return self._gated(recalled, value, gate)

    def step(
        self,
        x: Float[Tensor, "batch dim"],
        recent: Float[Tensor, "batch earlier channels"],
        memory: Float[Tensor, "batch channels memory"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The output (B, dim) for one more click, and the two tensors of the new state."""
        value, gate = self.enter(x).chunk(2, dim=-1)
        seen = torch.cat((recent, value.unsqueeze(1)), dim=1)
        value = functional.silu(self.convolution(seen.transpose(1, 2)).squeeze(2))
        rate, write, read = self._selected(value)
        memory = remember(memory, rate * value, rate, self._decay(), write)
        return self._gated(recall(memory, read), value, gate), seen[:, 1:], memory

    def _selected(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rate (..., channels), and the write and read vectors (..., memory), of each click."""
        rate, write, read = self.select(value).split(self.split, dim=-1)
        return functional.softplus(self.rate(rate)), write, read

    def _decay(self) -> Float[Tensor, "channels memory"]:
        return -self.log_decay.exp()

    def _gated(self, recalled: Tensor, value: Tensor, gate: Tensor) -> Tensor:
        out: Tensor = self.leave((recalled + self.skip * value) * functional.silu(gate))
        return out


def _init_rate(layer: nn.Linear, rank: int) -> None:
    """Initialises rates log-uniformly between 0.001 and 0.1, as Mamba does."""
    nn.init.uniform_(layer.weight, -(rank**-0.5), rank**-0.5)
    rates = torch.empty_like(layer.bias).uniform_(math.log(_SLOWEST), math.log(_FASTEST)).exp()
    with torch.no_grad():
        layer.bias.copy_(rates + torch.log(-torch.expm1(-rates)))  # softplus gives `rates`


class MambaLayer(PostNorm):
    """A selective state space and a two-layer MLP, each with a norm after it.

    `residual` adds the input to the state space's output, as for stacked layers.
    """

    def __init__(self, dim: int, dropout: float, *, residual: bool) -> None:
        super().__init__(dim, dropout, residual=residual)
        self.space = SelectiveSpace(dim)


class Mamba4Rec(Tied, Stepwise):
    """Item embedding (V+1, D) with a norm, layers of a state space and an MLP each.

    The item embedding also scores. Differs from the authors' code: rates are initialised as in
    Mamba (there all are softplus(0)), and the scan is `selective_scan`.
    """

    carried: ClassVar[tuple[str, ...]] = ("recent", "memory")

    def __init__(self, items: int, *, length: int, dim: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.items, self.length = items, length
        self.item_embedding = item_table(items, dim)
        self.norm, self.drop = nn.LayerNorm(dim), nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            MambaLayer(dim, dropout, residual=layers > 1) for _ in range(layers)
        )

    def states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length dim"]:
        """The last layer's output at every click. `users` is not read."""
        return self._stack()[-1].mlp(self._mixed(clicks))

    def last_states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """The same at the last click only, so that the last MLP reads a single click."""
        return self._stack()[-1].mlp(at_last(self._mixed(clicks), clicks))

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        """No clicks for the convolution, (batch, layers, width - 1, channels), and no memory,
        (batch, layers, channels, memory).
        """
        channels, layers = self._stack()[0].space.skip.numel(), len(self.layers)
        zeros = self.item_embedding.new_zeros
        return (
            zeros(batch, layers, WIDTH - 1, channels),
            zeros(batch, layers, channels, MEMORY),
        )

    def step(
        self, state: tuple[Tensor, ...], clicks: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch dim"], tuple[Tensor, ...]]:
        """The last layer's output for one more click."""
        x, after = self._embedded(clicks), []
        for layer, recent, memory in zip(
            self._stack(), *(tensor.unbind(1) for tensor in state), strict=True
        ):
            space, *carried = layer.space.step(x, recent, memory)
            x = layer.mlp(layer.mixed(x, space))
            after.append(carried)
        return x, tuple(torch.stack(tensor, dim=1) for tensor in zip(*after, strict=True))

    def _embedded(self, clicks: Int[Tensor, "*n"]) -> Float[Tensor, "*n dim"]:
        out: Tensor = self.norm(self.drop(look_up(self.item_embedding, clicks)))
        return out

    def _mixed(self, clicks: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length dim"]:
        """The output of all layers before the last MLP."""
        x = self._embedded(clicks)
        *earlier, last_layer = self._stack()
        for layer in earlier:
            x = layer.mlp(layer.mixed(x, layer.space(x)))
        return last_layer.mixed(x, last_layer.space(x))

    def _stack(self) -> list[MambaLayer]:
        return cast(list[MambaLayer], list(self.layers))
