"""Searching, choosing and going on: what an evaluation does, with a trainer that takes no time."""

import fcntl

import pytest

from cloud_service.recommender.ranking.metrics import rank_metrics
from experiments.comparison import run as runs
from experiments.comparison.files import read_ranks
from experiments.comparison.results import read_results, read_runs
from experiments.comparison.results_reader import EvaluationResults
from experiments.comparison.tables import write_tables
from shared.errors import DataError, InvalidRequest
from tests.experiments.comparison.in_process import FakeTrainer, evaluate


@pytest.fixture
def trained(monkeypatch):
    """What the fake trainer was asked for."""
    monkeypatch.setattr(runs, "Trainer", FakeTrainer)
    monkeypatch.setattr(FakeTrainer, "trained", [])
    return FakeTrainer.trained


@pytest.fixture
def recipe(clicks_file, tmp_path):
    """Writes a recipe over the small log."""

    def write(text="", *models, log=clicks_file):
        path = tmp_path / "recipe.toml"
        rows = "".join(f"[[models]]\n{lines}\n" for lines in models or (SCN,))
        path.write_text(f'{text}\n[[datasets]]\nname = "small"\ndata = "{log}"\n{rows}')
        return path

    return write


SCN, GCN = 'network = "scn"', 'network = "scn+gcn"\ngcn = "causal"'
GRID = "seeds = [4, 9]\n[grid]\nlearning_rate = [0.002, 0.01, 0.03]\n"


def test_the_best_point_on_validation_goes_on_to_all_seeds(trained, recipe, tmp_path):
    evaluation = evaluate(recipe(GRID), tmp_path / "out")
    assert trained[:3] == [("scn", 0.002, 4), ("scn", 0.01, 4), ("scn", 0.03, 4)]
    assert {entry[1] for entry in trained[3:]} == {0.01}
    assert (evaluation.done, evaluation.total) == (5, 5)
    rows = read_runs(tmp_path / "out")
    assert [(row["seed"], row["point"], row["chosen"]) for row in rows] == [
        ("4", "learning_rate=0.002", "no"),
        ("4", "learning_rate=0.03", "no"),
        ("4", "learning_rate=0.01", "yes"),
        ("9", "learning_rate=0.01", "yes"),
    ]
    figures = read_results(tmp_path / "out")["small", "scn", "all", "ndcg@10"]
    assert set(figures) == {4, 9}


def test_a_second_time_nothing_is_trained_and_the_results_are_the_same(trained, recipe, tmp_path):
    out = tmp_path / "out"
    evaluate(recipe(GRID), out)
    first = (out / "results.csv").read_bytes()
    trained.clear()
    evaluation = evaluate(recipe(GRID), out)
    assert trained == []
    assert evaluation.done == evaluation.total
    assert (out / "results.csv").read_bytes() == first


@pytest.mark.slow
def test_an_edited_recipe_trains_only_what_changed(trained, recipe, tmp_path):
    out = tmp_path / "out"
    evaluate(recipe("seeds = 2", SCN, GCN), out)
    trained.clear()
    evaluate(recipe("seeds = 3", SCN, f"{GCN}\nepochs = 7"), out)
    assert [(name, seed) for name, _, seed in trained] == [
        ("scn", 2), ("scn+gcn", 0), ("scn+gcn", 1), ("scn+gcn", 2)
    ]  # fmt: skip


def test_changed_clicks_are_another_run(trained, recipe, tmp_path, clicks_file):
    out, log = tmp_path / "out", tmp_path / "clicks.csv"
    lines = clicks_file.read_text().splitlines(keepends=True)
    path = recipe(log=log)
    for kept in (lines, lines[:-1]):
        log.write_text("".join(kept))
        assert evaluate(path, out).problems() == []
    assert len(trained) == 2
    assert len(list((out / "runs").iterdir())) == 2


def test_a_grid_point_that_diverges_is_not_chosen(trained, recipe, tmp_path):
    evaluation = evaluate(recipe("[grid]\nlearning_rate = [0.9, 0.03]"), tmp_path / "out")
    assert evaluation.problems() == []
    rows = read_runs(tmp_path / "out")
    assert [(row["status"], row["chosen"]) for row in rows] == [("diverged", "no"), ("done", "yes")]
    assert rows[0]["validation_ndcg@10"] == ""
    assert "not finite" in rows[0]["reason"]


