"""Recipes name data sets, and an evaluation finds them in the data folder."""

import gzip
import subprocess
from pathlib import Path

import pytest

from cloud_service.recommender.data.named_sets import NAMED_SETS, NAMES
from experiments.comparison.comparison_recipe import ComparisonRecipe, parse, read, read_toml
from experiments.comparison.datasets import open_data
from experiments.comparison.names import is_path
from experiments.comparison.plan import cells
from experiments.learning.recipe import LearningRecipe, parse_learning
from shared.errors import DataError
from tests.experiments.comparison.conftest import command, one_thread

RECIPES = sorted((Path(__file__).parents[3] / "recipes").glob("*.toml"))
LEARNING = "learning"
"""The recipe of the prequential evaluation, which is another kind."""


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_no_recipe_holds_a_path(path: Path) -> None:
    recipe: ComparisonRecipe | LearningRecipe
    if path.stem == LEARNING:
        recipe = parse_learning(read_toml(path), path.name, path.parent)
    else:
        recipe = read(path)
    for dataset in recipe.datasets:
        assert dataset.data in NAMES
        assert not is_path(dataset.data)
        if dataset.data == "online-retail":
            assert (dataset.ties, dataset.repeats) == ("file", "all")


def test_a_run_on_a_named_set_is_a_run_on_its_copy() -> None:
    recipes = [
        parse({"datasets": [{"name": "log", "data": data}], "models": [{"network": "scn"}]}, "")
        for data in ("amazon-beauty", "elsewhere/amazon_beauty.csv.gz")
    ]
    named, copied = (cells(recipe)[0].training({}, 0) for recipe in recipes)
    assert named == copied
    assert named.data.data == "amazon_beauty.csv.gz"


def test_a_copy_in_the_data_folder_is_opened_by_its_name(tmp_path: Path) -> None:
    rows = [f"{u},{i},{i}" for u in range(1, 5) for i in range(1, 6)]
    text = "\n".join(["user_id,item_id,timestamp", *rows]) + "\n"
    (tmp_path / NAMED_SETS["amazon-beauty"].copy).write_bytes(gzip.compress(text.encode()))
    recipe = parse({"datasets": [{"data": "amazon-beauty"}], "models": [{"network": "scn"}]}, "")
    (facts,) = open_data(recipe, tmp_path)
    assert (facts.name, facts.users, facts.items) == ("amazon-beauty", 4, 5)
    with pytest.raises(DataError, match="cloud-service fetch amazon-beauty --folder none"):
        open_data(recipe, Path("none"))


@pytest.mark.slow
def test_a_named_set_takes_the_place_of_the_sets_of_a_recipe(tmp_path: Path) -> None:
    quick = next(path for path in RECIPES if path.name == "quick.toml")
    done = subprocess.run(
        command("evaluate", quick, "--data", "movielens-100k", "--out", tmp_path / "out"),
        env=one_thread() | {"CLOUD_DATA_FOLDER": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert f"`cloud-service fetch movielens-100k --folder {tmp_path}`" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
