"""`cloud-service evaluate` as it is run: to the end, killed and run again, with a dead worker."""

import csv
import multiprocessing as mp
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from experiments.comparison.comparison_recipe import parse
from experiments.comparison.datasets import open_data
from experiments.comparison.plan import cells
from experiments.comparison.results import read_about
from experiments.comparison.scheduler import Evaluation
from experiments.comparison.tasks import Advanced, Ended
from tests.experiments.comparison.conftest import command, one_thread

pytestmark = pytest.mark.slow(20)

METRICS = [f"ndcg@{k}" for k in (5, 10, 20)] + [f"hitrate@{k}" for k in (1, 5, 10, 20)]


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_two_models_two_seeds_and_a_grid_give_one_tidy_table(evaluated):
    rows = rows_of(evaluated / "results.csv")
    assert list(rows[0]) == ["dataset", "model", "seed", "protocol", "metric", "value"]
    found = {(row["model"], row["seed"], row["protocol"], row["metric"]) for row in rows}
    assert found == {
        (model, seed, protocol, metric)
        for model in ("scn", "corrected", "corrected/local")
        for seed in ("0", "1")
        for protocol, metrics in (("all", METRICS), ("sampled100", [*METRICS, "uauc"]))
        for metric in metrics
    }
    assert len(rows) == len(found)
    assert all(0 < float(row["value"]) < 1 for row in rows if row["metric"] == "uauc")


def test_runs_say_what_was_searched_and_what_it_cost(evaluated):
    rows = rows_of(evaluated / "runs.csv")
    assert len(rows) == 2 * 3
    for row in rows:
        assert row["status"] == "done"
        assert row["point"].startswith("learning_rate=")
        assert float(row["seconds"]) > 0
        assert int(row["parameters"]) > 160 * 64
        assert int(row["epochs"]) == 2
        assert row["loss"] == "softmax"
    for model in ("scn", "corrected"):
        mine = [row for row in rows if row["model"] == model]
        best = max(mine, key=lambda row: (row["seed"] == "0", float(row["validation_ndcg@10"])))
        assert {row["point"] for row in mine if row["chosen"] == "yes"} == {best["point"]}


def test_without_a_terminal_progress_is_plain_lines(evaluated):
    lines = (evaluated / "said").read_text().splitlines()
    assert lines[0].startswith("small: 150 users, 160 items")
    assert all(line.startswith("doubtful: small: ") for line in lines[1:3])
    assert lines[3].startswith("8 runs, 2 at a time")
    assert sum(line.startswith("begins: ") for line in lines) == 8
    assert "8/8  small / " in lines[-1]
    assert "validation NDCG@10" in lines[-1]
    assert not any("\x1b" in line for line in lines)


def workers_of(parent: int) -> list[int]:
    """Processes whose parent is `parent`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_killed_with_minus_nine_it_goes_on_to_the_same_bytes(evaluated, recipe_file, tmp_path):
    """A real process, killed while runs train; its workers end with it."""
    out = tmp_path / "evaluation"
    words = command("evaluate", recipe_file, "--out", out, "--workers", "1", "--device", "cpu")
    killed = subprocess.Popen(words, env=one_thread(), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (list(out.glob("runs/*/trained.json")) and list(out.glob("runs/*/epoch-*"))):
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.002)
    workers = workers_of(killed.pid)
    assert workers
    killed.kill()
    killed.wait()
    while any(map(is_running, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(list(out.glob("runs/*/result.json"))) < 4
    done = subprocess.run(words, env=one_thread(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("begins: ") < 8
    assert (out / "results.csv").read_bytes() == (evaluated / "results.csv").read_bytes()
    assert not list(out.rglob("*.draft"))


def test_a_worker_that_is_killed_is_reported_and_the_others_go_on(
    clicks_file, tmp_path, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    values = {
        "datasets": [{"data": str(clicks_file)}],
        "models": [
            {"network": "scn", "epochs": 10_000, "patience": 10_000},
            {"network": "scn+gcn", "gcn": "causal", "epochs": 1},
        ],
    }
    recipe = parse(values, "recipe")
    facts = open_data(recipe, tmp_path)
    evaluation = Evaluation(recipe, cells(recipe), facts, tmp_path / "out", tmp_path)
    killed, ended = False, {}
    for event in evaluation.run(1, device="cpu"):
        if isinstance(event, Advanced) and event.progress.epoch and not killed:
            (worker,) = mp.active_children()
            os.kill(worker.pid, signal.SIGKILL)
            killed = True
        elif isinstance(event, Ended):
            ended[event.task.recipe.network.kind] = event
    assert ended["scn+gcn"].status == "done"
    assert ended["scn"].status == "failed"
    assert "was killed" in ended["scn"].reason
    assert "fewer --workers" in evaluation.problems()[0]
    assert evaluation.done == evaluation.total


def test_what_is_done_to_a_log_is_said_by_options_and_beside_the_figures(tmp_path):
    rows = [f"u{u:02},i{(u * 7 + k * k) % 50},{k // 2}" for u in range(30) for k in range(10)]
    rows += [f"bot,i{k % 50},{k}" for k in range(500)]
    data = tmp_path / "clicks.csv"
    data.write_text("user_id,item_id,timestamp\n" + "\n".join(rows + rows[:20]) + "\n")
    words = command(
        "evaluate", "--data", data, "--models", "popularity", "--out", tmp_path / "out",
        "--ties", "file", "--repeats", "all", "--max-user-clicks", "9", "--device", "cpu",
    )  # fmt: skip
    done = subprocess.run(words, env=one_thread(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "another and count; of 31 users only the newest 9 clicks" in done.stderr
    assert "doubtful: clicks: 20 of 820 rows repeat the user, item and time" in done.stderr
    assert "doubtful: clicks: only 31 users" in done.stderr
    assert "one user has" not in done.stderr  # the cap took that away
    assert "(a random ranking)" in done.stdout
    cautions = done.stderr.count("doubtful: ")
    assert f"what to doubt: {cautions} cautions above" in " ".join(done.stdout.split())
    about = read_about(tmp_path / "out")
    assert about.datasets[0].checks.clicks_cut == 820 - 31 * 9
    assert about.datasets[0].checks.ties == "file"
