"""How much of a gain each way of fusing a correction can carry at all.

No network predicts anything here: for every user the 104 numbers of a correction are fitted by
gradient descent, so that the device's scores come near to those that a projected GCN's teachers
want (the same weighted least squares). What a fusion cannot reach so, no GCN can reach through it.

    shift      added to the user state (64 numbers)
    block      added to attn and b inside the block as they are
    moments    Eq. 14 and 15: added with the mean and deviation of what they correct, P = Q given

    python -m benchmarks.fusion_reach FOLDER --data LOG.csv.gz

FOLDER is the --out folder of an evaluation with a projected GCN, LOG its data.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import keep
from benchmarks.runs import corrected_runs
from cloud_service.recommender.data.clicks import Split, recent
from cloud_service.recommender.models.cocorrrec import ProjectedCoCorrRec
from cloud_service.recommender.models.gcn import last_click
from cloud_service.recommender.models.projected import RIDGE
from cloud_service.recommender.models.recommender import Recommender
from cloud_service.recommender.models.ttt import Correction
from cloud_service.recommender.models.ttt_parts import match_moments
from cloud_service.recommender.ranking.evaluate import Clicked, ranks_over_all
from cloud_service.recommender.ranking.metrics import ranks
from cloud_service.recommender.ranking.significance import per_user

STEPS: Final = 200
RATE: Final = 0.05
STRENGTHS: Final = (0.25, 1.0)
"""P and Q; 0.25 is where the released model's Q starts."""

Fuse = Callable[[Tensor, Tensor, Correction, Any], tuple[Tensor, Tensor]]


def main() -> None:
    """Fits corrections for a sample of test users, one fusion after the other."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="the --out folder of an evaluation")
    parser.add_argument("--data", type=Path, required=True, help="its click log")
    parser.add_argument("--users", type=int, default=1500)
    options = parser.parse_args()
    run = next(corrected_runs(options.folder, [options.data]))
    results = measure(run.model, run.parts, options.users)
    gain = results["teachers"] - results["no correction"]
    ratios = {
        f"{name}: share of the teachers' gain": {"value": (value - results["no correction"]) / gain}
        for name, value in results.items()
    }
    print(run.name)
    for name, value in results.items():
        share = ratios[f"{name}: share of the teachers' gain"]["value"]
        print(f"{name:24} NDCG@10 {value:.4f}  {share:5.0%} of the teachers' gain")
    keep(f"fusion_reach_{run.parts.log.name}", results, ratios)


def measure(model: ProjectedCoCorrRec, dataset: Split, users: int) -> dict[str, float]:
    """NDCG@10 over all items of some test users, by fusion."""
    gcn, scn = model.gcn, model.scn
    model.requires_grad_(False)
    chosen = np.sort(np.random.default_rng(0).permutation(len(dataset.starts))[:users])
    starts, at = dataset.starts[chosen], dataset.test_positions[chosen]
    clicks = torch.from_numpy(recent(dataset.log.items, starts, at, model.length).astype(np.int64))
    hidden = scn.segments(scn.hidden(clicks)).flatten(0, 1)
    local = gcn.local_state(hidden)
    target = gcn.targets(gcn.scores(local, clicks), clicks)
    best, index = target.topk(model.settings.projected_items, dim=1)
    rows = scn.catalogue()[index]
    share = (gcn.sharpness * best).softmax(1)
    ridge = float(RIDGE * scn.catalogue().var(0).mean())

    def loss(states: Tensor) -> Tensor:
        missing = best - (rows @ states.unsqueeze(-1)).squeeze(-1)
        missing = missing - (share * missing).sum(1, keepdim=True)
        fitted = (share * missing.square()).sum(1)
        return (fitted + ridge * (states - local).square().sum(1)).sum()

    targets = dataset.log.items[at].astype(np.int64)
    left_out = Clicked(dataset.log.items, starts, at) if dataset.seen_left_out else None

    def ndcg(states: Tensor, by: Recommender = scn) -> float:
        model_ranks = ranks_over_all(by, states, targets, left_out)
        return float(per_user(model_ranks, "ndcg@10").mean())

    results = {"no correction": ndcg(local)}
    sent = torch.cat((local, model.row(hidden)), dim=1)
    results["shift and named items, in closed form"] = ndcg(sent, model)
    results["shift, in closed form"] = ndcg(local + gcn.fitted(hidden, room=0)[0])
    results["shift"] = ndcg(
        _fitted(loss, lambda free: local + free[:, -scn.settings.dim :], model, users)
    )
    for name, fuse in _fusions().items():
        setattr(scn.block, "fuse", fuse)  # noqa: B010
        results[name] = ndcg(_fitted(loss, _through_block(model, hidden), model, users))
    results["teachers"] = _of_teachers(target, targets, left_out)
    return results


def _fusions() -> dict[str, Fuse]:
    forms: dict[str, Fuse] = {"block": lambda attn, bias, c, share: (attn + c.attn, bias + c.bias)}
    for size in STRENGTHS:

        def moments(
            attn: Tensor, bias: Tensor, c: Correction, share: Any, size: float = size
        ) -> tuple[Tensor, Tensor]:
            return (
                attn + size * match_moments(c.attn, attn),
                bias + size * match_moments(c.bias, bias),
            )

        forms[f"moments, P = Q = {size:g}"] = moments
    return forms


def _through_block(model: ProjectedCoCorrRec, hidden: Tensor) -> Callable[[Tensor], Tensor]:
    """Free numbers (users, h K + D) to user states, as a correction inside the block."""
    s, last_row = model.settings, last_click(hidden)
    last_index = last_row[:, None, :, None]

    def states(free: Tensor) -> Tensor:
        attn, bias = torch.split(free, [s.heads * s.segment, s.dim], dim=1)
        correction = Correction(
            attn.reshape(-1, s.heads, 1, s.segment) * last_index,
            bias.reshape(-1, s.heads, 1, s.head_dim) * last_index,
        )
        output = model.scn(hidden, correction)
        return model.scn.user_state((output * last_row.unsqueeze(-1)).sum(1))

    return states


def _fitted(
    loss: Callable[[Tensor], Tensor],
    states: Callable[[Tensor], Tensor],
    model: ProjectedCoCorrRec,
    users: int,
) -> Tensor:
    s = model.settings
    torch.manual_seed(0)
    free = (torch.randn(users, s.heads * s.segment + s.dim) * 0.01).requires_grad_()
    optimiser = torch.optim.Adam([free], lr=RATE)
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss(states(free)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return states(free).detach()


def _of_teachers(teacher_scores: Tensor, targets: Any, left_out: Clicked | None) -> float:
    """What the wanted scores themselves would reach."""
    if left_out is not None:
        row, column = left_out.cells(0, len(teacher_scores))
        teacher_scores[row, column] = -torch.inf
    teacher_ranks = ranks(teacher_scores.numpy(), targets - 1)
    return float(per_user(teacher_ranks, "ndcg@10").mean())


if __name__ == "__main__":
    main()
