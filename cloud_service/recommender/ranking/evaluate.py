"""Ranks the held-out clicks with a model, over all items and among sampled negatives.

If the split says so, a ranking over all items leaves out the items that its user clicked before.
Sampled negatives never contain them.

User states are computed as the device computes them: over the last `length` clicks (history
`window`), or over the whole history with the state carried from segment to segment (`carry`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloud_service.recommender.data.clicks import Split, ranges, recent
from cloud_service.recommender.models.cocorrrec import CoCorrRec
from cloud_service.recommender.models.recommender import DotProduct, Recommender
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.models.ttt import State
from cloud_service.recommender.ranking.metrics import (
    ALL,
    NEGATIVES,
    SAMPLED,
    Ranks,
    rank_metrics,
    ranks,
    sample_negatives,
    unseen_counts,
)

Int64 = NDArray[np.int64]

_USERS = 2048
"""Users whose states are computed together."""
_SCORES = {"cpu": 1 << 19, "cuda": 1 << 26}
"""Scores in memory at once when ranking all items: fits a CPU's cache, or fills a GPU."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The rank of one held-out click of each training user.

    Attributes:
        all: among all items, (users,).
        sampled: among 100 sampled negatives, (sampled users,).
        sampled_users: indices of these training users, ascending, (sampled users,); users who
            clicked so many items that 100 negatives cannot be sampled are not among them.
    """

    all: Ranks
    sampled: Ranks
    sampled_users: Int64

    def metrics(self) -> dict[str, float]:
        """All metrics in both protocols, and the number of sampled users (`sampled100/users`)."""
        figures = rank_metrics(ALL, self.all)
        figures[f"{SAMPLED}/users"] = float(len(self.sampled_users))
        if len(self.sampled_users):
            figures |= rank_metrics(SAMPLED, self.sampled, negatives=NEGATIVES)
        return figures


@torch.no_grad()
def held_out(model: Recommender, split: Split, positions: Int64, *, seed: int) -> HeldOut:
    """Ranks the click at each position, one per training user, in both protocols.

    Raises ValueError if a score is not finite.
    """
    log = split.log
    targets = log.items[positions].astype(np.int64)
    states = user_states(model, log.items, split.starts, positions, split.train_users + 1)
    enough = np.flatnonzero(unseen_counts(log)[split.train_users] >= NEGATIVES)
    return HeldOut(
        ranks_over_all(model, states, targets, clicked_before(split, positions)),
        _ranks_of_sampled(model, states, split, enough, targets[enough], seed),
        enough,
    )


def validation_ndcg(model: Recommender, split: Split) -> float:
    """NDCG@10 over all items on the validation clicks, which decides when training stops.

    Raises ValueError if a score is not finite.
    """
    positions = split.validation_positions
    items = split.log.items
    states = user_states(model, items, split.starts, positions, split.train_users + 1)
    targets = items[positions].astype(np.int64)
    target_ranks = ranks_over_all(model, states, targets, clicked_before(split, positions))
    return rank_metrics(ALL, target_ranks)["all/ndcg@10"]


@torch.no_grad()
def user_states(
    model: Recommender,
    items: NDArray[np.int32],
    starts: Int64,
    positions: Int64,
    users: Int64,
) -> Tensor:
    """The state (n, ...) before the click at each flat position, from the clicks before it.

    `users` are user numbers (row in the log plus 1), or 0 for an unknown user.
    """
    was_training = model.training
    model.eval()
    device = _device(model)
    chunk_states = []
    for at in range(0, len(positions), _USERS):
        chunk = slice(at, at + _USERS)
        owners = torch.from_numpy(users[chunk]).to(device)
        if model.carries:
            assert isinstance(model, SCN | CoCorrRec)
            clicks, state = _carried(model, items, starts[chunk], positions[chunk])
            chunk_states.append(model.last_states(_tensor(clicks, device), owners, state))
        else:
            clicks = recent(items, starts[chunk], positions[chunk], model.length)
            chunk_states.append(model.last_states(_tensor(clicks, device), owners))
    model.train(was_training)
    return torch.cat(chunk_states)


def _carried(
    model: SCN | CoCorrRec, items: NDArray[np.int32], starts: Int64, positions: Int64
) -> tuple[NDArray[np.int32], State]:
    """The clicks of each user's last segment, and the state carried from all earlier ones."""
    scn = model.scn if isinstance(model, CoCorrRec) else model
    k, device = scn.settings.segment, scn.item_embedding.device
    full = np.maximum(positions - starts - 1, 0) // k
    state = State(*(tensor.clone() for tensor in scn.block.initial_state(len(positions))))
    for segment in range(int(full.max(initial=0))):
        rows = np.flatnonzero(full > segment)
        begin = starts[rows] + segment * k
        clicks = items[begin[:, None] + np.arange(k)]
        index = torch.from_numpy(rows).to(device)
        hidden = scn.hidden(_tensor(clicks, device))
        weight, bias = scn.carried(hidden, State(state.weight[index], state.bias[index]))
        state.weight[index], state.bias[index] = weight, bias
    return recent(items, starts + full * k, positions, k), state


