"""The worker: a separate process that runs training jobs, one at a time.

It may be killed at any moment. The database keeps the workflow (run and publish, then promote) and
the folder of a job keeps checkpoints, so that the next worker resumes where this one stopped. A
lock ensures that only one worker runs; a second one stands by.
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
from dbos import error as dbos_error
from pydantic import ValidationError

from cloud_service.publishing.promotion import Verdict, promote
from cloud_service.recommender.progress import Progress
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.services.data_names import resolve_data
from cloud_service.services.heartbeat import SECONDS as HEARTBEAT_SECONDS
from cloud_service.services.heartbeat import Heartbeat
from cloud_service.services.job import JobRequest
from cloud_service.services.job_errors import JobCancelled, JobFailed, JobsUnavailable
from cloud_service.services.job_files import JobFiles, job_folder
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
"""The same for every worker, so that DBOS gives the jobs of a dead worker to the next one."""
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
    """Runs the training of one job and reports its progress."""

    def __init__(
        self, settings: CloudSettings, store: Store, jobs: Jobs, train: Train, judge: Judge
    ) -> None:
        self._settings, self._store, self._jobs = settings, store, jobs
        self._train, self._judge = train, judge
        # When a job is cancelled, DBOS starts the next one before its last step has ended.
        self._one_at_a_time = threading.Lock()
        self.running: str | None = None
        """The running job."""

    def run(self, job: str, request: JobRequest) -> str:
        """Trains and publishes; returns the version. Raises JobCancelled or JobFailed."""
        files = JobFiles(job_folder(self._store.folder, job), self._settings.secrets())
        with self._one_at_a_time, self._logged(job, request), _errors_reported(files):
            is_resumed = files.began()
            files.log("Going on after an interruption." if is_resumed else "Started.")
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
    def _logged(self, job: str, request: JobRequest) -> Iterator[None]:
        """Logs to the log of the worker when a job begins and how it ends."""
        self.running, began = job, time.monotonic()
        _log.info("job %s begins: data %s", job, request.recipe.data.data)
        try:
            yield
        except (JobFailed, JobCancelled) as error:
            _log.info("job %s ended after %.0f s: %s", job, time.monotonic() - began, error)
            raise
        finally:
            self.running = None
        _log.info("job %s has published after %.0f s", job, time.monotonic() - began)

    def promote(self, job: str, version: str, request: JobRequest) -> str:
        """Promotes the result of a job as requested; returns the outcome. Raises JobFailed."""
        files = JobFiles(job_folder(self._store.folder, job), self._settings.secrets())
        with _errors_reported(files):
            recipe, folder = self._with_files(request.recipe), self._settings.log_folder

            def judge(new: str, current: str) -> Verdict:
                files.log(f"Comparing with version {current}.")
                return self._judge(recipe, self._store, folder, new, current)

            outcome = promote(self._store, version, request.promote, judge)
            files.log(f"{outcome[0].upper()}{outcome[1:]}.")
            _log.info("job %s: %s", job, outcome)
            return outcome

    def _with_files(self, recipe: TrainingRecipe) -> TrainingRecipe:
        data, items = resolve_data(recipe.data.data, recipe.data.items, self._settings.log_folder)
        return recipe.changed(data=data, items=items)


class Reporter:
    """The `report` of a training run: writes progress, and stops a cancelled run."""

    def __init__(self, files: JobFiles, cancelled: Callable[[], bool]) -> None:
        self._files, self._cancelled = files, cancelled
        self._written = self._checked = float("-inf")
        self._phase = ""

    def __call__(self, progress: Progress) -> None:
        """Writes the progress. Raises JobCancelled if the job was cancelled."""
        now_s = time.monotonic()
        if progress.phase != self._phase or now_s - self._written >= PROGRESS_SECONDS:
            self._files.write_progress(progress)
            self._phase, self._written = progress.phase, now_s
        if now_s - self._checked >= CANCEL_SECONDS:
            self.check()

    def check(self) -> None:
        """Raises JobCancelled if the job was cancelled."""
        self._checked = time.monotonic()
        try:
            cancelled = self._cancelled()
        except JobsUnavailable:
            return  # a short failure of the database must not end hours of training
        if cancelled:
            raise JobCancelled("the job was cancelled")


@contextmanager
def _errors_reported(files: JobFiles) -> Iterator[None]:
    """Logs the error that ends a job, and raises it as JobFailed with a clear reason."""
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
    """Starts to run jobs in the background. The caller holds the lock."""
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
    logging.getLogger("dbos").addFilter(_is_unreported)

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


def _is_unreported(record: logging.LogRecord) -> bool:
    # The log and the state of a job already say how it ended; a traceback adds nothing.
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(
        error, JobFailed | JobCancelled | dbos_error.DBOSAwaitedWorkflowCancelledError
    )


def run_worker(settings: CloudSettings, train: Train, judge: Judge) -> None:
    """Runs jobs until SIGTERM or SIGINT, which end the process immediately.

    The next worker resumes a job that was running. Raises JobsUnavailable.
    """
    store = Store(settings.store)
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: os._exit(0))
    with ExitStack() as stack:
        stack.enter_context(only_one_on(store.folder))
        jobs = Jobs(store, settings.jobs_url)
        stack.callback(jobs.close)
        jobs.list(1)  # creates the tables; raises JobsUnavailable if the database cannot be reached
        check_lock = stack.enter_context(only_one_in(settings.jobs_url))
        runner = JobRunner(settings, store, jobs, train, judge)
        heartbeat = Heartbeat(store.folder)
        launch(runner, settings.jobs_url)
        _log.info("worker %d takes jobs from %s", os.getpid(), store.folder)
        while True:
            with suppress(OSError):  # a full disk must not end the worker
                heartbeat.beat(runner.running)
            time.sleep(HEARTBEAT_SECONDS)
            check_lock()