@pytest.mark.parametrize(
    "options", ["learning_rate = 0.9", "grid = {learning_rate = [0.8, 0.9]}"], ids=["one", "grid"]
)
def test_a_model_that_diverges_is_called_so_and_never_a_zero(trained, recipe, tmp_path, options):
    out = tmp_path / "out"
    path = recipe("uneven_search = true", f"{SCN}\n{options}", GCN)
    (problem,) = evaluate(path, out).problems()
    assert problem.startswith("scn on small")
    assert "diverged" in problem
    assert {key[1] for key in read_results(out)} == {"scn+gcn", "scn+gcn/local"}
    write_tables(EvaluationResults.read(out), "scn+gcn")
    page = (out / "tables" / "small.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| scn |"))
    assert row == "| scn |" + " diverged |" * 7 + " 0 |"
    assert evaluate(path, out).problems() == [problem]


def test_a_seed_that_diverges_is_left_out_of_the_mean_and_counted(
    trained, recipe, tmp_path, monkeypatch
):
    def sometimes(self, fit=FakeTrainer.fit):
        if self.recipe.optimisation.seed == 1:
            raise runs.TrainingDiverged("loss or scores are not finite in epoch 3")
        return fit(self)

    monkeypatch.setattr(FakeTrainer, "fit", sometimes)
    out = tmp_path / "out"
    evaluation = evaluate(recipe("seeds = 3"), out)
    assert evaluation.problems() == [
        "scn on small, seed 1: diverged: loss or scores are not finite in epoch 3"
    ]
    board = EvaluationResults.read(out)
    assert board.figure("small", "scn", "all", "ndcg@10").seeds == 2
    assert board.missing("small", "scn") == "1 of 3 diverged"


def test_scores_that_are_not_finite_when_tested_are_a_divergence(
    trained, recipe, tmp_path, monkeypatch
):
    def broken(*_, **__):
        raise ValueError("scores hold NaN or infinity: the training diverged")

    monkeypatch.setattr(runs, "held_out", broken)
    evaluation = evaluate(recipe(), tmp_path / "out")
    assert "diverged: scores hold NaN" in evaluation.problems()[0]
    assert (tmp_path / "out" / "results.csv").read_text().count("\n") == 1


def test_what_fails_is_tried_again_the_next_time(trained, recipe, tmp_path, monkeypatch):
    def full(self):
        raise DataError("the checkpoint cannot be written: No space left on device")

    out, path = tmp_path / "out", recipe(GRID)
    with monkeypatch.context() as broken:
        broken.setattr(FakeTrainer, "fit", full)
        evaluation = evaluate(path, out)
    assert evaluation.problems() == [
        "scn on small: the search failed: the checkpoint cannot be written: No space left on device"
    ]
    assert read_runs(out)[0]["status"] == "failed"
    assert evaluate(path, out).problems() == []


def test_every_models_ranks_are_kept_and_give_its_figures(trained, recipe, tmp_path):
    out = tmp_path / "out"
    evaluate(recipe("", GCN), out)
    (row,) = read_runs(out)
    results = read_results(out)
    for name, file in (("scn+gcn", "ranks.npz"), ("scn+gcn/local", "ranks-local.npz")):
        found = read_ranks(out / row["folder"] / file)
        for protocol, negatives in (("all", None), ("sampled100", 100)):
            figures = rank_metrics(protocol, found[protocol][0], negatives=negatives)
            for key, value in figures.items():
                assert results["small", name, protocol, key.split("/")[1]] == {0: value}


def test_two_rows_of_the_same_training_are_trained_once(trained, recipe, tmp_path):
    evaluate(recipe("", SCN, f'{SCN}\nname = "again"'), tmp_path / "out")
    assert len(trained) == 1
    assert {key[1] for key in read_results(tmp_path / "out")} == {"scn", "again"}


@pytest.mark.slow
def test_a_part_of_a_recipe_is_run_and_the_results_show_all_that_is_done(trained, recipe, tmp_path):
    out, path = tmp_path / "out", recipe(GRID, SCN, GCN)
    for name, others in (("scn", set()), ("scn+gcn", {"scn"})):
        trained.clear()
        evaluation = evaluate(path, out, selected=lambda cell, name=name: cell.model.name == name)
        assert {network for network, _, _ in trained} == {name}
        assert (evaluation.done, evaluation.total) == (5, 5)
        assert {row["model"] for row in read_runs(out)} == others | {name}
    in_parts = (out / "results.csv").read_bytes()
    evaluate(path, tmp_path / "whole")
    assert (tmp_path / "whole" / "results.csv").read_bytes() == in_parts


def test_two_evaluations_never_share_a_folder(trained, recipe, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with (out / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InvalidRequest, match="another evaluation runs in"):
            evaluate(recipe(), out)
    assert trained == []
