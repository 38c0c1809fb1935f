"""Real processes on a store and a database of their own; PostgreSQL where one is named."""

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
    """What `look` finds, as soon as it finds something; fails after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"nothing happened within {seconds} s")


class Place:
    """A store, a database, and the processes on them."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.store = Store(folder / "store")
        self.jobs = Jobs(self.store, url)
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """A process with this place's settings; its output goes to `output`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CLOUD_")}
        settings = {
            "CLOUD_STORE": str(self.store.folder),
            "CLOUD_DATABASE_URL": self.url,
            "CLOUD_ADMIN_TOKEN": TOKEN,
            "CLOUD_DEVICE": "cpu",
        }
        with self.output.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *command], env=kept | settings, stdout=output, stderr=output
            )
        self._processes.append(process)
        return process

    def worker(self, *before: str) -> subprocess.Popen[bytes]:
        return self.start(*before, str(FAKE_WORKER))

    def serve(self) -> tuple[subprocess.Popen[bytes], str]:
        """A cloud on a free port, and its address."""
        before = len(self.said())
        process = self.start("-m", "cloud_service.cli", "serve", "--port", "0")
        found = until(lambda: re.search(r"running on (http://[\d.:]+)", self.said()[before:]))
        return process, found[1]

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def said(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def until_said(self, words: str) -> None:
        until(lambda: words in self.said())

    def submit(self, ticks: int, seed: int = 0, *, promote: Promotion = "better") -> str:
        recipe = TrainingRecipe(epochs=ticks, seed=seed)
        return self.jobs.submit(JobRequest(recipe=recipe, promote=promote)).id

    def log(self, job: str) -> str:
        return self.jobs.files(job).read_log()[0].decode()

    def wait(self, job: str, *states: str, seconds: float = 20.0) -> Job:
        """The job, once it is in one of these states."""

        def look() -> Job | None:
            found = self.jobs.get(job)
            return found if found.state in states else None

        return until(look, seconds)

    def wait_for_log(self, job: str, text: str) -> None:
        until(lambda: text in self.log(job))

    def wait_for_epoch(self, job: str, epoch: int) -> None:
        """Until training is in this epoch; a job that ended before is a failure."""

        def look() -> bool:
            found = self.jobs.get(job)
            assert found.state in ("queued", "running"), (found.error, self.log(job))
            return found.progress is not None and found.progress.epoch >= epoch

        until(look, 30)

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
        self.jobs.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place whose jobs are in a SQLite file."""
    found = Place(tmp_path, f"sqlite:///{tmp_path}/jobs.sqlite")
    yield found
    found.close()


@pytest.fixture(scope="module")
def working_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place with a worker that runs; one for all tests of a module."""
    folder = tmp_path_factory.mktemp("place")
    found = Place(folder, f"sqlite:///{folder}/jobs.sqlite")
    found.worker()
    yield found
    found.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """The same on SQLite and on PostgreSQL, there in a database made for one test."""
    if request.param == "sqlite":
        found = Place(tmp_path, f"sqlite:///{tmp_path}/jobs.sqlite")
        yield found
        found.close()
        return
    server = os.environ.get(POSTGRESQL)
    if not server:
        pytest.skip(f"no PostgreSQL: set {POSTGRESQL} to postgresql://USER:PASSWORD@HOST/postgres")
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as line:
        line.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        try:
            found = Place(tmp_path, f"{server.rpartition('/')[0]}/{name}")
            yield found
            found.close()
        finally:
            line.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]
