"""Fixtures: real processes with their own store and database, SQLite or PostgreSQL."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest

from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.services.job import Job, JobRequest, Promotion
from cloud_service.services.jobs import Jobs
from cloud_service.storage.store import Store

POSTGRESQL = "TEST_POSTGRESQL_URL"
TOKEN = "a-long-admin-token"
FAKE_WORKER = Path(__file__).with_name("fake_worker.py")
Found = TypeVar("Found")


def until(look: Callable[[], Found | None], seconds: float = 20.0) -> Found:
    """Calls `look` until it returns something; returns that, or fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := look():
            return result
        time.sleep(0.05)
    raise AssertionError(f"nothing happened within {seconds} s")


class Place:
    """A store, a database of jobs, and the processes that use them."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.store = Store(folder / "store")
        self.jobs = Jobs(self.store, url)
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Starts a process with the settings of this place; appends its output to `output`."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("CLOUD_")
        }
        settings = {
            "CLOUD_STORE": str(self.store.folder),
            "CLOUD_DATABASE_URL": self.url,
            "CLOUD_ADMIN_TOKEN": TOKEN,
            "CLOUD_DEVICE": "cpu",
        }
        with self.output.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *command], env=environment | settings, stdout=output, stderr=output
            )
        self._processes.append(process)
        return process

    def worker(self, *before: str) -> subprocess.Popen[bytes]:
        return self.start(*before, str(FAKE_WORKER))

    def serve(self) -> tuple[subprocess.Popen[bytes], str]:
        """Starts a cloud on a free port; returns the process and the URL."""
        before = len(self.output_text())
        process = self.start("-m", "cloud_service.cli", "serve", "--port", "0")
        match = until(
            lambda: re.search(r"running on (http://[\d.:]+)", self.output_text()[before:])
        )
        return process, match[1]

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def output_text(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def until_printed(self, text: str) -> None:
        until(lambda: text in self.output_text())

    def submit(self, ticks: int, seed: int = 0, *, promote: Promotion = "better") -> str:
        recipe = TrainingRecipe(epochs=ticks, seed=seed)
        return self.jobs.submit(JobRequest(recipe=recipe, promote=promote)).id

    def log(self, job: str) -> str:
        return self.jobs.files(job).read_log()[0].decode()

    def wait(self, job: str, *states: str, seconds: float = 20.0) -> Job:
        """Waits until a job is in one of these states; returns the job."""

        def look() -> Job | None:
            shown = self.jobs.get(job)
            return shown if shown.state in states else None

        return until(look, seconds)

    def wait_for_log(self, job: str, text: str) -> None:
        until(lambda: text in self.log(job))

    def wait_for_epoch(self, job: str, epoch: int) -> None:
        """Waits until training reaches an epoch; fails if the job ends before."""

        def look() -> bool:
            shown = self.jobs.get(job)
            assert shown.state in ("queued", "running"), (shown.error, self.log(job))
            return shown.progress is not None and shown.progress.epoch >= epoch

        until(look, 30)

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
        self.jobs.close()


@pytest.fixture
def idle_place(tmp_path: Path) -> Iterator[Place]:
    """A place with its jobs in SQLite, without a worker."""
    world = Place(tmp_path, f"sqlite:///{tmp_path}/jobs.sqlite")
    yield world
    world.close()


@pytest.fixture(scope="module")
def working_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place with a running worker, shared by all tests of a module."""
    folder = tmp_path_factory.mktemp("place")
    world = Place(folder, f"sqlite:///{folder}/jobs.sqlite")
    world.worker()
    yield world
    world.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place on SQLite and one on PostgreSQL, in a new database."""
    if request.param == "sqlite":
        world = Place(tmp_path, f"sqlite:///{tmp_path}/jobs.sqlite")
        yield world
        world.close()
        return
    server = os.environ.get(POSTGRESQL)
    if not server:
        pytest.skip(f"no PostgreSQL: set {POSTGRESQL} to postgresql://USER:PASSWORD@HOST/postgres")
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as line:
        line.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        try:
            world = Place(tmp_path, f"{server.rpartition('/')[0]}/{name}")
            yield world
            world.close()
        finally:
            line.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]
