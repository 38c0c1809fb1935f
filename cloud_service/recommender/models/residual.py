"""What stacks of layers are made of: a layer's output and an MLP, each added to its input."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

EXPANSION = 4
"""Hidden numbers of an MLP for each of its D features."""


class PostNorm(nn.Module):
    """Adds a layer's output, then a two-layer MLP's, to what went in, with a norm after each."""

    def __init__(self, dim: int, dropout: float, *, residual: bool = True) -> None:
        """Without `residual`, the layer's output is not added to its input: it takes its place."""
        super().__init__()
        self.residual = residual
        self.first, self.second = nn.Linear(dim, EXPANSION * dim), nn.Linear(EXPANSION * dim, dim)
        self.layer_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.drop = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "*batch dim"], layer: Float[Tensor, "*batch dim"]
    ) -> Float[Tensor, "*batch dim"]:
        """Of an input and what the layer made of it."""
        return self.mlp(self.mixed(x, layer))

    def mixed(self, x: Float[Tensor, "*batch dim"], layer: Float[Tensor, "*batch dim"]) -> Tensor:
        """What goes into the MLP."""
        layer = self.drop(layer)
        out: Tensor = self.layer_norm(layer + x if self.residual else layer)
        return out

    def mlp(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """What leaves the MLP."""
        inner = self.drop(functional.gelu(self.first(x)))
        out: Tensor = self.mlp_norm(x + self.drop(self.second(inner)))
        return out
