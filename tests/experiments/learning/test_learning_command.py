"""`cloud-service evaluate` with a recipe of learning: from a log to a page of tables, resumed."""

import csv
import json

import numpy as np
import pytest

from cloud_service.recommender.data.synthetic import synthetic_log
from experiments.learning.command import evaluate_learning
from experiments.learning.recipe import parse_learning
from experiments.learning.run import perform
from shared.errors import InvalidRequest

SMALL = {
    "protocol": "prequential",
    "rows": ["scn", "memory", "patch", "corrected", "everything"],
    "length": 5,
    "segment": 5,
    "dim": 16,
    "heads": 2,
    "gcn_dim": 16,
    "epochs": 1,
}


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    """A log of 60 users as CSV."""
    log = synthetic_log(users=60, items=80, clicks_per_user=20)
    path = tmp_path_factory.mktemp("log") / "small.csv"
    rows = np.repeat(np.arange(log.user_count), log.lengths)
    with path.open("w") as file:
        file.write("user_id,item_id,timestamp\n")
        for user, item, time in zip(rows, log.items, log.timestamps, strict=True):
            file.write(f"{log.user_ids[user]},{log.item_ids[item - 1]},{time}\n")
    return path


def evaluated(clicks, folder):
    recipe = parse_learning(SMALL | {"datasets": [{"name": "unused", "data": "x"}]}, "test", folder)
    return evaluate_learning(
        recipe, data=[str(clicks)], overrides={}, treatment={}, seeds=1, out_folder=folder,
        data_folder=folder, workers=1, device="cpu",
    )  # fmt: skip


def test_a_log_becomes_a_page_of_figures_and_nothing_is_done_twice(clicks, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.learning.command._run", lambda jobs, workers: _here(jobs))
    assert evaluated(clicks, tmp_path)
    folder = tmp_path / "devices" / "small-seed0"
    about = json.loads((folder / "about.json").read_text())
    assert about["identity"]["cut"] == "time"
    with (tmp_path / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    shown = {(line["row"], line["reference"]) for line in lines if line["users"] == "all"}
    assert ("everything", "corrected") in shown
    assert ("patch", "memory") in shown
    gains = np.load(folder / "patch-next.npy")
    figures = {
        float(line["ndcg@10"])
        for line in lines
        if (line["row"], line["view"], line["users"]) == ("patch", "next", "all")
    }
    assert figures == {round(float(gains.mean()), 6)}
    page = (tmp_path / "summary.md").read_text()
    assert "against corrected" in page
    assert "the same" in page
    written = {path: path.stat().st_mtime_ns for path in folder.glob("*.npy")}
    assert evaluated(clicks, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.npy")} == written
    (folder / "patch-next.npy").unlink()  # cut off: this row is ranked again, the others stay
    assert evaluated(clicks, tmp_path)
    np.testing.assert_array_equal(np.load(folder / "patch-next.npy"), gains)


def _here(jobs):
    for job in jobs:
        perform(job, lambda line: None)
    return False


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": ["scnn"]}, "no row scnn: did you mean scn"),
        ({"grid": {"epochs": [1, 2]}}, "a grid is not searched here"),
        ({"datasets": []}, "at least one data set"),
        ({"epoks": 1}, "no key epoks"),
    ],
)
def test_faults_of_a_recipe_are_named(tmp_path, change, words):
    values = SMALL | {"datasets": [{"data": "movielens-100k"}]} | change
    with pytest.raises(InvalidRequest, match=words):
        parse_learning(values, "learning.toml", tmp_path)
