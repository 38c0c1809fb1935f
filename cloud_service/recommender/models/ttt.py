"""TTT-Linear in dual form: the block of the SCN (CoCorrRec, Section 3 and Algorithm 1).

At inference, an inner linear model per head is trained to map each click's key to its value. The
gradients of the b clicks of an inner step are taken at the state that the step before has left, so
that they can be computed together (Eq. 5 and 6). In the paper b is the segment, K; with a smaller b
a segment is K / b inner steps, one after the other.

Shapes: batch B, segment K, inner step b, width D, heads h, head width f = D / h.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cloud_service.recommender.models.ttt_parts import (
    EPS,
    HeadNorm,
    InnerLearningRate,
    match_moments,
    rope_tables,
    rotate_pairs,
)
from shared.model import Fusion


class State(NamedTuple):
    """The carried state: the inner model at the start of a segment."""

    weight: Float[Tensor, "*batch heads f f"]
    bias: Float[Tensor, "*batch heads 1 f"]


class Correction(NamedTuple):
    """The GCN's prediction, before Eq. 14. Row t is for a user whose last click is t."""

    attn: Float[Tensor, "*batch heads k"]
    bias: Float[Tensor, "*batch heads f"]


class Terms(NamedTuple):
    """The inner values of one segment, uncorrected."""

    query: Float[Tensor, "*batch heads k f"]
    key: Float[Tensor, "*batch heads k f"]
    gradient: Float[Tensor, "*batch heads k f"]
    lr: Float[Tensor, "*batch heads k"]


