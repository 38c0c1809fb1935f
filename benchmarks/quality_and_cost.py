"""Ranking quality against what it costs a device, for every trained network of an evaluation.

NDCG@10 over all items on the test click, and the FLOPs of reranking 100 candidates after one more
click, counted in the exported graphs. `window`: the last clicks are read again, as in training and
in the evaluation's own tables. `carried`: a GRU4Rec or Mamba4Rec keeps its state from click to
click, so it has read all clicks (here the last 200), which it was not trained to. The SCN reads its
window and keeps each click's views; corrected, it costs the same. Item-kNN multiplies and adds once
for each neighbour of each click; it has no graph. Models that do not rank from clicks are left out.

    python -m benchmarks.quality_and_cost FOLDER [FOLDER ...] --data LOG.csv.gz [--data ...]

FOLDER is the --out folder of `cloud-service evaluate`, LOG its data.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.machine import keep
from benchmarks.runs import model_of, split_of, trained_runs
from cloud_service.recommender.data.clicks import Split
from cloud_service.recommender.export.baselines import export_ranker, export_scorer, export_step
from cloud_service.recommender.export.cost import count_flops
from cloud_service.recommender.export.device_graphs import export_device_graphs
from cloud_service.recommender.models.baselines.item_knn import ItemKNN
from cloud_service.recommender.models.cocorrrec import SCNAndGCN
from cloud_service.recommender.models.recommender import Recommender, Stepwise
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.ranking.evaluate import clicked_before, ranks_over_all, user_states
from cloud_service.recommender.ranking.significance import bootstrap, per_user
from cloud_service.recommender.recipe import TrainingRecipe

CANDIDATES: Final = 100
CARRIED_CLICKS: Final = 200
METRIC: Final = "ndcg@10"
SCN_ALONE: Final = "SCN alone"
READERS: Final = frozenset({"gru4rec", "mamba4rec", "sasrec", "bert4rec", "din"})


class Form(NamedTuple):
    """A model as a device would run it."""

    name: str
    model: Recommender
    flops: int
    length: int


def main() -> None:
    """Measures every run of the folder on the logs given; prints and keeps a table of each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", type=Path, nargs="+", help="--out folders of evaluations")
    parser.add_argument("--data", type=Path, action="append", required=True, help="a click log")
    parser.add_argument("--seed", type=int, default=0, help="which seed's run (default: 0)")
    options = parser.parse_args()
    runs = [run for folder in options.folder for run in trained_runs(folder, options.seed)]
    results: dict[str, Any] = {}
    for path in options.data:
        matching = [run for run in runs if run[0].data == path.name]
        if not matching:
            parser.error(f"no trained run of seed {options.seed} on {path} in those folders")
        results[path.name] = measure(matching, path)
        _show(path.name, results[path.name])
    keep("quality_and_cost", results, {})


@torch.no_grad()
def measure(runs: list[tuple[TrainingRecipe, Path]], path: Path) -> dict[str, Any]:
    """A row for each form of each model of one log."""
    gains: dict[str, NDArray[np.float64]] = {}
    flops: dict[str, int] = {}
    cuts = {
        (recipe.min_item, recipe.min_user, recipe.iterate_filters, recipe.seen)
        for recipe, _ in runs
    }
    if len(cuts) > 1:
        raise SystemExit(f"{path.name}: the runs are of different clicks")
    dataset = split_of(runs[0][0], path)
    for recipe, weights in runs:
        for form in _forms(model_of(recipe, dataset, weights), recipe):
            if form.name not in gains:
                gains[form.name], flops[form.name] = _gains(form, dataset), form.flops
    if SCN_ALONE not in gains:
        raise SystemExit(f"{path.name}: no run of the SCN")
    names = sorted(gains, key=lambda name: gains[name].mean())
    lows, highs = bootstrap(np.stack([gains[name] - gains[SCN_ALONE] for name in names], axis=1))
    return {
        name: {
            "mflops": flops[name] / 1e6,
            "ndcg": float(gains[name].mean()),
            "over_scn": [float(low), float(high)],
        }
        for name, low, high in zip(names, lows, highs, strict=True)
    }


def _forms(model: Recommender, recipe: TrainingRecipe) -> Iterator[Form]:
    layers = " (one layer)" if recipe.layers == 1 else ""
    name, length = f"{recipe.network}{layers}", recipe.model.length
    if isinstance(model, SCNAndGCN):
        if recipe.model.gcn == "projected":
            suffix = "" if recipe.model.readout == "norm" else ", readout"
            flops = _scn_flops(model.scn)
            yield Form(f"{SCN_ALONE}{suffix}", model.scn, flops, length)
            yield Form(f"SCN corrected by {recipe.teachers}{suffix}", model, flops, length)
    elif isinstance(model, ItemKNN):
        yield Form(name, model, 2 * length * model.ids.shape[1], length)
    elif recipe.network in READERS:
        yield Form(f"{name}, window", model, _flops(export_ranker(model, length)), length)
    if isinstance(model, Stepwise):
        carried = _flops(export_step(model)) + _flops(export_scorer(model))
        yield Form(f"{name}, carried", model, carried, CARRIED_CLICKS)


def _scn_flops(scn: SCN) -> int:
    graphs = export_device_graphs(scn)
    return sum(_flops(graphs[name]) for name in ("hidden", "views", "prepare", "rank"))


def _flops(graph: bytes) -> int:
    return count_flops(graph, items=1000, candidates=CANDIDATES, clicks=1).total


def _gains(form: Form, dataset: Split) -> NDArray[np.float64]:
    """Each user's NDCG@10 on the test click."""
    at, model = dataset.test_positions, form.model
    trained_with, model.length = model.length, form.length
    states = user_states(model, dataset.log.items, dataset.starts, at, np.zeros_like(at))
    model.length = trained_with
    targets = dataset.log.items[at].astype(np.int64)
    return per_user(ranks_over_all(model, states, targets, clicked_before(dataset, at)), METRIC)


def _show(name: str, rows: dict[str, Any]) -> None:
    print(f"\n{name:28}{'MFLOPs':>8}{'NDCG@10':>9}  against the SCN alone")
    for model, row in rows.items():
        low, high = row["over_scn"]
        print(f"{model:28}{row['mflops']:8.3f}{row['ndcg']:9.4f}  {low:+.4f} to {high:+.4f}")


if __name__ == "__main__":
    main()