@dataclass(frozen=True, eq=False)
class Clicked:
    """Items that each user clicked before; those of row n are `items[starts[n]:stops[n]]`."""

    items: NDArray[np.int32]
    starts: Int64
    stops: Int64

    def cells(self, at: int, stop: int) -> tuple[Int64, Int64]:
        """Row and column indices of these items in a score matrix of the rows `at` to `stop`."""
        starts, stops = self.starts[at:stop], self.stops[at:stop]
        rows = np.repeat(np.arange(len(starts), dtype=np.int64), stops - starts)
        return rows, self.items[ranges(starts, stops)].astype(np.int64) - 1


def clicked_before(split: Split, positions: Int64) -> Clicked | None:
    """The items that rankings of all items leave out, or None if the split leaves none out."""
    return Clicked(split.log.items, split.starts, positions) if split.seen_left_out else None


@torch.no_grad()
def ranks_over_all(
    model: Recommender, states: Tensor, targets: Int64, left_out: Clicked | None = None
) -> Ranks:
    """Ranks each target among all items of the catalogue, without those left out.

    A target that is itself left out is ranked last. Raises ValueError if a score is not finite.
    """
    was_training = model.training
    model.eval()
    chunks = list(_ranks_in_chunks(model, states, targets, left_out))
    model.train(was_training)
    return Ranks(*(np.concatenate(chunk_columns) for chunk_columns in zip(*chunks, strict=True)))


def _ranks_in_chunks(
    model: Recommender, states: Tensor, targets: Int64, left_out: Clicked | None
) -> Iterator[Ranks]:
    rows = max(1, _SCORES.get(states.device.type, 1 << 19) // model.items)
    table = model.catalogue().T if isinstance(model, DotProduct) else None
    columns = torch.from_numpy(targets - 1).to(states.device)
    space = torch.empty(2, min(rows, len(targets)), model.items, device=states.device)
    scored, compared = space.unbind()
    for at in range(0, len(targets), rows):
        chunk = states[at : at + rows]
        # Every chunk reuses the same memory: allocating pages costs more than the product.
        scores = (
            model.score_all(chunk)
            if table is None
            else torch.mm(chunk, table, out=scored[: len(chunk)])
        )
        # A NaN or infinity makes the sum non-finite, which is cheaper than testing every score.
        if not bool(torch.isfinite(scores.sum())):
            raise ValueError("scores hold NaN or infinity: the training diverged")
        if left_out is not None:
            if table is None:
                scores = scores.clone()  # it may be a view of a buffer of the model
            row, column = (torch.from_numpy(index) for index in left_out.cells(at, at + rows))
            scores[row.to(scores.device), column.to(scores.device)] = -torch.inf
        target = scores.gather(1, columns[at : at + rows, None])
        # Summing floats is twice as fast as summing booleans, and exact up to 2^24 items.
        flags = compared[: len(chunk)]
        greater = torch.gt(scores, target, out=flags).sum(1)
        equal = torch.eq(scores, target, out=flags).sum(1) - 1
        yield Ranks(_to_int64(greater), _to_int64(equal))


def _to_int64(counts: Tensor) -> Int64:
    return counts.cpu().numpy().astype(np.int64)


def _ranks_of_sampled(
    model: Recommender, states: Tensor, split: Split, chosen: Int64, targets: Int64, seed: int
) -> Ranks:
    negatives = sample_negatives(split.log, split.train_users[chosen], seed=seed)
    candidates = np.concatenate([targets[:, None], negatives], axis=1)
    was_training = model.training
    model.eval()
    chunk_ranks = [Ranks(np.empty(0, np.int64), np.empty(0, np.int64))]
    for at in range(0, len(chosen), _USERS):
        chunk = slice(at, at + _USERS)
        rows = torch.from_numpy(chosen[chunk]).to(states.device)
        scores = model.score(states[rows], _tensor(candidates[chunk], states.device))
        chunk_ranks.append(ranks(scores.cpu().numpy(), 0))
    model.train(was_training)
    return Ranks(
        *(np.concatenate(chunk_columns) for chunk_columns in zip(*chunk_ranks, strict=True))
    )


def _tensor(indices: NDArray[np.integer], device: torch.device) -> Tensor:
    return torch.from_numpy(indices.astype(np.int64)).to(device)


def _device(model: Recommender) -> torch.device:
    return next(iter([*model.parameters(), *model.buffers()])).device
