"""A full disk, simulated by a limit of the kernel on the size of each file."""

import resource
import subprocess

import pytest

from cloud_service.storage.store import Store
from tests.instruments.logs import small_csv
from tests.instruments.processes import BIN

pytestmark = pytest.mark.slow(10)

LARGEST = 600_000


def train(folder, largest_file=resource.RLIM_INFINITY):
    command = ["cloud-service", "train", "--data", folder / "shop.csv"]
    command += ["--epochs", "1", "--gcn", "causal"]
    return subprocess.run(
        [BIN / command[0], *command[1:], "--store", folder / "store", "--work", folder / "work"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file)),
    )


def test_a_training_that_runs_out_of_disk_says_so_and_goes_on_with_room(tmp_path):
    small_csv(tmp_path / "shop.csv")
    done = train(tmp_path, LARGEST)  # the weights fit, the checkpoint does not
    said = done.stderr.splitlines()[-1]
    assert done.returncode == 2, done.stderr
    assert said.startswith("cloud-service: the checkpoint ")
    assert "File too large" in said
    assert "Traceback" not in done.stderr
    store = Store(tmp_path / "store")
    assert store.versions() == []
    done = train(tmp_path)
    assert done.returncode == 0, done.stderr
    (version,) = store.versions()
    assert store.production() == version
    store.checked(version)
