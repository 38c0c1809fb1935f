"""GRU4Rec (Hidasi et al., ICLR 2016; with the losses of Hidasi and Karatzoglou, CIKM 2018)."""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.recommender.models.recommender import Stepwise, Tied, item_table, look_up


class GRU4Rec(Tied, Stepwise):
    """Item embedding (V+1, D), a GRU of D units a layer, the item embedding again as output.

    Differs from the paper: batches of whole windows in place of session-parallel ones, the
    embedding tied to the output (the second paper's "constrained embedding"), no item bias.
    """

    carried: ClassVar[tuple[str, ...]] = ("units",)

    def __init__(self, items: int, *, length: int, dim: int, layers: int, dropout: float) -> None:
        """`dropout` acts on the input of the first layer and between layers."""
        super().__init__()
        self.items, self.length, self.dropout = items, length, dropout
        self.item_embedding = item_table(items, dim)
        between = dropout if layers > 1 else 0.0
        self.gru = nn.GRU(dim, dim, layers, dropout=between, batch_first=True)

    def states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length dim"]:
        """The last layer's units after every click. `users` is not read."""
        out: Tensor = self.gru(self._embedded(clicks))[0]
        return out

    def initial_state(self, batch: int) -> tuple[Float[Tensor, "batch layers dim"]]:
        """All units at zero."""
        return (self.item_embedding.new_zeros(batch, self.gru.num_layers, self.gru.hidden_size),)

    def step(
        self, state: tuple[Tensor, ...], clicks: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch dim"], tuple[Float[Tensor, "batch layers dim"]]]:
        """The units after one more click."""
        (units,) = state  # (batch, layers, dim)
        x, after = self._embedded(clicks), []
        for before, weights in zip(units.unbind(1), self.gru.all_weights, strict=True):
            x = torch.gru_cell(x, before, *weights)
            after.append(x)
        return x, (torch.stack(after, dim=1),)

    def _embedded(self, clicks: Int[Tensor, "*n"]) -> Float[Tensor, "*n dim"]:
        rows = look_up(self.item_embedding, clicks)
        return functional.dropout(rows, self.dropout, self.training)
