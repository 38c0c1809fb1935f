"""The worker: a process of its own that runs training jobs, one at a time.

It may die at any moment. The workflow (run and publish, then promote) is kept in the database and
training leaves checkpoints in the job's folder, so the next worker goes on where this one was. Two
workers never share a job: only the holder of the lock runs, a second one stands by.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

from dbos import DBOS, DBOSPortableJSONSerializer
from dbos._error import DBOSAwaitedWorkflowCancelledError
from pydantic import ValidationError

from cloud_service.publishing.promotion import Verdict, promote
from cloud_service.recommender.progress import Progress
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.services.data_names import resolve_data
from cloud_service.services.heartbeat import SECONDS as HEARTBEAT_SECONDS
from cloud_service.services.heartbeat import Heartbeat
from cloud_service.services.job import JobRequest
from cloud_service.services.job_errors import JobCancelled, JobFailed, JobsUnavailable
from cloud_service.services.job_files import JobFiles
from cloud_service.services.jobs import (
    APPLICATION,
    APPLICATION_VERSION,
    ATTEMPTS,
    QUEUE,
    WORKFLOW,
    Jobs,
)
from cloud_service.services.worker_lock import only_one_in, only_one_on
from cloud_service.settings import CloudSettings
from cloud_service.storage.store import Store
from shared.errors import RecommendationError

EXECUTOR: Final = "worker"
"""The same for every worker: that is how a new one finds what the dead one left."""
CANCEL_SECONDS: Final = 0.5
PROGRESS_SECONDS: Final = 0.25
_log = logging.getLogger(__name__)


class Train(Protocol):
    """`cloud_service.publishing.pipeline.train_and_publish`."""

    def __call__(
        self,
        recipe: TrainingRecipe,
        *,
        store: Store,
        work: Path,
        data_folder: Path,
        device: str,
        report: Callable[[Progress], None],
        log: Callable[[str], None],
    ) -> str: ...


class Judge(Protocol):
    """`cloud_service.publishing.judge.judged`."""

    def __call__(
        self, recipe: TrainingRecipe, store: Store, data_folder: Path, version: str, current: str
    ) -> Verdict: ...


class JobRunner:
    """Runs one job's training and says how it goes."""

    def __init__(
        self, settings: CloudSettings, store: Store, jobs: Jobs, train: Train, judge: Judge
    ) -> None:
        self._settings, self._store, self._jobs = settings, store, jobs
        self._train, self._judge = train, judge
        # A cancelled job gives its place in the queue away before its last step has ended.
        self._one_at_a_time = threading.Lock()
        self.running: str | None = None
        """The job that runs now."""

    def run(self, job: str, request: JobRequest) -> str:
        """Trains and publishes; returns the version. Raises JobCancelled or JobFailed."""
        files = JobFiles(self._store.job_folder(job), self._settings.secrets())
        with self._one_at_a_time, self._shown(job, request), _said(files):
            again = files.began()
            files.log("Going on after an interruption." if again else "Started.")
            report = Reporter(files, lambda: self._jobs.is_cancelled(job))
            report.check()
            work = files.folder / "work"
            work.mkdir(exist_ok=True)
            return self._train(
                self._with_files(request.recipe),
                store=self._store,
                work=work,
                data_folder=self._settings.log_folder,
                device=self._settings.device,
                report=report,
                log=files.log,
            )

    @contextmanager
    def _shown(self, job: str, request: JobRequest) -> Iterator[None]:
        """Says in the worker's own log when a job begins and how it ended."""
        self.running, began = job, time.monotonic()
        _log.info("job %s begins: data %s", job, request.recipe.data)
        try:
            yield
        except (JobFailed, JobCancelled) as error:
            _log.info("job %s ended after %.0f s: %s", job, time.monotonic() - began, error)
            raise
        finally:
            self.running = None
        _log.info("job %s has published after %.0f s", job, time.monotonic() - began)

    def promote(self, job: str, version: str, request: JobRequest) -> str:
        """Points aliases at a job's result, and says which and why. Raises JobFailed."""
        files = JobFiles(self._store.job_folder(job), self._settings.secrets())
        with _said(files):
            recipe, folder = self._with_files(request.recipe), self._settings.log_folder

            def judge(new: str, current: str) -> Verdict:
                files.log(f"Comparing with version {current}.")
                return self._judge(recipe, self._store, folder, new, current)

            outcome = promote(self._store, version, request.promote, judge)
            files.log(f"{outcome[0].upper()}{outcome[1:]}.")
            _log.info("job %s: %s", job, outcome)
            return outcome

    def _with_files(self, recipe: TrainingRecipe) -> TrainingRecipe:
        data, items = resolve_data(recipe.data, recipe.items, self._settings.log_folder)
        return recipe.model_copy(update={"data": data, "items": items})


