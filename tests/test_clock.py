"""A wall clock that jumps by hours, as at a time server's correction: nothing waits by it."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from shared.model import ModelSettings
from shared.wire import DEADLINE_HEADER, HIDDEN_TYPE, Wire, correction_path
from tests.instruments.processes import listening, running

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
JUMPING = str(ROOT / "tests" / "instruments" / "jumping_clock.py")
DEVICE = str(ROOT / "tests" / "instruments" / "clock_device.py")


def hidden():
    found = np.zeros((10, 64), np.float32)
    found[:3] = np.random.default_rng(0).normal(size=(3, 64))
    return Wire(ModelSettings()).encode_hidden(found)


@pytest.fixture(scope="module")
def jumping_cloud(small_store, tmp_path_factory):
    """The address of a real cloud process with such a clock, and its log."""
    log = tmp_path_factory.mktemp("cloud") / "log"
    command = [sys.executable, JUMPING, "cloud_service.cli", "serve", "--port", "0"]
    settings = {"CLOUD_STORE": str(small_store.folder), "CLOUD_MAX_QUEUE_MS": "10000"}
    with running(command, log, **settings) as process:
        yield listening(process, log), log
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("clock", ["of the device", "of both sides"])
def test_budget_timeout_and_pause_go_by_another_clock_than_the_one_that_jumps(
    clock, served_store, jumping_cloud, small_bundle
):
    url = served_store if clock == "of the device" else jumping_cloud[0]
    done = subprocess.run(
        [sys.executable, JUMPING, DEVICE, url, str(small_bundle)],
        capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("hours") > 3  # it did jump meanwhile
    assert found == {
        "answered": ["applied"] * 30,
        "silent": ["timeout"] * 3 + ["offline"] * 2,
        "again": ["timeout"],
    }


def test_a_cloud_goes_on_counting_deadlines_and_keeps_its_connections(jumping_cloud, small_store):
    url, _ = jumping_cloud
    path = correction_path(small_store.production())
    kinds = {"content-type": HIDDEN_TYPE}
    with httpx.Client(base_url=url, trust_env=False) as http:
        for _ in range(30):
            late = {DEADLINE_HEADER: "60000"} | kinds
            answer = http.post(path, content=hidden(), headers=late)
            assert answer.status_code == 200, answer.text
            assert http.get("/health").status_code == 200
        past = {DEADLINE_HEADER: "0"} | kinds
        assert http.post(path, content=hidden(), headers=past).status_code == 504
        assert http.get("/ready").json()["production"] == small_store.production()
