"""Trained models out of the folder of `cloud-service evaluate`."""

import csv
import json
from pathlib import Path

from safetensors.torch import load_file

from cloud_service.data.catalog import load
from cloud_service.data.clicks import Split, split
from cloud_service.models.cocorrrec import CoCorrRec
from cloud_service.models.recommender import Recommender
from cloud_service.training.build import build
from cloud_service.training.checkpoint import BEST
from shared.jobs import TrainingRecipe

Run = tuple[TrainingRecipe, Path]
"""A recipe and where the weights of its best epoch are."""


def trained_runs(folder: Path, seed: int) -> list[Run]:
    """The runs of a seed that an evaluation in this --out folder tested, but for ablations."""
    found = []
    with (folder / "runs.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            path = folder / row["folder"]
            text = (path / "recipe.json").read_text("utf-8")
            recipe = TrainingRecipe.model_validate(json.loads(text)["recipe"])
            tested = row["chosen"] == "yes" and (path / BEST).is_file()
            if tested and recipe.seed == seed and recipe.ablation == "none":
                found.append((recipe, path / BEST))
    return found


def projected_runs(folder: Path, seed: int) -> list[Run]:
    """Those of a projected GCN."""
    return [
        (recipe, weights)
        for recipe, weights in trained_runs(folder, seed)
        if recipe.network == "scn+gcn" and recipe.model.gcn == "projected"
    ]


def split_of(recipe: TrainingRecipe, path: Path) -> Split:
    """The clicks of a run, from the log at `path`."""
    log = load(
        str(path),
        folder=path.parent,
        min_item=recipe.min_item,
        min_user=recipe.min_user,
        iterate=recipe.iterate_filters,
    )
    return split(log, seen=recipe.seen)


def model_of(recipe: TrainingRecipe, parts: Split, weights: Path) -> Recommender:
    """The model of a run."""
    model = build(parts, recipe, fit=False)
    model.load_state_dict(load_file(weights))
    return model.eval()


def corrected_of(recipe: TrainingRecipe, parts: Split, weights: Path) -> CoCorrRec:
    """The SCN and GCN of a run of `projected_runs`."""
    model = model_of(recipe, parts, weights)
    assert isinstance(model, CoCorrRec)
    return model
