"""Layers that the device's graphs share, each in as few ONNX operators as possible.

They compute what `TTTBlock`, `Readout` and `match_moments` compute, but for one user and the last
click only. On a device the dispatch of operators takes the time, not the arithmetic.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.recommender.export.graphs import OPSET
from cloud_service.recommender.models.scn import REACH, SCN, Readout
from cloud_service.recommender.models.ttt import TTTBlock
from cloud_service.recommender.models.ttt_parts import EPS, HeadNorm


def is_additive(scn: SCN) -> bool:
    """Whether a correction only adds to the user state and to scores.

    Then the block does not depend on it, and `prepare` computes the user state.
    """
    return scn.settings.gcn == "projected"


def uses_moment_matching(scn: SCN) -> bool:
    """Whether a correction gets the mean and deviation of the inner values (Eq. 14)."""
    return scn.settings.fusion == "moments" and bool(scn.block.corrected)


class InnerSteps(NamedTuple):
    """The gradient steps that the clicks of a segment take in the inner model."""

    key: Float[Tensor, "heads k f+1"]
    """After RoPE."""
    direction: Float[Tensor, "heads k f"]
    pace: Float[Tensor, "heads k 1"]
    """direction * pace is the gradient times the learning rate times f."""


class InnerModel(nn.Module):
    """The inner model's gradient steps: the part that `prepare` and `carry` share."""

    turn: Tensor
    cos: Tensor
    sin: Tensor
    gamma: Tensor
    centred: Tensor

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        self.scn, block = scn, scn.block
        f = scn.settings.head_dim
        beside = torch.ones(len(block.cos), 1)
        cos, sin = torch.cat((block.cos, beside), 1), torch.cat((block.sin, 0 * beside), 1)
        self.register_buffer("turn", torch.stack((cos, sin))[:, None])  # (2, 1, K, f + 1)
        # In the shape of the keys: broadcasting over heads takes ONNX Runtime twice as long.
        heads = scn.settings.heads
        self.register_buffer("cos", cos.repeat(heads, 1, 1))
        self.register_buffer("sin", sin.repeat(heads, 1, 1))
        # `HeadNorm.loss_gradient` takes `inner` times gamma, minus its mean: one matrix for both.
        gamma = block.inner_norm.weight.detach()
        self.register_buffer("gamma", gamma[:, None].repeat(1, len(cos), 1))
        self.register_buffer("centred", gamma.unsqueeze(-1) * (torch.eye(f) - 1 / f))

    def steps(
        self, keys: Tensor, rotated_keys: Tensor, values: Tensor, state: Tensor
    ) -> InnerSteps:
        """Applies RoPE to the keys and computes every click's gradient step.

        keys, rotated_keys and values are (h, K, f+1), state is (h, f+1, f).
        """
        key = keys * self.cos + rotated_keys * self.sin
        if self.scn.settings.inner_step is None:
            direction, inverse = self._gradients(key @ state, (key - values)[..., :-1])
        else:
            direction, inverse = self._updates(key, values, state)
        return InnerSteps(key, direction, torch.sigmoid(values[..., -1:]) * inverse)

    def _gradients(self, before: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
        """Direction (h, n, f), and the inverse deviation (h, n, 1) that is still a factor of it.

        `before` is the inner model's output for the keys, `missing` what the values lack to them.
        """
        normal, _, inverse = torch.native_layer_norm(before, before.shape[-1:], None, None, EPS)
        inner = (normal * self.gamma[:, : before.shape[1]] + missing) @ self.centred
        # `normal` has mean 0, so the mean that was taken from `inner` drops out of this product.
        return inner - normal * (inner * normal).mean(-1, keepdim=True), inverse

    def _updates(self, key: Tensor, values: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """As `_gradients`, inner step after inner step: unrolled, without control flow."""
        block = self.scn.block
        b = block.inner_step
        scale = block.token_scale()[-1] * block.inner_lr.largest
        pace = torch.sigmoid(values[..., -1:]) * scale
        parts = [x.split(b, dim=1) for x in (key, key - values, pace)]
        directions: list[Tensor] = []
        inverses: list[Tensor] = []
        change = torch.zeros_like(state)
        for part, missing, factor in zip(*parts, strict=True):
            if directions:
                state = state - change
            direction, inverse = self._gradients(part @ state, missing[..., :-1])
            change = part.transpose(1, 2) @ (direction * (factor * inverse))
            directions.append(direction)
            inverses.append(inverse)
        return torch.cat(directions, 1), torch.cat(inverses, 1)


class MomentMatching(nn.Module):
    """Eq. 14 for the last click's rows of `attn` and of `b` side by side, (h, 1, K + f).

    Each statistic over one of the two parts is a product with a block-diagonal matrix. P and Q
    (Eq. 15) are factors of mean and deviation; they are 0 for a value that is not corrected.
    """

    average: Tensor
    centre: Tensor
    variance: Tensor
    share: Tensor

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        block, widths = scn.block, (scn.settings.segment, scn.settings.head_dim)
        fusion = {"attn": block.fusion_attn, "bias": block.fusion_bias}
        factors = [fusion[name].detach() * (name in block.corrected) for name in fusion]
        blocks = [torch.ones(width, width) for width in widths]
        average = torch.block_diag(*(ones / len(ones) for ones in blocks))
        share = torch.cat([x.expand(width) for x, width in zip(factors, widths, strict=True)])
        self.register_buffer("average", average)
        self.register_buffer("centre", torch.eye(sum(widths)) - average)
        # The sample variance; that of a single number is 0.
        variance = torch.block_diag(*(ones / max(len(ones) - 1, 1) for ones in blocks))
        self.register_buffer("variance", variance)
        self.register_buffer("share", share)

    def of(self, uncorrected: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and deviation that a correction must get, (h, 1, K + f) each."""
        mean = uncorrected @ (self.average * self.share)
        return mean, self._deviation(uncorrected @ self.centre) * self.share

    def match(self, correction: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        """As `match_moments`: the correction with this mean and deviation."""
        centred = correction @ self.centre
        return centred * (deviation / (self._deviation(centred) + EPS)) + mean

    def _deviation(self, centred: Tensor) -> Tensor:
        return (centred * centred @ self.variance).sqrt()


def block_output(
    block: TTTBlock, query: Float[Tensor, "heads 1 f"], inner: Float[Tensor, "heads 1 f"]
) -> Float[Tensor, "1 dim"]:
    """O of one click, from its query and the output of the inner model for it."""
    merged = query + _head_norm(block.inner_norm, inner)
    out: Tensor = block.post_norm(merged.view(1, -1)) @ block.output.T
    return out


def recent_clicks(
    readout: Readout, hidden: Float[Tensor, "k dim"], position: Int[Tensor, " 1"]
) -> Float[Tensor, "1 dim"]:
    """The last click plus the convolution over the last four: what a readout adds to O."""
    padded = functional.pad(hidden, (0, 0, REACH - 1, 0))
    rows = padded[position + torch.arange(REACH)]
    weight, bias = readout.convolution.weight.squeeze(1).T, readout.convolution.bias
    assert bias is not None
    return rows[-1:] + functional.silu((rows * weight).sum(0, keepdim=True) + bias)


def apply_readout(
    readout: Readout | None, output: Float[Tensor, "1 dim"], recent: Sequence[Tensor]
) -> Float[Tensor, "1 dim"]:
    """O after the readout; unchanged if there is none. `recent` holds `recent_clicks`."""
    return output if readout is None else readout.mlp(readout.mixed(recent[0], output))


def take(table: Tensor, position: Int[Tensor, " 1"], axis: int = 0) -> Tensor:
    """The entry of a table at a position, as one Gather."""
    shape = [1 if index == axis else size for index, size in enumerate(table.shape)]
    return onnx_operator("Gather", (table, position), {"axis": axis}, shape)


def score_items(
    user: Float[Tensor, "1 dim"], items: Float[Tensor, "n dim"]
) -> Float[Tensor, "1 n"]:
    """Scores as a row: ONNX Runtime takes longer for a column, or a product with a vector."""
    return onnx_operator("Gemm", (user, items), {"transB": 1}, (1, items.shape[0]))


def onnx_operator(
    name: str, inputs: Sequence[Tensor], attributes: dict[str, Any], shape: Sequence[int]
) -> Tensor:
    """An ONNX operator by its name; its output has the type of the first input."""
    out: Tensor = torch.onnx.ops.symbolic(
        name, inputs, attributes, dtype=inputs[0].dtype, shape=shape, version=OPSET
    )
    return out


def _head_norm(norm: HeadNorm, x: Float[Tensor, "heads 1 f"]) -> Float[Tensor, "heads 1 f"]:
    """`HeadNorm` as one operator: ONNX Runtime's LayerNorm accepts a weight for each head."""
    inputs = x, norm.weight.unsqueeze(1), norm.bias.unsqueeze(1)
    return onnx_operator("LayerNormalization", inputs, {"axis": -1, "epsilon": EPS}, x.shape)
