"""The training script of compose: it trains a model of the requested data, once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cloud.jobs.conftest import TOKEN

pytestmark = pytest.mark.slow(8)

SCRIPT = Path(__file__).parents[3] / "docker" / "train_once.py"


@pytest.fixture(scope="module")
def train_once(working_place, tmp_path_factory):
    """Returns a function that runs the script with TRAIN_ variables.

    That function returns exit code, output and the alias that the script wrote.
    """
    folder = tmp_path_factory.mktemp("once")
    (folder / "token").write_text(TOKEN)
    (working_place.store.folder / "data" / "mine.csv").write_text("user_id,item_id,timestamp\n")
    _, url = working_place.serve()

    def run(**variables):
        file = folder / "model"
        file.unlink(missing_ok=True)
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("TRAIN_", "CLOUD_"))
        }
        done = subprocess.run(
            [sys.executable, SCRIPT, url, file],
            env=environment | {"ADMIN_TOKEN_FILE": str(folder / "token")} | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )
        output = done.stdout + done.stderr
        return done.returncode, output, file.read_text().strip() if file.exists() else None

    return run


def test_it_trains_what_is_asked_for_once_and_says_which_model_that_is(working_place, train_once):
    store = working_place.store
    code, output, alias = train_once(TRAIN_EPOCHS="1")
    assert (code, alias) == (0, "synthetic")
    assert "published version" in output
    first_version = store.pointed_at("synthetic")
    code, output, alias = train_once(TRAIN_EPOCHS="2")
    assert (code, alias) == (0, "synthetic")
    assert f"synthetic is version {first_version} (data: synthetic): nothing to train" in output
    assert len(store.versions()) == 1

    code, output, mine = train_once(TRAIN_EPOCHS="1", TRAIN_DATA="mine.csv")
    assert code == 0, output
    assert mine not in (None, "synthetic", "production")
    assert store.pointed_at(mine) not in (None, first_version)
    assert store.production() == store.pointed_at("synthetic") == first_version
    assert "nothing to train" in train_once(TRAIN_DATA="mine.csv")[1]
    # Other filters are other data.
    code, output, _ = train_once(TRAIN_EPOCHS="1", TRAIN_DATA="mine.csv", TRAIN_MIN_USER="7")
    assert (code, "nothing to train" in output) == (0, False)


def test_again_trains_and_serves_though_the_new_model_is_worse(working_place, train_once):
    train_once(TRAIN_EPOCHS="1")
    before = working_place.store.pointed_at("synthetic")
    options = {"TRAIN_EPOCHS": "1", "TRAIN_SEED": "4"}
    code, _, alias = train_once(TRAIN_AGAIN="1", **options)
    assert (code, alias) == (0, "synthetic")
    assert working_place.store.pointed_at("synthetic") != before


def test_a_job_that_fails_leaves_no_model_for_the_devices(train_once):
    code, output, alias = train_once(TRAIN_AGAIN="1", TRAIN_EPOCHS="1", TRAIN_SEED="1")
    assert (code, alias) == (1, None)
    assert "no item was clicked twice" in output


def test_data_that_are_not_there_are_said_with_the_command_that_fetches_them(train_once):
    code, output, alias = train_once(TRAIN_DATA="online-retail")
    assert (code, alias) == (2, None)
    assert "`cloud-service fetch online-retail --folder" in output
