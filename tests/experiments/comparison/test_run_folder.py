"""The folder names of runs: a finished run stays found, whatever options are added later."""

import hashlib
import json

import pytest

from cloud_service.recommender.recipe import OPTIONS, TrainingRecipe, identity, identity_of
from cloud_service.recommender.training.stages import stages
from experiments.comparison.comparison_recipe import read
from experiments.comparison.files import RunFolder
from experiments.comparison.plan import cells
from shared.model import ModelSettings
from tests.conftest import ROOT

GOLDEN = json.loads(
    (ROOT / "tests/experiments/comparison/golden/run_folders.json").read_text("utf-8")
)


def folder_name(recipe):
    return RunFolder(ROOT, recipe, GOLDEN["clicks"]).path.name


LATER = {"inner_step", "learning"}
"""Recipes that were written after the folders of the golden file."""


def test_every_run_of_the_projects_recipes_keeps_its_folder():
    names = []
    for path in sorted((ROOT / "recipes").glob("*.toml")):
        if path.stem in LATER:
            continue
        for cell in cells(read(path)):
            for point in cell.points:
                for seed in cell.seeds:
                    recipe = cell.training(point, seed)
                    names += [folder_name(run) for run in (recipe, *stages(recipe))]
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    assert {"folders": len(names), "sha256": digest} == GOLDEN["recipes"]


@pytest.mark.parametrize("golden", GOLDEN["singles"], ids=lambda golden: golden["folder"])
def test_a_run_keeps_its_folder_whichever_options_it_has(golden):
    assert folder_name(TrainingRecipe.of(**golden["options"])) == golden["folder"]


def test_every_option_of_that_release_is_in_the_digest():
    digested = identity(TrainingRecipe())
    assert list(digested) == GOLDEN["fields"]
    assert list(digested["model"]) == GOLDEN["model_fields"]
    assert list(OPTIONS)[: len(GOLDEN["fields"])] == GOLDEN["fields"]
    assert list(ModelSettings.model_fields)[: len(GOLDEN["model_fields"])] == GOLDEN["model_fields"]


def test_a_new_option_makes_no_finished_run_new_and_a_changed_default_does():
    before = TrainingRecipe().model_dump(mode="json")
    introduced = {"label_smoothing": 0.0, "model.bias": False}
    grown = before | {"label_smoothing": 0.0, "model": before["model"] | {"bias": False}}
    assert json.dumps(identity_of(grown, introduced)) == json.dumps(before)
    for changed in (
        grown | {"label_smoothing": 0.1},
        grown | {"model": grown["model"] | {"bias": True}},
        grown | {"ema": 0.99},
    ):
        assert identity_of(changed, introduced) != before