class TTTBlock(nn.Module):
    """Computes the output O from H of one segment and a correction (Eq. 9 to 15)."""

    query: nn.Parameter
    key: nn.Parameter
    value: nn.Parameter
    output: nn.Parameter
    cos: Tensor
    sin: Tensor
    tril: Tensor
    within: Tensor
    before: Tensor
    position_scale: Tensor

    def __init__(
        self,
        dim: int,
        heads: int,
        segment: int,
        *,
        mask_correction: bool,
        fusion: Fusion = "moments",
        inner_step: int | None = None,
    ) -> None:
        """`mask_correction` keeps a corrected row from reaching later clicks (the causal form).

        `inner_step` is b, a divisor of the segment, by default all of it. Positions (RoPE, and the
        scale of an update) begin anew in each inner step. Less than a segment needs the mask.
        """
        super().__init__()
        width = dim // heads
        self.heads, self.segment, self.mask_correction = heads, segment, mask_correction
        self.inner_step = segment if inner_step is None else inner_step
        self.fusion = fusion
        self.corrected: frozenset[str] = frozenset({"attn", "bias"})
        """The values that are corrected; an ablation leaves one out."""
        for name in ("query", "key", "value", "output"):
            self.register_parameter(name, nn.Parameter(torch.randn(dim, dim) * 0.02))
        self.inner_weight = nn.Parameter(torch.randn(heads, width, width) * 0.02)
        self.inner_bias = nn.Parameter(torch.zeros(heads, 1, width))
        self.inner_norm = HeadNorm(heads, width)
        self.inner_lr = InnerLearningRate(heads, dim)
        self.token_scale_offset = nn.Parameter(torch.zeros(self.inner_step))
        self.fusion_attn = nn.Parameter(torch.zeros(1))
        self.fusion_bias = nn.Parameter(torch.full((1,), 0.25))
        self.post_norm = nn.LayerNorm(dim, eps=EPS)
        self._register_tables(width)

    def _register_tables(self, width: int) -> None:
        """RoPE of each click of a segment, and masks of the clicks that reach one: all (`tril`),
        those of its own inner step (`within`), those of the steps before (`before`)."""
        k, b = self.segment, self.inner_step
        cos, sin = rope_tables(b, width)
        tril = torch.ones(k, k).tril()
        within = torch.block_diag(*[torch.ones(b, b)] * (k // b)) * tril
        scale = 1.0 / torch.arange(1, b + 1)
        tables = {
            "cos": cos.repeat(k // b, 1),
            "sin": sin.repeat(k // b, 1),
            "tril": tril,
            "within": within,
            "before": tril - within,
            "position_scale": scale,
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def token_scale(self) -> Float[Tensor, " b"]:
        """The scale of the inner update at each position of an inner step."""
        return (self.position_scale + self.token_scale_offset).clamp_min(0.0)

    def reach(self) -> Float[Tensor, "k k"]:
        """The share of click s's gradient step that has been taken when click t is read."""
        scale = self.token_scale()
        own = scale.repeat(self.segment // self.inner_step).unsqueeze(-1) * self.within
        return own + scale[-1] * self.before

    def initial_state(self, batch: int | torch.SymInt) -> State:
        """The state of a user without history."""
        return State(
            self.inner_weight.expand(batch, *self.inner_weight.shape),
            self.inner_bias.expand(batch, *self.inner_bias.shape),
        )

    def terms(self, hidden: Float[Tensor, "*batch k dim"], state: State) -> Terms:
        """Queries, keys, gradients and learning rates of one segment."""
        query = self._rope(self._heads(hidden @ self.query.T))
        key = self._rope(self._heads(hidden @ self.key.T))
        value = self._heads(hidden @ self.value.T)
        start = key @ state.weight + state.bias
        lr = self.inner_lr(hidden)
        if self.inner_step == self.segment:
            gradient = self.inner_norm.loss_gradient(start, value - key)
        else:
            gradient = self._gradients(key, start, value - key, lr)
        return Terms(query, key, gradient, lr)

    def _gradients(
        self,
        key: Float[Tensor, "*batch heads k f"],
        start: Float[Tensor, "*batch heads k f"],
        target: Float[Tensor, "*batch heads k f"],
        lr: Float[Tensor, "*batch heads k"],
    ) -> Float[Tensor, "*batch heads k f"]:
        """Gradients inner step after inner step. `start` is the inner model's output for each key
        at the state that begins the segment; the steps taken since then are subtracted from it."""
        k, b = self.segment, self.inner_step
        taken = self.token_scale()[-1] * (key @ key.transpose(-1, -2) + 1)
        gradients = [self.inner_norm.loss_gradient(start[..., :b, :], target[..., :b, :])]
        for begin in range(b, k, b):
            rows = slice(begin, begin + b)
            steps = lr[..., :begin, None] * torch.cat(gradients, -2)
            output = start[..., rows, :] - taken[..., rows, :begin] @ steps
            gradients.append(self.inner_norm.loss_gradient(output, target[..., rows, :]))
        return torch.cat(gradients, -2)

    def carry(self, terms: Terms, state: State) -> State:
        """The state after a full segment, for the next one. It is never corrected."""
        step = (self.token_scale()[-1] * terms.lr).unsqueeze(-1) * terms.gradient
        return State(
            state.weight - terms.key.transpose(-1, -2) @ step,
            state.bias - step.sum(-2, keepdim=True),
        )

    def rows(
        self,
        terms: Terms,
        state: State,
        correction: Correction | None = None,
        gate: Float[Tensor, " batch"] | None = None,
        *,
        prefixes: bool = False,
    ) -> Float[Tensor, "batch k dim"]:
        """O at every click of the segment.

        `gate` (0 or 1 per sequence) drops a correction. With `prefixes`, row t is computed as if
        the clicks after t were padding, that is, as if t were the last click; so one pass trains
        on every position. The result differs only if a correction is not masked.
        """
        step = terms.lr.unsqueeze(-1) * terms.gradient  # (B, h, K, f)
        attn = (terms.query @ terms.key.transpose(-1, -2)) * self.tril
        if self.inner_step < self.segment:
            return self._rows_of_steps(terms, state, step, attn, correction, gate)
        scale = self.token_scale().unsqueeze(-1)  # (K, 1)
        bias = state.bias - scale * (self.tril @ step)
        if correction is not None:
            attn, bias = self._correct(attn, bias, correction, gate)
        shift = (attn * self.tril if prefixes else attn) @ step
        if prefixes and correction is not None and not self.mask_correction:
            shift = shift + (attn * (1 - self.tril)).sum(-1, keepdim=True) * self._padding(state)
        return self._output(terms.query, terms.query @ state.weight - scale * shift + bias)

    def _rows_of_steps(
        self,
        terms: Terms,
        state: State,
        step: Float[Tensor, "batch heads k f"],
        attn: Float[Tensor, "batch heads k k"],
        correction: Correction | None,
        gate: Float[Tensor, " batch"] | None,
    ) -> Float[Tensor, "batch k dim"]:
        """`rows` with several inner steps in a segment. `attn` and `bias` are the same sums as
        with one, over all clicks of the segment, each with the share of its step that was taken."""
        reach = self.reach()
        bias = state.bias - reach @ step
        if correction is not None:
            attn, bias = self._correct(attn, bias, correction, gate)
        return self._output(terms.query, terms.query @ state.weight - (attn * reach) @ step + bias)

    def _output(
        self,
        query: Float[Tensor, "batch heads k f"],
        inner: Float[Tensor, "batch heads k f"],
    ) -> Float[Tensor, "batch k dim"]:
        """O from queries and the inner model's outputs for them."""
        merged = (query + self.inner_norm(inner)).transpose(-3, -2).flatten(-2)
        return self.post_norm(merged) @ self.output.T

    def _correct(
        self, attn: Tensor, bias: Tensor, correction: Correction, gate: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        share = 1.0 if gate is None else gate[:, None, None, None]
        attn, bias = self.fuse(attn, bias, correction, share)
        return (attn * self.tril if self.mask_correction else attn), bias

    def fuse(
        self, attn: Tensor, bias: Tensor, correction: Correction, share: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        """Eq. 14 and 15; with fusion `shift` adds `attn` unchanged (`SCN.corrected` adds `b`).

        `share` is 1 with a correction, 0 without. Shapes must agree in the last axis only.
        """
        add_attn, add_bias = correction.attn, torch.zeros_like(bias)
        if self.fusion == "moments":
            add_attn = self.fusion_attn * match_moments(correction.attn, attn)
            add_bias = self.fusion_bias * match_moments(correction.bias, bias)
        if "attn" in self.corrected:
            attn = attn + share * add_attn
        if "bias" in self.corrected:
            bias = bias + share * add_bias
        return attn, bias

    def _padding(self, state: State) -> Float[Tensor, "batch heads 1 f"]:
        """The step of a padding click: its H is 0, but its gradient is not."""
        gradient = self.inner_norm.loss_gradient(state.bias, torch.zeros_like(state.bias))
        return self.inner_lr.padding().unsqueeze(-1) * gradient

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def _rope(self, x: Tensor) -> Tensor:
        return x * self.cos + rotate_pairs(x) * self.sin
