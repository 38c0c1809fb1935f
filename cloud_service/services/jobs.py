"""Training jobs on the side of the API: submit, list, show, cancel.

DBOS keeps the jobs in a database (SQLite or PostgreSQL), and a worker process
(`cloud_service.worker`) runs them. This module only enqueues and reads them. All values in the
database are JSON: both sides use the portable serialiser.
"""

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, WorkflowHandle, WorkflowStatus
from dbos import error as dbos_error
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from cloud_service.services.heartbeat import Heartbeat, WorkerState
from cloud_service.services.job import Job, JobRequest, JobState
from cloud_service.services.job_errors import JobOver, JobsUnavailable
from cloud_service.services.job_files import JobFiles, job_folder
from cloud_service.services.no_pickles import refuse_pickles
from cloud_service.storage.store import Store
from shared.errors import UnknownJob

APPLICATION: Final = "device-cloud-recommendation"
APPLICATION_VERSION: Final = "1"
"""Constant, so that the worker of a newer build resumes the jobs of an older one. Change it if the
order of the steps in the workflow changes."""
QUEUE: Final = "training"
WORKFLOW: Final = "train_and_promote"
ATTEMPTS: Final = 20
"""Most starts of one job. After that it counts as failed, because it kills its worker."""

_STATES: dict[str, JobState] = {
    "ENQUEUED": "queued",
    "DELAYED": "queued",
    "PENDING": "running",
    "SUCCESS": "succeeded",
    "ERROR": "failed",
    "CANCELLED": "cancelled",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "failed",
}
_ENDED = frozenset({"succeeded", "failed", "cancelled"})
_log = logging.getLogger(__name__)


def ended(job: Job) -> bool:
    """Returns whether a job has ended."""
    return job.state in _ENDED


