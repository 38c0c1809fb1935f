"""Trained models out of the folder of `cloud-service evaluate`."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

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


class Corrected(NamedTuple):
    """A trained SCN, its projected GCN, and the clicks they are of."""

    name: str
    """Of the log, the teachers, and the readout if there is one."""
    recipe: TrainingRecipe
    parts: Split
    model: CoCorrRec


def corrected_runs(folder: Path, logs: Sequence[Path], seed: int = 0) -> Iterator[Corrected]:
    """The runs of projected GCNs that an evaluation tested on these logs, log by log.

    Raises SystemExit where there is none.
    """
    runs = [
        (recipe, weights)
        for recipe, weights in trained_runs(folder, seed)
        if recipe.network == "scn+gcn" and recipe.model.gcn == "projected"
    ]
    found = False
    for path in logs:
        for recipe, weights in runs:
            if recipe.data == path.name:
                found, parts = True, split_of(recipe, path)
                readout = "" if recipe.model.readout == "norm" else ", readout"
                model = model_of(recipe, parts, weights)
                assert isinstance(model, CoCorrRec)
                name = f"{parts.log.name}, {recipe.teachers.replace(',', ' and ')}{readout}"
                yield Corrected(name, recipe, parts, model)
    if not found:
        raise SystemExit(f"{folder} has no projected run of seed {seed} on those logs")


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
