"""Assembles a teacher-fitted GCN and fits the weights of its teachers (stacking)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from cloud_service.recommender.data.clicks import Split, recent
from cloud_service.recommender.models.cocorrrec import ProjectedCoCorrRec
from cloud_service.recommender.models.recommender import Recommender
from cloud_service.recommender.ranking.evaluate import validation_ndcg
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.build import build

USERS: Final = 5000
"""Most validation clicks that the weights are fitted on."""
TRIED: Final = 2000
"""Most validation clicks that each sharpness is tried on."""
SHARPNESSES: Final = (0.5, 1.0, 2.0, 4.0)
_ITEMS: Final = 1000
_BATCH: Final = 128
_ROUNDS: Final = 30


def assemble(
    split: Split, recipe: TrainingRecipe, models: Sequence[Recommender]
) -> ProjectedCoCorrRec:
    """SCN and teacher-fitted GCN from the models of `stages(recipe)`, in that order."""
    assembled = build(split, recipe, fit=False)
    assert isinstance(assembled, ProjectedCoCorrRec)
    gcn = assembled.gcn
    device = next(models[0].parameters()).device
    assembled.scn.load_state_dict(models[0].state_dict())
    for teacher, trained in zip(gcn.teachers, models[1:], strict=True):
        teacher.load_state_dict(trained.state_dict())
    assembled.to(device).eval()
    fit_gcn(assembled, split)
    return assembled


def fit_gcn(model: ProjectedCoCorrRec, split: Split) -> None:
    """Fits a teacher-fitted GCN on validation clicks: the weight of each teacher, and the sharpness
    with which the best items outweigh the next."""
    gcn = model.gcn
    gcn.blend.fill_(
        1 / len(gcn.blend)
    )  # the fit uses the items that the unweighted mean ranks best
    gcn.blend.copy_(fit_stacking_weights(model, split))
    users = split.train_users
    if len(users) > TRIED:
        users = np.sort(np.random.default_rng(0).choice(users, TRIED, replace=False))
    reached = {}
    for value in SHARPNESSES:
        gcn.sharpness.fill_(value)
        reached[value] = validation_ndcg(model, replace(split, train_users=users))
    gcn.sharpness.fill_(max(reached, key=lambda candidate: reached[candidate]))


@torch.no_grad()
def fit_stacking_weights(model: ProjectedCoCorrRec, split: Split) -> Tensor:
    """Weights (1 + teachers,) of the logits that maximise the likelihood of validation clicks.

    Stacking (Wolpert, 1992) among the items that the unweighted mean ranks best. The likelihood
    is concave in the weights, so Newton's method finds the maximum. No weight is negative.
    """
    features, targets = _examples(model, split)
    weights = torch.full((features.shape[1],), 1 / features.shape[1], dtype=torch.float64)
    for _ in range(_ROUNDS):
        gradient, curvature = torch.zeros_like(weights), torch.zeros(len(weights), len(weights))
        curvature = curvature.double()
        for batch, row in zip(features.split(_BATCH), targets.split(_BATCH), strict=True):
            batch = batch.double()
            share = torch.einsum("nmi,m->ni", batch, weights).softmax(1)
            mean = torch.einsum("nmi,ni->nm", batch, share)
            chosen = batch.gather(2, row[:, None, None].expand(-1, batch.shape[1], 1)).squeeze(2)
            gradient += (chosen - mean).sum(0)
            curvature += torch.einsum("nmi,ni,nki->mk", batch, share, batch) - mean.T @ mean
        curvature += 1e-3 * len(features) * torch.eye(len(weights), dtype=torch.float64)
        step = torch.linalg.solve(curvature, gradient)
        weights = (weights + step.clamp(-0.5, 0.5)).clamp_min(0)
        if float(step.abs().max()) < 1e-3:
            break
    return weights.float()


def _examples(model: ProjectedCoCorrRec, split: Split) -> tuple[Tensor, Tensor]:
    """Logits (n, 1 + teachers, items) of the best items, and the index of the target (n,).

    Users whose validation click is not among their best items are left out.
    """
    gcn, positions = model.gcn, split.validation_positions
    chosen = np.random.default_rng(0).permutation(len(positions))[:USERS]
    count = min(_ITEMS, model.items)
    device = model.scn.item_embedding.device
    features, target_indices = [], []
    for at in range(0, len(chosen), _BATCH):
        rows = chosen[at : at + _BATCH]
        clicks = torch.from_numpy(
            recent(split.log.items, split.starts[rows], positions[rows], model.length)
        ).to(device, torch.int64)
        targets = torch.from_numpy(split.log.items[positions[rows]] - 1).to(device, torch.int64)
        hidden = model.scn.segments(model.scn.hidden(clicks)).flatten(0, 1)
        clicked = gcn.clicks(hidden)
        scores = gcn.scores(gcn.local_state(hidden), clicked)
        best = gcn.targets(scores, clicked).topk(count, dim=1).indices
        hits = best == targets[:, None]
        ranked = hits.any(1)
        picked = torch.stack([candidate.gather(1, best) for candidate in scores], dim=1)
        features.append(picked[ranked].cpu())
        target_indices.append(hits[ranked].int().argmax(1).cpu())
    return torch.cat(features), torch.cat(target_indices)