class Jobs:
    """The list of jobs. Thread-safe. The first call connects and creates the tables."""

    def __init__(self, store: Store, url: str) -> None:
        """Raises UnknownDBOS if the installed DBOS would read pickles."""
        refuse_pickles()
        self._store, self._url = store, url
        self._heartbeat = Heartbeat(store.folder)
        self._connected: DBOSClient | None = None
        self._lock = threading.Lock()

    def submit(self, request: JobRequest) -> Job:
        """Adds a job to the end of the queue. Raises JobsUnavailable."""
        with self._client() as client:
            handle: WorkflowHandle[str] = client.enqueue(
                {
                    "workflow_name": WORKFLOW,
                    "queue_name": QUEUE,
                    "app_version": APPLICATION_VERSION,
                },
                request.model_dump(mode="json"),
            )
            job = handle.get_workflow_id()
        return self.get(job)

    def list(self, limit: int = 50) -> list[Job]:
        """Returns the newest `limit` jobs, newest first. Raises JobsUnavailable."""
        with self._client() as client:
            workflows = client.list_workflows(name=WORKFLOW, limit=limit, sort_desc=True)
        worker = self._heartbeat.state()
        jobs = [job for status in workflows if (job := self._shown(status)) is not None]
        return [job.model_copy(update={"waits_for": _waits_for(job, worker)}) for job in jobs]

    def counts(self) -> Counter[JobState]:
        """Counts the newest 1,000 jobs by state. Raises JobsUnavailable."""
        with self._client() as client:
            statuses = client.list_workflows(
                name=WORKFLOW, limit=1000, sort_desc=True, load_input=False, load_output=False
            )
        return Counter(_STATES[status.status] for status in statuses)

    def get(self, job: str) -> Job:
        """Returns one job. Raises UnknownJob or JobsUnavailable."""
        with self._client() as client:
            workflows = client.list_workflows(workflow_ids=[job], name=WORKFLOW)
        shown = self._shown(workflows[0]) if workflows else None
        if shown is None:
            raise UnknownJob(f"there is no job {job[:64]!r}")
        waits_for = _waits_for(shown, self._heartbeat.state())
        return shown.model_copy(update={"waits_for": waits_for})

    def cancel(self, job: str) -> Job:
        """Cancels a job: a queued one never starts, a running one stops within two seconds.

        Does nothing to a cancelled job. Raises UnknownJob, JobOver or JobsUnavailable.
        """
        before = self.get(job)
        if before.state in ("succeeded", "failed"):
            raise JobOver(f"the job has {before.state} already")
        with self._client() as client:
            client.cancel_workflow(job)
        after = self.get(job)
        if after.state in ("succeeded", "failed"):  # it ended between the two calls
            raise JobOver(f"the job has {after.state} already")
        if before.state != "cancelled":
            self.files(job).log("Asked to stop.")
        return after

    def is_cancelled(self, job: str) -> bool:
        """Returns whether a job was cancelled. Raises JobsUnavailable."""
        with self._client() as client:
            workflows = client.list_workflows(
                workflow_ids=[job], load_input=False, load_output=False
            )
        return not workflows or workflows[0].status == "CANCELLED"

    def files(self, job: str) -> JobFiles:
        """Returns the log and progress of an existing job."""
        return JobFiles(job_folder(self._store.folder, job))

    def close(self) -> None:
        """Closes the connection to the database."""
        with self._lock:
            if self._connected is not None:
                self._connected.destroy()
                self._connected = None

    @contextmanager
    def _client(self) -> Iterator[DBOSClient]:
        try:
            with self._lock:
                if self._connected is None:
                    self._connected = _connect(self._url)
                client = self._connected
            yield client
        except (SQLAlchemyError, dbos_error.DBOSException) as error:
            # The text of a database error may contain the URL, so only its type is reported.
            _log.warning("the database of jobs failed: %s", type(error).__name__)
            raise JobsUnavailable(
                f"the database of jobs does not answer ({type(error).__name__}): check "
                "CLOUD_DATABASE_URL and that it runs"
            ) from None

    def _shown(self, status: WorkflowStatus) -> Job | None:
        state = _STATES[status.status]
        try:
            request = JobRequest.model_validate(status.input["args"][0])  # type: ignore[index]
        except (ValidationError, TypeError, LookupError):
            _log.warning("job %s is of another release and is not shown", status.workflow_id)
            return None
        result: dict[str, str] = (status.output or {}) if state == "succeeded" else {}
        last_progress = self.files(status.workflow_id).progress()
        created = _time(status.created_at)
        # Two processes wrote these times, and one of their clocks may have been set back.
        updated = max(created, _time(status.updated_at))
        return Job(
            id=status.workflow_id,
            state=state,
            request=request,
            progress=last_progress[0] if last_progress else None,
            version=result.get("version"),
            outcome=result.get("outcome"),
            error=_reason(status) if state == "failed" else None,
            created=created,
            updated=max(updated, last_progress[1]) if last_progress else updated,
        )


def _waits_for(job: Job, worker: WorkerState) -> str | None:
    """Says why a job does not run, or returns None."""
    if job.state not in ("queued", "running"):
        return None
    if not worker.alive:
        return "no worker is running: start one with `cloud-service worker`"
    if job.state == "queued":
        return f"job {worker.job} runs before it" if worker.job else "the worker takes it next"
    return None


def _connect(url: str) -> DBOSClient:
    # The client does not create the tables. The first process does, worker or API.
    DBOS.migrate(url)
    return DBOSClient(
        system_database_url=url,
        serializer=DBOSPortableJSONSerializer(),
        application_name=APPLICATION,
        retry_connection_errors=False,
    )


def _reason(status: WorkflowStatus) -> str:
    if status.error is not None:
        return str(status.error)
    return f"the worker died {ATTEMPTS} times during this job; see its log"


def _time(milliseconds: int | None) -> datetime:
    return datetime.fromtimestamp((milliseconds or 0) / 1000, UTC)
