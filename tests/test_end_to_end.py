"""The whole loop with real processes on a real click log: cloud, worker, devices, report."""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from device_client import Bundle, CorrectionLink, Session
from device_client.cloud import Cloud
from experiments.simulation.report import Report
from shared.outcomes import Outcome
from tests.instruments.processes import BIN, listening, running

pytestmark = pytest.mark.data


def command(*words: str, **environment: str) -> str:
    """Runs one of our commands to its end and gives what it printed."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith("CLOUD_")}
    done = subprocess.run(
        [str(BIN / words[0]), *words[1:]],
        capture_output=True,
        text=True,
        timeout=300,
        env=outside | environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def world(real_data, tmp_path_factory):
    """A cloud and a worker of their own, with MovieLens 100K in the data folder."""
    folder = tmp_path_factory.mktemp("world")
    data = folder / "data"
    data.mkdir()
    shutil.copy(real_data / "ml100k.csv.gz", data)
    settings = {
        "CLOUD_STORE": str(folder / "store"),
        "CLOUD_DATA_FOLDER": str(data),
        "CLOUD_SERVE_REPLAYS": "true",
    }
    with (
        running(["cloud-service", "serve", "--port", "0"], folder / "cloud.log", **settings) as c,
        running(["cloud-service", "worker"], folder / "worker.log", **settings),
    ):
        yield listening(c, folder / "cloud.log"), folder


def train(world: tuple[str, Path], *options: str) -> str:
    """Trains one short job to its end and gives the version it published."""
    url, folder = world
    said = command(
        "cloud-service", "jobs", "submit", "--url", url, "--store", str(folder / "store"),
        "--data", "ml100k.csv.gz", "--wait",
        "--epochs", "1", "--holdout-users", "0.1", "--dim", "32", "--heads", "2", *options,
    )  # fmt: skip
    return re.search("published version ([0-9a-f]{16})", said)[1]


@pytest.fixture(scope="module")
def trained(world):
    return train(world)


@pytest.mark.slow(45)
def test_a_job_on_a_real_log_publishes_what_the_running_cloud_serves(world, trained):
    url, _ = world
    deadline = time.monotonic() + 10
    while httpx.get(f"{url}/ready").status_code != httpx.codes.OK:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    manifest = httpx.get(f"{url}/v1/models/production").json()
    assert manifest["data"]["name"] == "ml100k"
    assert not manifest["data"]["synthetic"]
    assert manifest["data"]["users"] == 849
    assert manifest["metrics"]["local/all/ndcg@10"] > 0


@pytest.mark.slow
def test_devices_replay_held_out_users_and_the_report_adds_up(world, trained):
    url, folder = world
    said = command(
        "device-client", "simulate", "--url", url, "--profiles", "loopback,lte-typical",
        "--requests", "120", "--rate", "60", "--devices", "12",
        "--bundles", str(folder / "bundles"), "--report", str(folder / "report"),
    )  # fmt: skip
    assert "index.html" in said
    report = Report.model_validate_json((folder / "report" / "report.json").read_bytes())
    assert report.model.version == trained
    loopback, lte = report.profiles
    for profile in (loopback, lte):
        assert profile.requests >= 120
        assert set(profile.cases) == {"at-once", "after-pause"}
        assert report.quality[0].requests == profile.requests
        assert profile.cases["after-pause"].corrected_share > 0.9
    assert lte.share_within_budget == 0, "no round trip of 60 ms fits into 4.21 ms"
    at_once = [profile.cases["at-once"].corrected_share for profile in (loopback, lte)]
    assert at_once[0] > at_once[1]
    assert lte.legs.compute.p50 < lte.legs.cloud.p50, "the GCN's time is within the leg it is in"
    assert "of 1" in said, "progress is shown where there is no terminal"
    assert (folder / "report" / "parts" / "0.json").stat().st_size > 10_000
    sizes = json.loads((Path(folder / "bundles" / trained / "manifest.json")).read_text())["model"]
    assert loopback.traffic.payload_up == sizes["segment"] * sizes["dim"] * 4
    assert lte.legs.total.p50 > 55
    assert (folder / "report" / "index.html").stat().st_size > 50_000


def test_a_person_at_a_terminal_sees_both_rankings(world, trained):
    url, folder = world
    said = command(
        "device-client", "rerank", "--url", url, "--user", "0", "--top", "3", "--budget-ms", "2000",
        "--bundles", str(folder / "bundles"),
    )  # fmt: skip
    assert "served: applied" in said
    assert "without the correction" in said
    said = command(
        "device-client", "rerank", "--offline", "--clicks", "168", "172", "--top", "3",
        "--bundles", str(folder / "bundles"),
    )  # fmt: skip
    assert "served: offline" in said


@pytest.mark.slow
def test_a_device_with_the_version_before_is_answered_until_that_is_retired(world, trained):
    url, folder = world
    with Cloud(url) as cloud:
        bundle = Bundle.open(cloud.pull(folder / "bundles", trained))
        newer = train(world, "--gcn", "causal", "--promote", "always")
        assert newer != trained
        assert cloud.production() == newer
    candidates = np.arange(1, 50)
    with Session(bundle, CorrectionLink.to(url, bundle)) as session:
        session.click_row(5)
        assert session.settle(5).outcome is Outcome.APPLIED
        store = str(folder / "store")
        command("cloud-service", "models", "retire", trained, "--url", url, "--store", store)
        deadline = time.monotonic() + 10
        outcome = Outcome.APPLIED
        while outcome is Outcome.APPLIED:
            assert time.monotonic() < deadline
            time.sleep(0.2)
            session.click_row(6)
            outcome = session.settle(5).outcome
        assert outcome is Outcome.WRONG_MODEL
        assert len(session.rerank_rows(candidates).order) == 49
