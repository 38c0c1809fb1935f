"""MoMoDistill (DCCL, KDD 2021): the backbone learns from the patched models of many devices.

    loss = cross-entropy + beta * KL(patched model of the user || backbone), on the user's samples

Patches come from devices and may be hostile. Each is clipped to a few times the median norm,
which fewer than half of them cannot move; one that is not finite is left out.
"""

import hashlib
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cloud_service.recommender.learning.basis import batches
from cloud_service.recommender.learning.events import Events, Int64
from cloud_service.recommender.learning.metapatches import patched_states, windows_before
from cloud_service.recommender.learning.patch import MetapatchBasis, PatchedSCN
from cloud_service.recommender.models.scn import SCN

_LEFT_OUT = -1e9
"""Score of an item that rankings leave out; finite, as 0 times infinity is no divergence."""


@dataclass(frozen=True)
class DistillSettings:
    """How a backbone is distilled.

    Attributes:
        beta: weight of the divergence from the patched models; 0 only trains on.
        norm_limit: largest norm of a patch, in medians of all patches' norms.
        average: how much of their moving average the weights keep at a step.
        most: events that one epoch reads.
    """

    beta: float = 1.0
    rate: float = 3e-4
    weight_decay: float = 0.1
    epochs: int = 2
    batch: int = 256
    most: int = 50_000
    norm_limit: float = 2.0
    average: float = 0.99


@dataclass(frozen=True)
class Lineage:
    """Where a distilled backbone comes from.

    Attributes:
        parent: sha256 of the parent's weights, in hex.
        turn: the round, from 1.
        patches: patches that taught it.
        clipped: how many of them were clipped.
        refused: patches that were left out because they were not finite.
    """

    parent: str
    turn: int
    beta: float
    patches: int
    clipped: int
    refused: int


@dataclass(frozen=True, eq=False)
class Clipped:
    """Patches that may teach: (users, size), whether each does (users,), how many were clipped."""

    patches: Float[Tensor, "users size"]
    teaches: Tensor
    count: int


def clip_patches(patches: Float[Tensor, "users size"], norm_limit: float) -> Clipped:
    """Clips patches to `norm_limit` medians of their norms; zero and not finite ones teach nobody.

    A zero patch is that of a device that has not learned.
    """
    norms = patches.double().norm(dim=1)  # squares of large floats are still finite
    teaches = patches.isfinite().all(1) & (norms > 0)
    if not bool(teaches.any()):
        return Clipped(torch.zeros_like(patches), teaches, 0)
    limit = norm_limit * norms[teaches].median()
    scale = torch.where(norms > limit, limit / norms, 1.0)
    kept = torch.where(teaches.unsqueeze(1), patches * scale.float().unsqueeze(1), 0.0)
    return Clipped(kept, teaches, int((teaches & (norms > limit)).sum()))


def distill(
    scn: SCN,
    basis: MetapatchBasis,
    events: Events,
    chosen: Int64,
    patches: Float[Tensor, "users size"],
    settings: DistillSettings,
    *,
    turn: int = 1,
    seed: int = 0,
) -> tuple[SCN, Lineage]:
    """A new SCN of the same settings, trained on some events from the weights of `scn`.

    The states of `events` are those of `scn`; the patch of user u is row u. Raises ValueError for
    a model with a candidate tower, whose item vectors are not those of the events.
    """
    if scn.target is not None:
        raise ValueError("distillation needs tied scoring: a tower has other item vectors")
    torch.manual_seed(seed)
    teacher = deepcopy(scn).eval().requires_grad_(requires_grad=False)
    frozen = deepcopy(basis).requires_grad_(requires_grad=False)
    student = deepcopy(scn).train()
    averaged = AveragedModel(
        student,
        multi_avg_fn=get_ema_multi_avg_fn(settings.average),  # type: ignore[no-untyped-call]
    )
    optimiser = torch.optim.AdamW(
        student.parameters(), lr=settings.rate, weight_decay=settings.weight_decay
    )
    clipped = clip_patches(patches, settings.norm_limit)
    random = np.random.default_rng(seed)
    chosen = chosen[events.places[chosen] > 0]
    for part in batches(
        chosen, random, epochs=settings.epochs, batch=settings.batch, most=settings.most
    ):
        log_share = _log_shares(events, part, _states(student, events, part), student.catalogue())
        loss = functional.nll_loss(log_share, events.targets[part] - 1)
        if settings.beta > 0:
            users = torch.from_numpy(events.users[part])
            with torch.no_grad():
                states = patched_states(teacher, frozen, events, part, clipped.patches[users])
                taught = _log_shares(events, part, states, events.catalogue)
            divergence = (taught.exp() * (taught - log_share)).sum(1)
            loss = loss + settings.beta * (divergence * clipped.teaches[users]).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimiser.step()
        averaged.update_parameters(student)
    made = deepcopy(averaged.module).eval()
    assert isinstance(made, SCN)
    refused = int((~patches.isfinite().all(1)).sum())
    lineage = Lineage(
        weights_digest(scn), turn, settings.beta, int(clipped.teaches.sum()), clipped.count, refused
    )
    return made, lineage


def weights_digest(scn: SCN) -> str:
    """The sha256 of a model's weights, in hex."""
    sha256 = hashlib.sha256()
    for name, tensor in scn.state_dict().items():
        sha256.update(name.encode())
        sha256.update(tensor.cpu().contiguous().numpy().tobytes())
    return sha256.hexdigest()


def _states(scn: SCN, events: Events, chosen: Int64) -> Float[Tensor, "chosen dim"]:
    """Unpatched states before some events, with the SCN's dropout while it trains."""
    hidden, is_last = windows_before(scn, events, chosen)
    hidden = functional.dropout(hidden, scn.dropout, scn.training)
    states: Tensor = PatchedSCN(scn)(hidden, is_last, {})
    return states


def _log_shares(
    events: Events,
    chosen: Int64,
    states: Float[Tensor, "chosen dim"],
    catalogue: Float[Tensor, "items dim"],
) -> Float[Tensor, "chosen items"]:
    """Log of the softmax over the items that rankings show, and the clicked one."""
    scores = states @ catalogue.T
    if events.seen_left_out:
        rows, columns = (torch.from_numpy(index) for index in events.history(chosen))
        is_target = columns == events.targets[chosen][rows] - 1
        mask = torch.zeros_like(scores)
        mask[rows[~is_target], columns[~is_target]] = _LEFT_OUT
        scores = scores + mask
    return scores.log_softmax(1)
