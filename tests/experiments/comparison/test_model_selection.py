"""A recipe on a log of one's own, and what validation would serve of it."""

import shutil
import subprocess

import pytest

from experiments.comparison.model_selection import select_model
from experiments.comparison.results_reader import EvaluationResults
from experiments.comparison.tables import write_tables
from tests.experiments.comparison.conftest import command, one_thread

pytestmark = pytest.mark.slow

RECIPE = """
epochs = 2
reference = "plain/local"

[[datasets]]
name = "elsewhere"
data = "elsewhere.csv"

[[models]]
name = "together"
network = "scn+gcn"
gcn = "causal"

[[models]]
name = "plain"
network = "scn+gcn"
gcn = "projected"

[[models]]
name = "shuffled"
network = "scn+gcn"
gcn = "projected"
ablation = "shuffled-users"

[[models]]
name = "readout"
network = "scn+gcn"
gcn = "projected"
readout = "mlp"
"""


@pytest.fixture(scope="module")
def own_log(clicks_file, tmp_path_factory):
    """That recipe, whose own log is nowhere, on the clicks of this folder."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "four.toml").write_text(RECIPE)
    words = [
        folder / "four.toml",
        "--data",
        clicks_file,
        "--min-user",
        "4",
        "--out",
        folder / "out",
    ]
    done = subprocess.run(
        command("evaluate", *words, "--workers", "2", "--device", "cpu"),
        env=one_thread(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder / "out"


def test_a_recipe_runs_on_a_log_of_ones_own(own_log):
    board = EvaluationResults.read(own_log)
    assert [each.name for each in board.about.datasets] == ["clicks"]
    assert "at least 4 interactions" in board.about.datasets[0].preprocessing
    for row in ("together", "plain", "plain/local", "shuffled", "readout", "readout/local"):
        assert 0 < board.figure("clicks", row, "sampled100", "uauc").mean < 1


def test_validation_chooses_the_network_and_then_what_corrects_it(own_log):
    board = EvaluationResults.read(own_log)
    runs = {run["model"]: run for run in board.runs}
    ours, local = "validation_ndcg@10", "validation_ndcg@10/local"
    assert runs["plain"][local] == runs["shuffled"][local] != runs["readout"][local]
    assert not runs["together"][local]  # nobody validated it alone

    found = select_model(board, "clicks")
    alone = max(float(run[local]) for run in runs.values() if run[local])
    best = max(
        (run for run in runs.values() if run[local] and float(run[local]) == alone),
        key=lambda run: float(run[ours]),
    )
    assert (found.model, found.alone_validation) == (best["model"], alone)
    assert found.validation == float(best[ours])
    for row, figure in (
        (found.model, found.comparison.value),
        (f"{found.model}/local", found.comparison.reference),
    ):
        assert figure == pytest.approx(board.figure("clicks", row, "all", "ndcg@10").mean)


def test_the_summary_says_it(own_log):
    found = select_model(EvaluationResults.read(own_log), "clicks")
    write_tables(EvaluationResults.read(own_log), "plain/local")
    page = (own_log / "tables" / "summary.md").read_text()
    lines = page.partition("## What is served")[2].splitlines()
    line = next(line for line in lines if line.startswith("| clicks |"))
    compared = found.comparison
    assert line.startswith(
        f"| clicks | {found.model} | {compared.reference:.4f} | {compared.value:.4f} |"
    )
    assert f"{found.alone_validation:.4f} | {found.validation:.4f} |" in line


def test_a_model_that_diverged_is_not_served(own_log):
    board = EvaluationResults.read(own_log)
    first = select_model(board, "clicks").model
    for run in board.runs:
        if run["model"] == first:
            run["status"] = "diverged"
    assert select_model(board, "clicks").model != first


def test_where_no_network_was_trained_alone_nothing_is_served(evaluated, tmp_path):
    board = EvaluationResults.read(shutil.copytree(evaluated, tmp_path / "evaluation"))
    assert select_model(board, "small") is None
    write_tables(board, "scn")
    assert "What is served" not in (board.folder / "tables" / "summary.md").read_text()
