"""Trained models out of the folder of `cloud-service evaluate`."""

import json
from pathlib import Path

from safetensors.torch import load_file

from cloud_service.data.catalog import load
from cloud_service.data.clicks import Split, split
from cloud_service.models.cocorrrec import CoCorrRec
from cloud_service.training.build import build
from cloud_service.training.checkpoint import BEST
from shared.jobs import TrainingRecipe


def projected_runs(folder: Path, seed: int) -> list[tuple[TrainingRecipe, Path]]:
    """Recipes and weights of the runs of a projected GCN in an evaluation's --out folder."""
    found = []
    for path in sorted(folder.glob("runs/*/recipe.json")):
        recipe = TrainingRecipe.model_validate(json.loads(path.read_text("utf-8"))["recipe"])
        weights = path.parent / BEST
        plain = recipe.ablation == "none" and recipe.seed == seed
        if recipe.network == "scn+gcn" and recipe.model.gcn == "projected" and plain:
            found += [(recipe, weights)] * weights.is_file()
    return found


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


def model_of(recipe: TrainingRecipe, parts: Split, weights: Path) -> CoCorrRec:
    """The model of a run."""
    model = build(parts, recipe, fit=False)
    assert isinstance(model, CoCorrRec)
    model.load_state_dict(load_file(weights))
    return model.eval()
