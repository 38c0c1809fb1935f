"""One default for the form of the correction, said in one place."""

from pathlib import Path

import pytest

from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.stages import NO_GCN, stages
from cloud_service.services.job import JobRequest
from experiments.comparison.comparison_recipe import parse, read
from experiments.comparison.plan import cells
from shared.model import PAPER, ModelSettings

ROOT = Path(__file__).parents[4]
RECIPES = sorted(path for path in (ROOT / "recipes").glob("*.toml") if path.stem != "learning")
"""Without the recipe of learning, whose correction is always the projected one."""


def test_what_is_trained_without_a_word_is_corrected_towards_item_knn():
    for settings in (
        ModelSettings(),
        TrainingRecipe().network.model,
        JobRequest().recipe.network.model,
    ):
        assert (settings.gcn, settings.fusion) == ("projected", "shift")
    assert [stage.network.kind for stage in stages(TrainingRecipe())] == ["scn", "item-knn"]
    values = {"datasets": [{"data": "synthetic"}], "models": [{"network": "scn+gcn"}]}
    (cell,) = cells(parse(values, "recipe"))
    assert cell.training({}, 0).network.model == ModelSettings()


def test_the_papers_form_is_a_word_away_and_fused_as_the_paper_does_it():
    assert (PAPER.gcn, PAPER.fusion) == ("causal", "moments")
    for form in ("causal", "released", "transformer"):
        assert ModelSettings(gcn=form).fusion == "moments"


@pytest.mark.parametrize("name", ["scripts/demo.py", "docker-compose.yml", "docker/train_once.py"])
def test_nothing_says_the_default_a_second_time(name):
    text = (ROOT / name).read_text("utf-8")
    for word in ("projected", "causal", "item-knn"):
        assert word not in text


def test_a_network_without_a_gcn_takes_any_length_and_is_one_training_whoever_asks():
    models = [{"network": "sasrec"}, {"network": "scn"}]
    values = {"length": 50, "datasets": [{"data": "synthetic"}], "models": models}
    for cell in cells(parse(values, "recipe")):
        assert cell.training({}, 0).network.model.length == 50
        assert cell.training({}, 0).network.model.gcn == NO_GCN
    own = {"datasets": [{"data": "synthetic"}], "models": [{"network": "scn"}]}
    (alone,) = cells(parse(own, "recipe"))
    assert stages(TrainingRecipe())[0] == alone.training({}, 0)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_of_the_project_says_which_form_it_means(path):
    for cell in cells(read(path)):
        if cell.model.network == "scn+gcn":
            assert "gcn" in cell.base, f"{cell.model.name} would follow the default"
