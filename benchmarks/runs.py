"""Trained models out of the folder of `cloud-service evaluate`."""

import argparse
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from cloud_service.recommender.data.clicks import Split, recent, split
from cloud_service.recommender.data.treatment import Treatment
from cloud_service.recommender.models.cocorrrec import ProjectedCoCorrRec
from cloud_service.recommender.models.recommender import Recommender
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.build import build
from cloud_service.recommender.training.checkpoint import BEST

Run = tuple[TrainingRecipe, Path]
"""A recipe and where the weights of its best epoch are."""


def runs_parser(doc: str | None) -> argparse.ArgumentParser:
    """The arguments of a benchmark of one evaluation's runs, described by its `doc`."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="the --out folder of an evaluation")
    parser.add_argument("--data", type=Path, action="append", required=True, help="a click log")
    parser.add_argument("--seed", type=int, default=0, help="which seed's run (default: 0)")
    return parser


def trained_runs(folder: Path, seed: int) -> list[Run]:
    """The runs of a seed that an evaluation in this --out folder tested, but for ablations."""
    pairs = []
    with (folder / "runs.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            path = folder / row["folder"]
            text = (path / "recipe.json").read_text("utf-8")
            recipe = TrainingRecipe.model_validate(json.loads(text)["recipe"])
            tested = row["chosen"] == "yes" and (path / BEST).is_file()
            if tested and recipe.seed == seed and recipe.ablation == "none":
                pairs.append((recipe, path / BEST))
    return pairs


class Corrected(NamedTuple):
    """A trained SCN, its projected GCN, and the clicks they are of."""

    name: str
    """Of the log, the teachers, and the readout if there is one."""
    recipe: TrainingRecipe
    parts: Split
    model: ProjectedCoCorrRec


def corrected_runs(folder: Path, logs: Sequence[Path], seed: int = 0) -> Iterator[Corrected]:
    """The runs of projected GCNs that an evaluation tested on these logs, log by log.

    Raises SystemExit where there is none.
    """
    runs = [
        (recipe, weights)
        for recipe, weights in trained_runs(folder, seed)
        if recipe.network == "scn+gcn" and recipe.model.gcn == "projected"
    ]
    pairs = False
    for path in logs:
        for recipe, weights in runs:
            if recipe.data == path.name:
                pairs, dataset = True, split_of(recipe, path)
                readout = "" if recipe.model.readout == "norm" else ", readout"
                model = model_of(recipe, dataset, weights)
                assert isinstance(model, ProjectedCoCorrRec)
                name = f"{dataset.log.name}, {recipe.teachers.replace(',', ' and ')}{readout}"
                yield Corrected(name, recipe, dataset, model)
    if not pairs:
        raise SystemExit(f"{folder} has no projected run of seed {seed} on those logs")


def split_of(recipe: TrainingRecipe, path: Path) -> Split:
    """The clicks of a run, from the log at `path`."""
    return split(Treatment.of(recipe).load(str(path), path.parent), seen=recipe.seen)


def model_of(recipe: TrainingRecipe, dataset: Split, weights: Path) -> Recommender:
    """The model of a run."""
    model = build(dataset, recipe, fit=False)
    model.load_state_dict(load_file(weights))
    return model.eval()


def _as_it_is(values: Tensor) -> Tensor:
    return values


@torch.no_grad()
def sent_rows(
    model: ProjectedCoCorrRec,
    dataset: Split,
    at: NDArray[np.int64],
    *,
    sent: Callable[[Tensor], Tensor] = _as_it_is,
) -> Tensor:
    """The corrections (n, h K + D) of the clicks before each position, in the compact form; zero
    where there are none.

    `sent` is what the wire makes of H, and of the correction.
    """
    clicks = recent(dataset.log.items, dataset.starts, np.maximum(at, dataset.starts), model.length)
    values = torch.from_numpy(clicks.astype(np.int64))
    hidden = model.scn.segments(model.scn.hidden(values)).flatten(0, 1)
    return sent(model.row(sent(hidden))) * (values[:, :1] > 0)
