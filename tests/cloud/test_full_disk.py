"""A full disk, simulated by a limit of the kernel on the size of each file."""

import resource
import subprocess

from cloud_service.storage.store import Store
from tests.instruments.processes import BIN


def train(folder, largest_file=resource.RLIM_INFINITY):
    command = ["cloud-service", "train", "--data", "synthetic", "--epochs", "1"]
    return subprocess.run(
        [BIN / command[0], *command[1:], "--store", folder / "store", "--work", folder / "work"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file)),
    )


def test_a_training_that_runs_out_of_disk_says_so_and_goes_on_with_room(tmp_path):
    done = train(tmp_path, 1_200_000)  # the weights fit, the checkpoint does not
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
