"""Losses: full softmax over the catalogue, and binary cross-entropy with sampled negatives."""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

_LN2 = math.log(2)
_CPU_SCORES = 1 << 20
"""Scores held at once on a CPU: 4 MB stay in its cache."""
_GPU_SCORES = 1 << 28


class _FullSoftmax(torch.autograd.Function):
    """Cross-entropy of `states @ vectors.T`, a few rows at a time, gradients on the way.

    The whole score matrix is never in memory. On a CPU that is 2 to 3 times as fast as
    `cross_entropy` of the product, because it is the memory that such a loss waits for.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, vectors: Tensor, targets: Tensor) -> Tensor:
        count = len(states)
        limit = _CPU_SCORES if states.device.type == "cpu" else _GPU_SCORES
        rows = max(16, limit // len(vectors))
        total = states.new_zeros(())
        of_states, of_vectors = torch.empty_like(states), torch.zeros_like(vectors)
        scores = states.new_empty(min(rows, count), len(vectors))
        for at in range(0, count, rows):
            batch, positives = states[at : at + rows], targets[at : at + rows, None]
            # In powers of 2, which a CPU raises several times as fast as powers of e.
            score = torch.mm(batch / _LN2, vectors.T, out=scores[: len(batch)])
            largest, positive = score.amax(1, keepdim=True), score.gather(1, positives)
            share = score.sub_(largest).exp2_()
            mass = share.sum(1, keepdim=True)
            total += (mass.log2() + largest - positive).sum()
            # Divided by its mass where it is 64 wide, not where it is as wide as the catalogue.
            torch.mm(share, vectors, out=of_states[at : at + rows]).div_(mass)
            of_vectors.addmm_(share.T, batch / mass)
        of_states -= vectors[targets]
        of_vectors.index_add_(0, targets, states, alpha=-1)
        ctx.save_for_backward(of_states.div_(count), of_vectors.div_(count))
        return total * _LN2 / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        of_states, of_vectors = ctx.saved_tensors
        return of_states * gradient, of_vectors * gradient, None


def full_softmax(
    states: Float[Tensor, "n dim"], vectors: Float[Tensor, "items dim"], targets: Int[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy over the whole catalogue: CoCorrRec's loss (Eq. 12 and 16).

    `vectors` holds item i + 1 in row i, `targets` are item numbers from 1.
    """
    loss: Tensor = _FullSoftmax.apply(states, vectors, targets - 1)
    return loss


def sampled_bce(scores: Float[Tensor, "n count"]) -> Float[Tensor, ""]:
    """Binary cross-entropy of a positive, column 0, and sampled negatives: the released code's."""
    positives = torch.zeros_like(scores)
    positives[:, 0] = 1.0
    return functional.binary_cross_entropy_with_logits(scores, positives)


def sampled_softmax(scores: Float[Tensor, "n count"]) -> Float[Tensor, ""]:
    """Cross-entropy of a positive, column 0, among sampled negatives."""
    return functional.cross_entropy(scores, scores.new_zeros(len(scores), dtype=torch.int64))
