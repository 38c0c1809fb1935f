"""`cloud-service train` on a small log: what it publishes, and what that takes over."""

import os
import re
import subprocess

import pytest

from cloud_service.commands.recipe import read_recipe
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.storage.store import Store
from tests.instruments.logs import small_csv
from tests.instruments.processes import BIN


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small click log of patterns that a network learns in an epoch or two."""
    folder = tmp_path_factory.mktemp("train")
    for name in ("shop.csv", "films.csv"):
        small_csv(folder / name)
    return folder


def train(folder, data, *options):
    done = subprocess.run(
        [BIN / "cloud-service", "train", "--data", folder / data, "--store", folder / "store",
         "--dim", "8", "--heads", "2", "--epochs", "1", "--gcn", "causal", *options],
        capture_output=True, text=True, timeout=300, env=os.environ | {"COLUMNS": "80"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


@pytest.mark.slow(15)
def test_a_second_model_is_compared_and_another_log_has_an_alias_of_its_own(folder):
    store = Store(folder / "store")
    said = train(folder, "shop.csv")
    assert "training ended after 1 epoch while validation still improved" in said
    assert said.endswith("production and shop point at it now")
    first = store.production()
    said = train(folder, "shop.csv", "--seed", "1")
    compared = r"its NDCG@10 on 60 validation clicks is [01]\.\d+ against [01]\.\d+ of version "
    assert re.search(compared + first, said)
    before = store.aliases()
    said = train(folder, "films.csv")
    assert "a model of another log (shop): devices get this one as films" in said
    assert store.aliases() == before | {"films": store.pointed_at("films")}


def test_another_form_on_the_command_line_is_fused_as_that_form_is(tmp_path):
    file = tmp_path / "recipe.json"
    file.write_text(TrainingRecipe().model_dump_json())
    model = read_recipe(file, {"gcn": "causal"}).network.model
    assert (model.gcn, model.fusion) == ("causal", "moments")
    assert read_recipe(file, {"epochs": 3}).network == TrainingRecipe().network
