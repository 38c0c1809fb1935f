"""Parts of the TTT block: RoPE, Eq. 14, the norm of the inner model and its learning rate.

Shapes: batch B, segment K, width D, heads h, head width f = D / h.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

ROPE_BASE = 10_000.0
EPS = 1e-6


def rope_tables(positions: int, width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (positions, width) of RoPE; neighbouring features form a pair."""
    inverse = ROPE_BASE ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = torch.arange(positions, dtype=torch.float64)[:, None] * inverse
    angle = angle.repeat_interleave(2, dim=-1)
    return angle.cos().float(), angle.sin().float()


def rotate_pairs(x: Tensor) -> Tensor:
    """(x0, x1, x2, x3, ...) to (-x1, x0, -x3, x2, ...) along the last axis."""
    pairs = x.unflatten(-1, (-1, 2))
    return torch.stack((-pairs[..., 1], pairs[..., 0]), dim=-1).flatten(-2)


def match_moments(correction: Tensor, value: Tensor) -> Tensor:
    """Eq. 14 along the last axis: `correction` with the mean and deviation of `value`.

    As in the released model, the deviation is the sample deviation (n - 1), and 1e-6 is added to
    the correction's. A row of length 1 has no deviation and becomes the mean.
    """
    mean = value.mean(-1, keepdim=True)
    if value.shape[-1] == 1:
        return mean.expand_as(value)
    centred = correction - correction.mean(-1, keepdim=True)
    return centred / (correction.std(-1, keepdim=True) + EPS) * value.std(-1, keepdim=True) + mean


class HeadNorm(nn.Module):
    """LayerNorm per head, with its gradient in closed form."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(heads, width))
        self.bias = nn.Parameter(torch.zeros(heads, width))

    def forward(self, x: Float[Tensor, "*batch heads k f"]) -> Float[Tensor, "*batch heads k f"]:
        normal = functional.layer_norm(x, x.shape[-1:], eps=EPS)
        return normal * self.weight.unsqueeze(-2) + self.bias.unsqueeze(-2)

    def loss_gradient(
        self,
        x: Float[Tensor, "*batch heads k f"],
        target: Float[Tensor, "*batch heads k f"],
    ) -> Float[Tensor, "*batch heads k f"]:
        """d/dx of half the squared distance of LayerNorm(x) from `target`."""
        normal, deviation = self._normalise(x)
        gamma = self.weight.unsqueeze(-2)
        inner = (normal * gamma + self.bias.unsqueeze(-2) - target) * gamma
        projection = (inner * normal).mean(-1, keepdim=True)
        return (inner - inner.mean(-1, keepdim=True) - normal * projection) / deviation

    @staticmethod
    def _normalise(x: Tensor) -> tuple[Tensor, Tensor]:
        centred = x - x.mean(-1, keepdim=True)
        deviation = (centred.square().mean(-1, keepdim=True) + EPS).sqrt()
        return centred / deviation, deviation


class InnerLearningRate(nn.Module):
    """A learning rate per click and head, from H, between 0 and 1 / f (released model: 1 / 16)."""

    def __init__(self, heads: int, dim: int) -> None:
        super().__init__()
        self.largest = heads / dim
        self.weight = nn.Parameter(torch.randn(heads, 1, dim) * 0.02)
        self.bias = nn.Parameter(torch.zeros(heads, 1))

    def forward(self, hidden: Float[Tensor, "*batch k dim"]) -> Float[Tensor, "*batch heads k"]:
        return self.rate(hidden @ self.weight.squeeze(1).T)

    def rate(self, gate: Float[Tensor, "*batch k heads"]) -> Float[Tensor, "*batch heads k"]:
        """The rates from H times the weights."""
        return torch.sigmoid(gate + self.bias.squeeze(1)).transpose(-1, -2) * self.largest

    def padding(self) -> Float[Tensor, "heads 1"]:
        """The rate of a padding click, whose H is 0."""
        return torch.sigmoid(self.bias) * self.largest
