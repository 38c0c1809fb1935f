"""Whether a new model ranks validation clicks no worse than the one that serves.

Both rank the clicks of the new one's split as they are served: from the files in the store,
corrected by the graph that the cloud runs.
"""

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from cloud_service.publishing.pipeline import read_data
from cloud_service.publishing.promotion import Verdict
from cloud_service.recommender.data.clicks import Split
from cloud_service.recommender.models.cocorrrec import CoCorrRec, ProjectedCoCorrRec, SCNAndGCN
from cloud_service.recommender.ranking.evaluate import Clicked, user_states
from cloud_service.recommender.ranking.metrics import Ranks
from cloud_service.recommender.ranking.significance import Comparison, compare, per_user
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.runtime import open_session
from cloud_service.storage.port import VersionStore
from shared import bundle as names
from shared.errors import DataError, RecommendationError

USERS: Final = 5000
"""Validation clicks that are ranked, at most: those of random users where there are more."""
MARGIN: Final = -0.01
"""A model is promoted where the lower end of the relative difference is above this."""
_METRIC: Final = "ndcg@10"
_SCORES: Final = 1 << 22
"""Scores held at once."""

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


class Served(NamedTuple):
    """A model as a store holds it, and the ids of its items, sorted by their bytes."""

    model: SCNAndGCN
    ids: NDArray[np.bytes_]


class _ServedProjected(ProjectedCoCorrRec):
    """A projected model whose corrections come from the cloud's graph: its teachers are in it."""

    graph: str

    def row(self, hidden: Float[Tensor, "n k dim"]) -> Float[Tensor, "n row"]:
        """What the compact form sends for H."""
        session, rows = open_session(self.graph), []
        for batch in hidden.split(64):
            outputs = session.run(None, {"hidden": batch.numpy()})
            flat = [output.reshape(len(batch), -1) for output in outputs]
            rows.append(np.concatenate(flat, axis=1))
        return torch.from_numpy(np.concatenate(rows))


def judged(
    recipe: TrainingRecipe, store: VersionStore, data_folder: Path, version: str, current: str
) -> Verdict:
    """Compares a new version with the one it would replace, on the clicks of the new one's recipe.

    What cannot be read any more holds no alias: it is replaced, and the verdict says so.
    """
    try:
        dataset, new = read_data(recipe, data_folder), opened(store, version)
    except DataError as error:
        return Verdict(False, f"it cannot be compared with version {current}: {error.detail}")
    try:
        old = opened(store, current)
        comparison = compared(new, old, dataset)
    except (RecommendationError, OSError, ValueError, RuntimeError) as error:
        reason = error.detail if isinstance(error, RecommendationError) else str(error)
        return Verdict(True, f"version {current} cannot be read to compare ({reason})")
    return verdict(comparison, current)


def verdict(comparison: Comparison, current: str) -> Verdict:
    """What a comparison with the version in use says."""
    against = (
        f"its NDCG@10 on {comparison.users:,} validation clicks is {comparison.value:.4f} against "
        f"{comparison.reference:.4f} of version {current}"
    )
    if not comparison.reference:
        return Verdict(True, against)
    low, high = comparison.low / comparison.reference, comparison.high / comparison.reference
    relative = comparison.difference / comparison.reference
    interval = f"{relative:+.1%}, 95% interval {low:+.1%} to {high:+.1%}"
    return Verdict(low > MARGIN, f"{against} ({interval})")


def opened(store: VersionStore, version: str) -> Served:
    """The model of a version, from its files. Raises a RecommendationError or OSError."""
    files = (names.WEIGHTS, names.GCN_ROW_GRAPH, names.ITEM_IDS)
    manifest = store.checked(version, files)
    settings = manifest.model
    weights = load_file(store.local_path(version, names.WEIGHTS))
    model: SCNAndGCN
    if settings.gcn == "projected":
        model = _ServedProjected(
            manifest.items, settings, seen_left_out=manifest.data.seen_left_out
        )
        model.graph = str(store.local_path(version, names.GCN_ROW_GRAPH))
        scn_weights = {
            n.removeprefix("scn."): w for n, w in weights.items() if n.startswith("scn.")
        }
        model.scn.load_state_dict(scn_weights)
    else:
        model = CoCorrRec(manifest.items, settings)
        model.load_state_dict(weights)
    return Served(
        model.eval(), np.load(store.local_path(version, names.ITEM_IDS), allow_pickle=False)
    )


def compared(new: Served, old: Served, dataset: Split) -> Comparison:
    """NDCG@10 of both on the same validation clicks, paired by user."""
    count = len(dataset.train_users)
    rows = np.arange(count, dtype=np.int64)
    if count > USERS:
        rows = np.sort(np.random.default_rng(0).choice(rows, USERS, replace=False))
    gains = [gained(served, dataset, rows)[:, None] for served in (new, old)]
    return compare(*gains)[0]


@torch.no_grad()
def gained(served: Served, dataset: Split, rows: Int64) -> Float64:
    """NDCG@10 of the validation click of some training users, (n,).

    A model ranks those of its items that the split's catalogue has, from the clicks it knows. A
    click on an item that it lacks is a miss, and so is one before which it knows nothing.
    """
    log, model = dataset.log, served.model
    row_of_item = np.concatenate([[0], names.find_items(served.ids, log.item_ids)])
    items = row_of_item[log.items]
    before = np.concatenate([[0], np.cumsum(items > 0)])
    starts = before[dataset.starts[rows]]
    positions = before[dataset.validation_positions[rows]]
    known_clicks = items[items > 0].astype(np.int32)
    states = user_states(model, known_clicks, starts, positions, np.zeros(len(rows), np.int64))
    targets = items[dataset.validation_positions[rows]]
    gone = np.setdiff1d(np.arange(1, model.items + 1), row_of_item) - 1
    left_out = Clicked(known_clicks, starts, positions) if dataset.seen_left_out else None
    gains = per_user(_ranked(model, states, np.maximum(targets, 1), gone, left_out), _METRIC)
    return np.where((targets > 0) & (positions > starts), gains, 0.0)


def _ranked(
    model: SCNAndGCN, states: Tensor, targets: Int64, gone: Int64, left_out: Clicked | None
) -> Ranks:
    """Where each target stands among all items but those that are gone or left out."""
    greater, equal = [], []
    step = max(1, _SCORES // model.items)
    for at in range(0, len(targets), step):
        scores = model.score_all(states[at : at + step])
        if not bool(torch.isfinite(scores.sum())):
            raise ValueError("its scores are not finite")
        column = torch.from_numpy(targets[at : at + step, None] - 1)
        target = scores.gather(1, column)
        scores[:, torch.from_numpy(gone)] = -torch.inf
        if left_out is not None:
            row, seen = left_out.cells(at, at + step)
            scores[torch.from_numpy(row), torch.from_numpy(seen)] = -torch.inf
            target = scores.gather(1, column)
        greater.append((scores > target).sum(1).numpy())
        equal.append((scores == target).sum(1).numpy() - 1)
    return Ranks(np.concatenate(greater), np.concatenate(equal))
