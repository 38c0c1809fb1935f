"""A causal transformer: pre-norm blocks, learned positions (SASRec's encoder and a GCN's trunk)."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.recommender.models.residual import EXPANSION


class CausalBlock(nn.Module):
    """Self-attention over earlier clicks and a two-layer MLP, each added to its input."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.project, self.merge = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.first, self.second = nn.Linear(dim, EXPANSION * dim), nn.Linear(EXPANSION * dim, dim)

    def forward(self, x: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length dim"]:
        share = self.dropout if self.training else 0.0
        qkv = self.project(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (batch, heads, length, width) each
        # No dropout on attention weights: a CPU has no fused kernel with it, and a step over 200
        # clicks would take twice as long.
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        mixed = self.merge(mixed.transpose(1, 2).flatten(2))
        x = x + functional.dropout(mixed, share)
        inner = functional.dropout(functional.gelu(self.first(self.mlp_norm(x))), share)
        return x + functional.dropout(self.second(inner), share)


class CausalTransformer(nn.Module):
    """Blocks over clicks with learned positions, normalised at the end."""

    def __init__(self, length: int, dim: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.positions = nn.Embedding(length, dim)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.blocks = nn.ModuleList(CausalBlock(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length dim"]:
        x = x + self.positions.weight[: x.shape[1]]
        x = functional.dropout(x, self.dropout, self.training)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out
