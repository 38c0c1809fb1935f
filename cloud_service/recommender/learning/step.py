"""One training step of a patch: sampled softmax over own clicks, its gradient, Adam.

The same code runs in the cloud's experiments and, exported, in ONNX Runtime on a device
(`export/learning_graphs.py`). Optimiser state goes in and comes out: a step remembers nothing.
"""

from typing import Final, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cloud_service.recommender.learning.patch import MetapatchBasis, PatchedSCN, ResidualMap
from cloud_service.recommender.models.scn import SCN
from shared.learning import BETAS


class StepState(NamedTuple):
    """A patch and its optimiser's moments."""

    patch: Float[Tensor, "*batch size"]
    first: Float[Tensor, "*batch size"]
    second: Float[Tensor, "*batch size"]


class ShiftScores(nn.Module):
    """Scores of positives and negatives under a shift of the user state.

    A shift adds the same number to an item's score whatever the state, so the unpatched scores
    are computed once for all steps of a round.
    """

    inputs: Final = ("positive_scores", "negative_scores")

    def forward(
        self,
        patch: Float[Tensor, " dim"],
        positives: Float[Tensor, "n dim"],
        negatives: Float[Tensor, "m dim"],
        positive_scores: Float[Tensor, " n"],
        negative_scores: Float[Tensor, "n m"],
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n m"]]:
        """Patched scores, of each positive and of all negatives for each."""
        # Columns, not vectors: ONNX Runtime 1.31 fuses the transposed product of a matrix and a
        # vector in the gradient into one that gives other numbers.
        column = patch.unsqueeze(-1)
        positive = positive_scores.unsqueeze(-1) + positives @ column
        return positive.squeeze(-1), negative_scores + (negatives @ column).transpose(0, 1)

    def loss_and_gradient(
        self,
        patch: Float[Tensor, " dim"],
        weights: Float[Tensor, " n"],
        positives: Float[Tensor, "n dim"],
        negatives: Float[Tensor, "m dim"],
        positive_scores: Float[Tensor, " n"],
        negative_scores: Float[Tensor, "n m"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " dim"]]:
        """`sampled_loss` and its gradient, written out: half the time of what is traced.

        Everything of one number a click is a row, (1, n): products with rows are ONNX Runtime's
        fastest.
        """
        row = patch.unsqueeze(0)
        positive = positive_scores.unsqueeze(0) + row @ positives.transpose(0, 1)
        negative = negative_scores + row @ negatives.transpose(0, 1)
        highest = torch.maximum(positive, negative.amax(-1).unsqueeze(0))
        weight = (negative - highest.transpose(0, 1)).exp()
        own = (positive - highest).exp()
        total = own + weight.sum(-1).unsqueeze(0)
        share = (weights / weights.sum()).unsqueeze(0)
        per_click = share / total
        gradient = (per_click @ weight) @ negatives + (per_click * own - share) @ positives
        return ((total.log() + highest - positive) * share).sum(), gradient.squeeze(0)


class StateMapScores(nn.Module):
    """The same under a metapatch at the user state alone."""

    inputs: Final = ("states", "positive_offsets", "negative_offsets")

    def __init__(self, basis: MetapatchBasis) -> None:
        super().__init__()
        self.basis = basis

    def forward(
        self,
        patch: Float[Tensor, " size"],
        positives: Float[Tensor, "n dim"],
        negatives: Float[Tensor, "m dim"],
        states: Float[Tensor, "n dim"],
        positive_offsets: Float[Tensor, " n"],
        negative_offsets: Float[Tensor, "n m"],
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n m"]]:
        """Patched scores; the offsets are added to them."""
        mapped = self.basis.maps(patch.unsqueeze(0))["state"].apply(states.unsqueeze(0)).squeeze(0)
        positive = (mapped * positives).sum(-1) + positive_offsets
        return positive, mapped @ negatives.T + negative_offsets


class MetapatchScores(nn.Module):
    """The same under any metapatch: every step computes the states of all windows again."""

    inputs: Final = ("hidden", "is_last", "positive_offsets", "negative_offsets")

    def __init__(self, scn: SCN, basis: MetapatchBasis) -> None:
        super().__init__()
        self.patched, self.basis = PatchedSCN(scn), basis

    def forward(
        self,
        patch: Float[Tensor, " size"],
        positives: Float[Tensor, "n dim"],
        negatives: Float[Tensor, "m dim"],
        hidden: Float[Tensor, "n k dim"],
        is_last: Float[Tensor, "n k"],
        positive_offsets: Float[Tensor, " n"],
        negative_offsets: Float[Tensor, "n m"],
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n m"]]:
        """Patched scores; the offsets are added to them."""
        maps = {
            junction: ResidualMap(residual.matrix.squeeze(0), residual.bias.squeeze(0))
            for junction, residual in self.basis.maps(patch.unsqueeze(0)).items()
        }
        states = self.patched(hidden, is_last, maps)
        positive = (states * positives).sum(-1) + positive_offsets
        return positive, states @ negatives.T + negative_offsets


def sampled_loss(
    positive: Float[Tensor, "*batch n"],
    negative: Float[Tensor, "*batch n m"],
    weights: Float[Tensor, "*batch n"],
) -> Float[Tensor, "*batch"]:
    """Cross-entropy of each positive among the negatives, averaged by weight.

    Log-softmax and mean are written out: `cross_entropy` inside an exported gradient is too large
    by the batch size.
    """
    highest = torch.maximum(positive, negative.amax(-1)).detach()
    total = (positive - highest).exp() + (negative - highest.unsqueeze(-1)).exp().sum(-1)
    losses = total.log() + highest - positive
    return (losses * weights).sum(-1) / weights.sum(-1)


PatchScores = ShiftScores | StateMapScores | MetapatchScores


class TrainingStep(nn.Module):
    """Loss, gradient and Adam update of one patch."""

    def __init__(self, scores: PatchScores) -> None:
        super().__init__()
        self.scores = scores

    def loss(
        self,
        patch: Float[Tensor, " size"],
        start: Float[Tensor, " size"],
        decay: Float[Tensor, ""],
        weights: Float[Tensor, " n"],
        *batch: Tensor,
    ) -> Float[Tensor, ""]:
        """The loss on a batch, and `decay` times half the squared distance from `start`."""
        positive, negative = self.scores(patch, *batch)
        loss = sampled_loss(positive, negative, weights)
        return loss + 0.5 * decay * (patch - start).square().sum()

    def forward(
        self,
        patch: Float[Tensor, " size"],
        first: Float[Tensor, " size"],
        second: Float[Tensor, " size"],
        start: Float[Tensor, " size"],
        rate: Float[Tensor, ""],
        epsilon: Float[Tensor, ""],
        decay: Float[Tensor, ""],
        weights: Float[Tensor, " n"],
        *batch: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The next patch and moments, and the loss before the step.

        `rate` and `epsilon` hold Adam's corrections for the first steps (`shared.learning.
        adam_factors`); `weights` are 0 for padding.
        """
        if isinstance(self.scores, ShiftScores):
            loss, gradient = self.scores.loss_and_gradient(patch, weights, *batch)
            away = patch - start
            loss = loss + 0.5 * decay * (away * away).sum()
            gradient = gradient + decay * away
        else:
            of = torch.func.grad_and_value(self.loss)
            gradient, loss = of(patch, start, decay, weights, *batch)
        return *adam(StepState(patch, first, second), gradient, rate, epsilon), loss


def adam(
    state: StepState,
    gradient: Float[Tensor, "*batch size"],
    rate: Float[Tensor, ""] | float,
    epsilon: Float[Tensor, ""] | float,
) -> StepState:
    """One update (Kingma and Ba, ICLR 2015), its corrections in `rate` and `epsilon`."""
    beta1, beta2 = BETAS
    first = beta1 * state.first + (1 - beta1) * gradient
    second = beta2 * state.second + (1 - beta2) * gradient * gradient
    return StepState(state.patch - rate * first / (second.sqrt() + epsilon), first, second)
