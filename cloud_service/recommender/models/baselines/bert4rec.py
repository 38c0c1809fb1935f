"""BERT4Rec (Sun et al., CIKM 2019): a transformer that looks both ways, trained by cloze.

In training some clicks of a sequence are replaced by a mask, and the state at each mask predicts
the hidden click. To rank, a mask is appended after the last click.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.recommender.models.baselines.parts import prefixes
from cloud_service.recommender.models.recommender import Tied, item_table, look_up

MASKED = 0.25
"""Share of clicks hidden in training."""
LAST_ALONE = 0.5
"""Share of sequences in which only the last click is hidden, as in ranking."""
_EXPANSION = 4


class CrossBlock(nn.Module):
    """Self-attention over all clicks and a two-layer MLP, each added to its input, then a norm."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.project, self.merge = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.first, self.second = nn.Linear(dim, _EXPANSION * dim), nn.Linear(_EXPANSION * dim, dim)
        self.attention_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(
        self, x: Float[Tensor, "batch length dim"], filled: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length dim"]:
        share = self.dropout if self.training else 0.0
        qkv = self.project(x).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (batch, heads, length, width) each
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=filled[:, None, None], dropout_p=share
        )
        mixed = self.merge(mixed.transpose(1, 2).flatten(2))
        x = self.attention_norm(x + functional.dropout(mixed, share))
        inner = self.second(functional.gelu(self.first(x)))
        out: Tensor = self.mlp_norm(x + functional.dropout(inner, share))
        return out


class BERT4Rec(Tied):
    """Item embedding (V+1, D), a vector for the mask, learned positions, post-norm blocks, a head.

    The item embedding also scores. Differs from the paper: no bias for an item, a quarter of the
    clicks hidden for all data sets, and half of the sequences hide only their last click, instead
    of a second pass over all sequences.
    """

    def __init__(
        self, items: int, *, length: int, dim: int, heads: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.items, self.length, self.dropout = items, length, dropout
        self.mask = items + 1
        """The item number that stands for a hidden click."""
        self.item_embedding = item_table(items, dim)
        self.mask_embedding = nn.Parameter(torch.randn(dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(length + 1, dim) * 0.02)
        self.norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(CrossBlock(dim, heads, dropout) for _ in range(layers))
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim))

    def examples(
        self, clicks: Int[Tensor, "batch length"], targets: Int[Tensor, "batch length"]
    ) -> tuple[Int[Tensor, "batch length2"], Int[Tensor, "batch length2"]]:
        """Joins clicks and their last target, and hides some clicks, which become the targets.

        Every sequence hides at least one click: the last one if none was drawn.
        """
        sequence = self._append(clicks, targets.gather(1, _last_position(clicks)).squeeze(1))
        hidden = (torch.rand(sequence.shape, device=sequence.device) < MASKED) & (sequence > 0)
        alone = torch.rand(len(sequence), 1, device=sequence.device) < LAST_ALONE
        last_click = torch.zeros_like(hidden).scatter(1, _last_position(sequence), True)
        hidden = torch.where(alone | ~hidden.any(1, keepdim=True), last_click, hidden)
        return sequence.masked_fill(hidden, self.mask), sequence.masked_fill(~hidden, 0)

    def training_states(
        self, clicks: Int[Tensor, "batch length2"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length2 dim"]:
        """The state at every position of a sequence with hidden clicks. `users` is not read."""
        masked = clicks == self.mask
        rows = look_up(self.item_embedding, clicks.masked_fill(masked, 0))
        rows = rows + masked.unsqueeze(-1) * self.mask_embedding
        x = self.norm(rows + self.positions[: clicks.shape[1]])
        x = functional.dropout(x, self.dropout, self.training)
        for block in self.blocks:
            x = block(x, clicks > 0)
        out: Tensor = self.head(x)
        return out

    def states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length dim"]:
        """The state after every click; each needs a pass of its own, with the mask after it."""
        seen = prefixes(clicks).unbind(1)
        return torch.stack([self.last_states(prefix, users) for prefix in seen], dim=1)

    def last_states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """The state at a mask appended after the last click."""
        sequence = self._append(clicks, torch.full_like(clicks[:, 0], self.mask))
        states = self.training_states(sequence, users)
        rows = torch.arange(len(sequence), device=sequence.device)
        return states[rows, _last_position(sequence).squeeze(1)]

    @staticmethod
    def _append(
        clicks: Int[Tensor, "batch length"], extra: Int[Tensor, " batch"]
    ) -> Int[Tensor, "batch length2"]:
        """Appends one item after the last click of each sequence, which grows by one."""
        count = (clicks > 0).sum(1, keepdim=True)
        return functional.pad(clicks, (0, 1)).scatter(1, count, extra.unsqueeze(1))


def _last_position(clicks: Int[Tensor, "batch length"]) -> Int[Tensor, "batch 1"]:
    """The position of the last click (0 if there is none)."""
    return ((clicks > 0).sum(1, keepdim=True) - 1).clamp_min(0)