class Reporter:
    """The `report` of a training run: writes progress, and stops the run once cancelled."""

    def __init__(self, files: JobFiles, cancelled: Callable[[], bool]) -> None:
        self._files, self._cancelled = files, cancelled
        self._written = self._checked = float("-inf")
        self._phase = ""

    def __call__(self, progress: Progress) -> None:
        """Raises JobCancelled where the job was."""
        now = time.monotonic()
        if progress.phase != self._phase or now - self._written >= PROGRESS_SECONDS:
            self._files.write_progress(progress)
            self._phase, self._written = progress.phase, now
        if now - self._checked >= CANCEL_SECONDS:
            self.check()

    def check(self) -> None:
        """Raises JobCancelled where the job was."""
        self._checked = time.monotonic()
        try:
            cancelled = self._cancelled()
        except JobsUnavailable:
            return  # a database that hiccups is no reason to lose an hour of training
        if cancelled:
            raise JobCancelled("the job was cancelled")


@contextmanager
def _said(files: JobFiles) -> Iterator[None]:
    """Turns whatever ends a job into a line of its log and a JobFailed in plain words."""
    try:
        yield
    except JobCancelled:
        files.log("Stopped: the job was cancelled.")
        raise
    except RecommendationError as error:
        reason = files.clean(error.detail)
        files.log(f"Failed: {reason}")
        raise JobFailed(reason) from None
    except Exception as error:
        _log.exception("a job failed unexpectedly")
        reason = files.clean(_plain(error))
        files.log(f"Failed: {reason}")
        raise JobFailed(reason) from None


def _plain(error: Exception) -> str:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out of memory: use a smaller batch_size, or a machine with more"
    if isinstance(error, OSError) and error.strerror:
        return f"the disk or the network failed: {error.strerror}"
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no reason given'}"


def launch(runner: JobRunner, url: str) -> None:
    """Starts taking jobs; returns at once. The caller holds the lock."""
    DBOS(
        config={
            "name": APPLICATION,
            "system_database_url": url,
            "application_version": APPLICATION_VERSION,
            "executor_id": EXECUTOR,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "WARNING",
        }
    )
    logging.getLogger("dbos").addFilter(_is_news)

    @DBOS.step(name="run_and_publish")
    def run_and_publish(request: dict[str, Any]) -> str:
        return runner.run(_job(), _job_request(request))

    @DBOS.step(name="promote")
    def promote_result(version: str, request: dict[str, Any]) -> str:
        return runner.promote(_job(), version, _job_request(request))

    @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=ATTEMPTS)
    def train_and_promote(request: dict[str, Any]) -> dict[str, str]:
        version = run_and_publish(request)
        return {"version": version, "outcome": promote_result(version, request)}

    DBOS.launch()
    DBOS.register_queue(QUEUE, global_concurrency=1, worker_concurrency=1, polling_interval_sec=0.5)


def _job_request(request: dict[str, Any]) -> JobRequest:
    try:
        return JobRequest.model_validate(request)
    except ValidationError as error:
        reason = f"the job does not fit this release: {error.error_count()} errors"
        raise JobFailed(reason) from None


def _job() -> str:
    job = DBOS.workflow_id
    assert job is not None  # steps run inside a workflow
    return job


def _is_news(record: logging.LogRecord) -> bool:
    # How a job ended is in its log and its state; a traceback beside it is noise.
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, JobFailed | JobCancelled | DBOSAwaitedWorkflowCancelledError)


def run_worker(settings: CloudSettings, train: Train, judge: Judge) -> None:
    """Takes jobs until SIGTERM or SIGINT, which end the process like any other death of it.

    A running job is left as it is; the next worker goes on with it. Raises JobsUnavailable.
    """
    store = Store(settings.store)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    with ExitStack() as held:
        held.enter_context(only_one_on(store.folder))
        jobs = Jobs(store, settings.jobs_url)
        held.callback(jobs.close)
        jobs.list(1)  # makes the tables, or says that the database cannot be reached
        check = held.enter_context(only_one_in(settings.jobs_url))
        runner = JobRunner(settings, store, jobs, train, judge)
        heartbeat = Heartbeat(store.folder)
        launch(runner, settings.jobs_url)
        _log.info("worker %d takes jobs from %s", os.getpid(), store.folder)
        while True:
            with suppress(OSError):  # a full disk stops a training, not the worker
                heartbeat.beat(runner.running)
            time.sleep(HEARTBEAT_SECONDS)
            check()
