"""How good a trained model ranks the held-out clicks, with corrections and without.

User states are computed as the device computes them: over the last `length` clicks (history
`window`), or over the whole history with the state carried from segment to segment (`carry`).
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloud_service.data.clicks import Split, recent
from cloud_service.evaluation.metrics import (
    ALL,
    NEGATIVES,
    SAMPLED,
    Ranks,
    rank_metrics,
    ranks,
    sample_negatives,
    unseen_counts,
)
from cloud_service.models.cocorrrec import CoCorrRec
from cloud_service.models.ttt import State

Int64 = NDArray[np.int64]

_USERS = 2048
"""Users whose states are computed together."""
_SCORES = 16 << 20
"""Scores held at once when ranking all items."""


@torch.no_grad()
def user_states(
    model: CoCorrRec, items: NDArray[np.int32], starts: Int64, positions: Int64, *, corrected: bool
) -> Tensor:
    """The user state (n, D) before the click at each flat position, from the clicks before it."""
    was_training = model.training
    model.eval()
    device = model.scn.item_embedding.device
    found = []
    for at in range(0, len(positions), _USERS):
        part = slice(at, at + _USERS)
        if model.settings.history == "window":
            clicks = recent(items, starts[part], positions[part], model.settings.length)
            state = None
        else:
            clicks, state = _carried(model, items, starts[part], positions[part])
        batch = torch.from_numpy(clicks.astype(np.int64)).to(device)
        found.append(model.last_state(batch, corrected=corrected, state=state))
    model.train(was_training)
    return torch.cat(found)


def _carried(
    model: CoCorrRec, items: NDArray[np.int32], starts: Int64, positions: Int64
) -> tuple[NDArray[np.int32], State]:
    """The clicks of each user's last segment, and the state all earlier ones left."""
    k = model.settings.segment
    device = model.scn.item_embedding.device
    full = np.maximum(positions - starts - 1, 0) // k
    state = State(*(part.clone() for part in model.scn.block.initial_state(len(positions))))
    for number in range(int(full.max(initial=0))):
        rows = np.flatnonzero(full > number)
        begin = starts[rows] + number * k
        clicks = items[begin[:, None] + np.arange(k)].astype(np.int64)
        index = torch.from_numpy(rows).to(device)
        hidden = model.scn.hidden(torch.from_numpy(clicks).to(device))
        weight, bias = model.scn.carried(hidden, State(state.weight[index], state.bias[index]))
        state.weight[index], state.bias[index] = weight, bias
    return recent(items, starts + full * k, positions, k), state


@torch.no_grad()
def ranks_over_all(model: CoCorrRec, users: Tensor, targets: Int64) -> Ranks:
    """Where each target stands among all items of the catalogue.

    Raises ValueError where a score is NaN.
    """
    chunks = list(_ranks_in_chunks(model, users, targets))
    return Ranks(*(np.concatenate(parts) for parts in zip(*chunks, strict=True)))


def _ranks_in_chunks(model: CoCorrRec, users: Tensor, targets: Int64) -> Iterator[Ranks]:
    rows = max(1, _SCORES // model.scn.items)
    table = model.scn.candidate_states(model.scn.item_embedding[1:]).T
    columns = torch.from_numpy(targets - 1).to(users.device)
    for at in range(0, len(targets), rows):
        scores = users[at : at + rows] @ table
        if not bool(torch.isfinite(scores).all()):
            raise ValueError("scores hold NaN or infinity: the training diverged")
        target = scores.gather(1, columns[at : at + rows, None])
        greater = (scores > target).sum(1)
        equal = (scores == target).sum(1) - 1
        yield Ranks(greater.cpu().numpy(), equal.cpu().numpy())


@torch.no_grad()
def held_out_metrics(
    model: CoCorrRec, split: Split, positions: Int64, *, seed: int, corrected: bool
) -> dict[str, float]:
    """All metrics of the paper on one held-out click per training user, in both protocols.

    The sampled one leaves out users who know so much of the catalogue that 100 negatives cannot
    be sampled: `sampled100/users` says how many are left, and where none is there are no figures.
    """
    log = split.log
    targets = log.items[positions].astype(np.int64)
    users = user_states(model, log.items, split.starts, positions, corrected=corrected)
    figures = rank_metrics(ALL, ranks_over_all(model, users, targets))
    enough = np.flatnonzero(unseen_counts(log)[split.train_users] >= NEGATIVES)
    figures[f"{SAMPLED}/users"] = float(len(enough))
    if len(enough):
        negatives = sample_negatives(log, split.train_users[enough], seed=seed)
        candidates = np.concatenate([targets[enough, None], negatives], axis=1)
        chosen = users[torch.from_numpy(enough).to(users.device)]
        scores = model.scn.score(chosen, torch.from_numpy(candidates).to(users.device))
        found = ranks(scores.cpu().numpy(), 0)
        figures |= rank_metrics(SAMPLED, found, negatives=NEGATIVES)
    return figures


def validation_ndcg(model: CoCorrRec, split: Split) -> float:
    """NDCG@10 over all items on the validation clicks, corrected: what training stops by.

    Raises ValueError where a score is NaN.
    """
    positions = split.validation_positions
    users = user_states(model, split.log.items, split.starts, positions, corrected=True)
    found = ranks_over_all(model, users, split.log.items[positions].astype(np.int64))
    return rank_metrics(ALL, found)["all/ndcg@10"]


def popularity_metrics(split: Split, positions: Int64) -> dict[str, float]:
    """What ranking by the number of training clicks alone reaches, over all items."""
    counts = split.train_counts()
    ordered = np.sort(counts[1:])
    of_target = counts[split.log.items[positions]]
    greater = len(ordered) - np.searchsorted(ordered, of_target, side="right")
    equal = np.searchsorted(ordered, of_target, side="right") - np.searchsorted(ordered, of_target)
    return rank_metrics(ALL, Ranks(greater.astype(np.int64), (equal - 1).astype(np.int64)))
