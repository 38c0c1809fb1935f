"""The deep interest network (DIN)."""

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from cloud_service.recommender.models.baselines.parts import (
    PrefixRecommender,
    block_of,
    projected,
    row_dropout,
    size_for,
)
from cloud_service.recommender.models.recommender import item_table, look_up

_ROWS = {"cpu": 128, "cuda": 4096}
"""States scored together; the attention has clicks times `width` hidden values per pair."""

_TOGETHER = {"cpu": 8, "cuda": 4096}
"""States whose attention matrices are in memory at once in training."""

_RANKED = {"cpu": 1, "cuda": 16}
"""States for which all items are scored together."""


class DIN(PrefixRecommender):
    """Each candidate attends to the clicks with its own weights (Zhou et al., KDD 2018).

    A click k's weight for a candidate q is an MLP of [q, k, q - k, q * k], not normalised over the
    clicks; the weighted sum u of the clicks and the candidate go through a second MLP with PReLU,
    one of the two activations the paper tries (Dice needs statistics of a batch). An item has a
    bias, as in the authors' code.

    Fields: the window's clicks and the candidate. Differs from the paper: there is no user profile
    and no context, which a click log does not have; the attention has one hidden layer; the second
    MLP also reads u * q, a product that it would hardly learn; an embedding of a click's position,
    counted from the newest, is added, since DIN ignores order, which matters for next clicks; and
    the loss ranks the next click, because the log does not contain what was displayed.
    """

    def __init__(self, items: int, *, length: int, dim: int, layers: int, dropout: float) -> None:
        """`dropout` acts on the embeddings of the clicks and after each layer of the MLP."""
        super().__init__()
        self.items, self.length, self.dropout = items, length, dropout
        self.width = max(8, dim // 4)
        self.item_embedding = item_table(items, dim)
        self.item_bias = nn.Parameter(torch.zeros(items + 1))
        self.place = nn.Parameter(torch.randn(length, dim) * 0.02)
        self.attention = nn.Linear(4 * dim, self.width)
        self.attention_slope = nn.Parameter(torch.tensor(0.25))
        self.attention_out = nn.Linear(self.width, 1)
        # The first layer over [u, q, u * q], split into three.
        self.of_interest = nn.Linear(dim, dim, bias=False)
        self.of_item = nn.Linear(dim, dim)
        self.of_both = nn.Linear(dim, dim, bias=False)
        widths = [max(4, dim >> layer) for layer in range(layers)]
        self.later = nn.ModuleList(
            nn.Linear(width_in, width_out) for width_in, width_out in pairwise(widths)
        )
        self.slopes = nn.Parameter(torch.full((layers,), 0.25))
        self.out = nn.Linear(widths[-1], 1, bias=False)

    def score(
        self, states: Int[Tensor, "n length"], candidates: Int[Tensor, "n count"]
    ) -> Float[Tensor, "n count"]:
        """A score for each candidate, from the clicks it attends to."""
        bias = self.item_bias[candidates]
        if not self.training:
            return bias + self._scores(states, candidates)
        # Sorted by number of clicks, so that padding, half of all positions, can be cut off.
        order = (states > 0).sum(1).argsort()
        return bias + self._scores(states[order], candidates[order])[order.argsort()]

    def _scores(
        self, states: Int[Tensor, "n length"], candidates: Int[Tensor, "n count"]
    ) -> Float[Tensor, "n count"]:
        vectors = look_up(self.item_embedding, candidates)
        firsts = projected(self.of_item, self.item_embedding, candidates, self.training)
        rows = size_for(_ROWS, states)
        split = (tensor.split(rows) for tensor in (states, vectors, firsts))
        chunk_scores = []
        for clicks, *items in zip(*split, strict=True):
            used = clicks[:, : _longest(clicks)] if self.training else clicks
            chunk_scores.append(self._logits(used, *items))
        return torch.cat(chunk_scores)

    def score_all(self, states: Int[Tensor, "n length"]) -> Float[Tensor, "n items"]:
        """A score for every item of the catalogue; column i is item i + 1.

        Computed for some rows and a block of items at a time, without the rows' padding.
        """
        table = self.item_embedding[None, 1:]
        firsts, chunk_scores = self.of_item(table), []
        for clicks in states.split(size_for(_RANKED, states)):
            count = len(clicks)
            used = clicks[:, : _longest(clicks)]
            block = block_of(table, count * used.shape[1] * self.width)
            blocks = zip(
                table.expand(count, -1, -1).split(block, dim=1),
                firsts.expand(count, -1, -1).split(block, dim=1),
                strict=True,
            )
            chunk_scores.append(torch.cat([self._logits(used, *items) for items in blocks], dim=1))
        return self.item_bias[1:] + torch.cat(chunk_scores)

    def weights(
        self,
        clicks: Float[Tensor, "n length dim"],
        filled: Bool[Tensor, "n length"],
        candidates: Float[Tensor, "n count dim"],
    ) -> Float[Tensor, "n count length"]:
        """The attention weight of each click for each candidate; 0 for padding.

        For fixed k, W [q, k, q - k, q * k] + b is linear in q. The hidden values of all clicks are
        therefore one product of q with a matrix made from k, and the concatenation of every pair
        is never in memory.
        """
        of_q, of_k, of_difference, of_product = self.attention.weight.chunk(4, dim=1)
        constant = clicks @ (of_k - of_difference).T + self.attention.bias
        operands = clicks, candidates, constant.flatten(1), of_q + of_difference, of_product
        # The custom gradient cannot be exported to ONNX, and ranking does not need it.
        hidden: Tensor = _Hidden.apply(*operands) if self.training else _hidden(*operands)
        hidden = functional.prelu(hidden, self.attention_slope).unflatten(2, (-1, self.width))
        weights = hidden @ self.attention_out.weight[0] + self.attention_out.bias
        return weights * filled[:, None]

    def _logits(
        self,
        clicks: Int[Tensor, "n length"],
        candidates: Float[Tensor, "n count dim"],
        firsts: Float[Tensor, "n count dim"],
    ) -> Float[Tensor, "n count"]:
        """The MLP's output; `firsts` is the candidates' contribution to its first layer."""
        keys, filled = self._keys(clicks)
        weights = self.weights(keys, filled, candidates)
        x = weights @ self.of_interest(keys) + firsts + self.of_both((weights @ keys) * candidates)
        for layer, slope in zip((nn.Identity(), *self.later), self.slopes, strict=True):
            x = functional.prelu(layer(x), slope)
            x = row_dropout(x, self.dropout, self.training)
        return self.out(x).squeeze(-1)

    def _keys(
        self, clicks: Int[Tensor, "n length"]
    ) -> tuple[Float[Tensor, "n length dim"], Bool[Tensor, "n length"]]:
        """The clicks' vectors with their position embeddings, and a mask of the clicks."""
        filled = clicks > 0
        count = filled.sum(1, keepdim=True)
        # The newest click has position 0.
        age = count - 1 - torch.arange(clicks.shape[1], device=clicks.device)
        rows = look_up(self.item_embedding, clicks) + self.place[age.clamp_min(0)]
        keys = functional.dropout(rows * filled[..., None], self.dropout, self.training)
        return keys, filled


def _hidden(
    clicks: Float[Tensor, "n length dim"],
    candidates: Float[Tensor, "n count dim"],
    constant: Float[Tensor, "n hidden"],
    of_q: Float[Tensor, "width dim"],
    of_product: Float[Tensor, "width dim"],
) -> Float[Tensor, "n count hidden"]:
    """The hidden values of all pairs of click and candidate, hidden = length * width."""
    matrix = _matrix(clicks, of_q, of_product)
    return torch.baddbmm(constant[:, None], candidates, matrix.flatten(1, 2).transpose(1, 2))


def _matrix(clicks: Tensor, of_q: Tensor, of_product: Tensor) -> Tensor:
    return torch.addcmul(of_q, clicks[:, :, None], of_product)


class _Hidden(torch.autograd.Function):
    """`_hidden` for a few rows at a time, with its own gradient.

    The matrices of a few rows stay in a core's cache and are recomputed in the backward pass. A
    training step on a CPU takes 0.6 times as long.
    """

    @staticmethod
    def forward(
        ctx: Any,
        clicks: Tensor,
        candidates: Tensor,
        constant: Tensor,
        of_q: Tensor,
        of_product: Tensor,
    ) -> Tensor:
        ctx.rows = size_for(_TOGETHER, clicks)
        ctx.save_for_backward(clicks, candidates, of_q, of_product)
        chunks = (tensor.split(ctx.rows) for tensor in (clicks, candidates, constant))
        return torch.cat(
            [_hidden(k, q, bias, of_q, of_product) for k, q, bias in zip(*chunks, strict=True)]
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        clicks, candidates, of_q, of_product = ctx.saved_tensors
        width, dim = of_q.shape
        of_clicks, of_candidates = torch.empty_like(clicks), torch.empty_like(candidates)
        sums = of_q.new_zeros(2, 1, width * dim)
        for at in range(0, len(clicks), ctx.rows):
            rows_of_chunk = slice(at, at + ctx.rows)
            chunk_clicks, chunk_gradient = clicks[rows_of_chunk], gradient[rows_of_chunk]
            matrix = _matrix(chunk_clicks, of_q, of_product).flatten(1, 2)
            torch.bmm(chunk_gradient, matrix, out=of_candidates[rows_of_chunk])
            of_matrix = torch.bmm(
                chunk_gradient.transpose(1, 2), candidates[rows_of_chunk]
            ).unflatten(1, (-1, width))
            torch.sum(of_matrix * of_product, 2, out=of_clicks[rows_of_chunk])
            rows = of_matrix.view(-1, width * dim)
            ones_row = rows.new_ones(1, len(rows))
            # As a matrix product, because a sum over rows is limited by memory bandwidth.
            sums[0].addmm_(ones_row, rows)
            of_matrix.mul_(chunk_clicks[:, :, None])
            sums[1].addmm_(ones_row, rows)
        of_q, of_product = sums.view(2, width, dim)
        return of_clicks, of_candidates, gradient.sum(1), of_q, of_product


def _longest(clicks: Int[Tensor, "n length"]) -> int:
    """The largest number of clicks in a row, at least 1."""
    return max(1, int((clicks > 0).sum(1).max()))
