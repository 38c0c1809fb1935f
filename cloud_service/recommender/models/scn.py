"""The self-correction network (SCN): what runs on the device (CoCorrRec, Section 4.1)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.recommender.models.recommender import DotProduct, at_last, item_table, look_up
from cloud_service.recommender.models.residual import PostNorm
from cloud_service.recommender.models.ttt import Correction, State, TTTBlock
from cloud_service.recommender.models.ttt_parts import EPS
from shared.model import ModelSettings

REACH = 4
"""Width, in clicks, of a readout's convolution."""


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + 1e-6) * weight; a zero row stays zero."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        # Written with sqrt and a division, which ONNX Runtime fuses into one operator.
        return x / torch.sqrt(x.square().mean(-1, keepdim=True) + EPS) * self.weight


class CandidateTower(nn.Module):
    """Linear, tanh, linear: the released model's transformation of a candidate's embedding."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first = nn.Linear(dim, dim)
        self.second = nn.Linear(dim, dim)

    def forward(self, items: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        out: Tensor = self.second(torch.tanh(self.first(items)))
        return out


class Readout(PostNorm):
    """Adds the block's output to H and to a causal convolution over H; an MLP follows.

    Not in the paper. The block alone is linear in its input apart from its normalisations, and
    knows the order of clicks only from RoPE. The convolution over four clicks is Mamba's.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__(dim, dropout)
        self.convolution = nn.Conv1d(dim, dim, REACH, groups=dim)

    def forward(
        self, hidden: Float[Tensor, "batch k dim"], output: Float[Tensor, "batch k dim"]
    ) -> Float[Tensor, "batch k dim"]:
        """Reads H and O of one segment; the convolution does not see earlier segments."""
        earlier = functional.pad(hidden.transpose(1, 2), (REACH - 1, 0))
        near = functional.silu(self.convolution(earlier)).transpose(1, 2)
        return super().forward(hidden + near, output)


class SCN(DotProduct):
    """Item embedding, one TTT-Linear block, a score per candidate.

    Items are numbered from 1; item 0 is padding, on the right, and its embedding is zero.
    """

    def __init__(
        self,
        items: int,
        settings: ModelSettings,
        *,
        init_std: float = 0.02,
        dropout: float = 0.0,
    ) -> None:
        """`dropout` acts on H and in the readout's MLP, only in training."""
        super().__init__()
        self.items, self.settings, self.dropout = items, settings, dropout
        self.carries = settings.history == "carry"
        self.length = settings.segment if self.carries else settings.length
        self.item_embedding = item_table(items, settings.dim, init_std)
        self.input_norm = RMSNorm(settings.dim)
        self.block = TTTBlock(
            settings.dim,
            settings.heads,
            settings.segment,
            mask_correction=settings.gcn != "released",
            fusion=settings.fusion,
            inner_step=settings.inner_step,
        )
        self.readout = Readout(settings.dim, dropout) if settings.readout == "mlp" else None
        self.output_norm = RMSNorm(settings.dim)
        self.target = CandidateTower(settings.dim) if settings.scoring == "tower" else None

    def hidden(self, clicks: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length dim"]:
        """H (Eq. 8); rows of padding are zero."""
        out: Tensor = self.input_norm(look_up(self.item_embedding, clicks))
        return out

    def trained_hidden(
        self, clicks: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length dim"]:
        """H, with dropout while training."""
        return functional.dropout(self.hidden(clicks), self.dropout, self.training)

    def states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length dim"]:
        """The user state after every click, without a correction. `users` is not read."""
        return self.user_state(self(self.trained_hidden(clicks)))

    def last_states(
        self,
        clicks: Int[Tensor, "batch length"],
        users: Int[Tensor, " batch"],
        state: State | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """The user state after the last click, `state` carried from earlier segments."""
        output = self(self.hidden(clicks), state=state)
        return self.user_state(at_last(output, clicks))

    def forward(
        self,
        hidden: Float[Tensor, "batch length dim"],
        correction: Correction | None = None,
        gate: Float[Tensor, " batch"] | None = None,
        *,
        state: State | None = None,
        prefixes: bool = False,
    ) -> Float[Tensor, "batch length dim"]:
        """O (Eq. 11) at every click, segment after segment with the state carried along; with a
        `Readout`, its output instead.

        `correction` has one matrix per segment: its batch axis is (batch * segments), in the
        order of `segments`. A length that is not a multiple of K is padded internally.
        """
        segments = self.segments(hidden)
        batch, count = segments.shape[:2]
        state = self.block.initial_state(batch) if state is None else state
        outputs = []
        for index in range(count):
            terms = self.block.terms(segments[:, index], state)
            segment_correction = None
            if correction is not None:
                segment_correction = Correction(
                    *(x.unflatten(0, (batch, count))[:, index] for x in correction)
                )
            output = self.block.rows(terms, state, segment_correction, gate, prefixes=prefixes)
            if self.readout is not None:
                output = self.readout(segments[:, index], output)
            outputs.append(output)
            if index + 1 < count:
                state = self.block.carry(terms, state)
        return torch.cat(outputs, dim=1)[:, : hidden.shape[1]]

    def segments(
        self, hidden: Float[Tensor, "batch length dim"]
    ) -> Float[Tensor, "batch segments k dim"]:
        """H cut into segments of K, the last one padded with zero rows."""
        k = self.settings.segment
        padded = functional.pad(hidden, (0, 0, 0, -hidden.shape[1] % k))
        return padded.unflatten(1, (-1, k))

    def carried(self, hidden: Float[Tensor, "batch k dim"], state: State | None = None) -> State:
        """The state after one full segment."""
        state = self.block.initial_state(hidden.shape[0]) if state is None else state
        return self.block.carry(self.block.terms(hidden, state), state)

    def corrected(
        self,
        output: Float[Tensor, "batch length dim"],
        correction: Correction,
        gate: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch length dim"]:
        """User states from O computed with a correction. With fusion `shift`, adds row t of `b`.

        The shift is added after the last normalisation, which would otherwise change its size.
        """
        states = self.user_state(output)
        if self.settings.fusion == "moments" or "bias" not in self.block.corrected:
            return states
        rows = correction.bias.transpose(1, 2).flatten(2)  # (batch * segments, K, D)
        shift = rows.unflatten(0, (len(output), -1)).flatten(1, 2)[:, : output.shape[1]]
        return states + (shift if gate is None else gate[:, None, None] * shift)

    def user_state(self, output: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """The user state from O: candidates are scored against it."""
        out: Tensor = self.output_norm(output)
        return out

    def item_vectors(self, items: Int[Tensor, "*n"]) -> Float[Tensor, "*n dim"]:
        """Vectors of candidates: through the tower, or the embeddings themselves (Eq. 12)."""
        rows = functional.embedding(items, self.item_embedding)
        return rows if self.target is None else self.target(rows)

    def catalogue(self) -> Float[Tensor, "items dim"]:
        """Vectors of all items as candidates; row i is item i + 1."""
        rows = self.item_embedding[1:]
        return rows if self.target is None else self.target(rows)
