"""A residual block around a layer: the layer's output and an MLP, each added to its input."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

EXPANSION = 4
"""Hidden units of an MLP per feature of the model."""


class PostNorm(nn.Module):
    """Adds a layer's output, then a two-layer MLP's, to its input, with a norm after each."""

    def __init__(self, dim: int, dropout: float, *, residual: bool = True) -> None:
        """Without `residual`, the layer's output replaces its input."""
        super().__init__()
        self.residual = residual
        self.first, self.second = nn.Linear(dim, EXPANSION * dim), nn.Linear(EXPANSION * dim, dim)
        self.layer_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.drop = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "*batch dim"], layer: Float[Tensor, "*batch dim"]
    ) -> Float[Tensor, "*batch dim"]:
        """Combines the input `x` of a layer with the layer's output."""
        return self.mlp(self.mixed(x, layer))

    def mixed(self, x: Float[Tensor, "*batch dim"], layer: Float[Tensor, "*batch dim"]) -> Tensor:
        """The input of the MLP."""
        layer = self.drop(layer)
        out: Tensor = self.layer_norm(layer + x if self.residual else layer)
        return out

    def mlp(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """The output of the MLP and its residual connection."""
        inner = self.drop(functional.gelu(self.first(x)))
        out: Tensor = self.mlp_norm(x + self.drop(self.second(inner)))
        return out
