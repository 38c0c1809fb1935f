"""A small log as a file, an evaluation of it by the real command, and one in this process."""

import os
import subprocess
from pathlib import Path

import polars as pl
import pytest

from tests.instruments.processes import BIN

RECIPE = """
seeds = 2
epochs = 2
batch_size = 64

[grid]
learning_rate = [0.003, 0.01]

[[datasets]]
name = "small"
data = "clicks.csv"

[[models]]
network = "scn"

[[models]]
name = "corrected"
network = "scn+gcn"
gcn = "causal"
"""


@pytest.fixture(scope="session")
def clicks_file(tmp_path_factory) -> Path:
    """150 users and 160 items: enough to sample 100 negatives from."""
    from cloud_service.recommender.data.synthetic import synthetic_log

    log = synthetic_log(users=150, items=160, clicks_per_user=12, seed=3)
    users = [name for name, n in zip(log.user_ids, log.lengths, strict=True) for _ in range(n)]
    path = tmp_path_factory.mktemp("clicks") / "clicks.csv"
    items = [log.item_ids[number - 1] for number in log.items]
    frame = {"user_id": users, "item_id": items, "timestamp": log.timestamps}
    pl.DataFrame(frame).write_csv(path)
    return path


@pytest.fixture(scope="session")
def recipe_file(clicks_file) -> Path:
    """Two models, two seeds, a grid of two points."""
    path = clicks_file.parent / "small.toml"
    path.write_text(RECIPE)
    return path


def command(*words: str | Path) -> list[str]:
    return [str(BIN / "cloud-service"), *map(str, words)]


def one_thread() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}


@pytest.fixture(scope="session")
def evaluated(recipe_file, tmp_path_factory) -> Path:
    """The folder of that recipe, evaluated by the real command. Not to be changed by a test."""
    out = tmp_path_factory.mktemp("evaluated") / "evaluation"
    done = subprocess.run(
        command("evaluate", recipe_file, "--out", out, "--workers", "2", "--device", "cpu"),
        env=one_thread(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (out / "said").write_text(done.stderr)
    return out
