"""What `docker compose up` tells the devices, without an engine: their command, run by a shell."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")
COMPOSE = Path(__file__).parent.parent / "docker-compose.yml"


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load(COMPOSE.read_text("utf-8"))


def run_devices(compose: Any, folder: Path, trained: str, **environment: str) -> Any:
    """Runs the command of the devices with a `device-client` that prints its arguments."""
    client = folder / "device-client"
    client.write_text('#!/bin/sh\nprintf "%s\\n" "argument" "$@"\n')
    client.chmod(0o755)
    if trained:
        (folder / "model").write_text(trained + "\n")
    *shell, script = compose["services"]["devices"]["command"]
    script = script.replace("$$", "$").replace("/run/trained/model", str(folder / "model"))
    return subprocess.run(
        [*shell, script],
        env={"PATH": f"{folder}:{os.environ['PATH']}", "REPORT": "./report", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_devices_ask_for_the_model_that_was_trained_on_the_data_asked_for(
    compose: Any, tmp_path: Path
) -> None:
    said = run_devices(compose, tmp_path, "mine.csv-1a2b").stdout.splitlines()
    assert said[said.index("--model") + 1] == "mine.csv-1a2b"
    assert "--think" not in said


def test_devices_take_options_from_the_environment(compose: Any, tmp_path: Path) -> None:
    done = run_devices(
        compose, tmp_path, "mine", SIMULATE_MODEL="production", SIMULATE_THINK="human"
    )
    said = done.stdout.splitlines()
    assert said[said.index("--model") + 1] == "production"
    assert said[said.index("--think") + 1] == "human"


def test_devices_without_a_trained_model_report_of_no_other(compose: Any, tmp_path: Path) -> None:
    done = run_devices(compose, tmp_path, "")
    assert done.returncode != 0
    assert "argument" not in done.stdout


def test_every_variable_of_the_devices_reaches_them(compose: Any) -> None:
    devices = compose["services"]["devices"]
    names = {name for name in devices["environment"] if name.startswith("SIMULATE_")}
    assert names >= {"SIMULATE_THINK", "SIMULATE_MODEL"}
    script = devices["command"][-1]
    assert all(f"{{{name}:" in script for name in names)
    assert all(name in COMPOSE.read_text("utf-8").split("services:")[0] for name in names)


def test_devices_can_be_scaled(compose: Any) -> None:
    devices = compose["services"]["devices"]
    assert "container_name" not in devices
    assert "ports" not in devices
    shared = [volume.rsplit(":", 1)[-1] for volume in devices["volumes"]]
    assert "/report" in shared
