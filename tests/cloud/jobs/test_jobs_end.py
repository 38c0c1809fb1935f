"""The ways in which jobs end, and what they leave behind."""

import base64
import json
import pickle
import sqlite3
from pathlib import Path

import pytest

from cloud_service.services.job_errors import JobOver, JobsUnavailable
from cloud_service.services.jobs import Jobs
from cloud_service.storage.store import Store
from shared.errors import UnknownJob

pytestmark = pytest.mark.slow(10)


def test_a_queued_job_that_is_cancelled_never_starts(working_place):
    first_job, second = working_place.submit(ticks=8), working_place.submit(ticks=5)
    assert working_place.jobs.cancel(second).state == "cancelled"
    third = working_place.submit(ticks=1)
    assert working_place.wait(third, "succeeded", "failed").state == "succeeded"
    assert working_place.jobs.get(first_job).state == "succeeded"
    assert working_place.jobs.get(second).state == "cancelled"
    assert "tick" not in working_place.log(second)


def test_a_failed_job_says_why_and_shows_no_secret(working_place):
    bad = working_place.submit(ticks=1, seed=1)
    surprised = working_place.submit(ticks=1, seed=2)
    failed = working_place.wait(bad, "failed")
    assert failed.error == "synthetic: no item was clicked twice"
    assert failed.version is None
    assert working_place.wait(surprised, "failed").error == "RuntimeError: token *** is in here"
    assert "Failed: RuntimeError: token *** is in here" in working_place.log(surprised)
    assert "a-long-admin-token" not in working_place.log(surprised)


def test_a_job_that_must_not_promote_leaves_production_alone(idle_place):
    job = idle_place.submit(ticks=1, promote="never")
    idle_place.worker()
    assert idle_place.wait(job, "succeeded").version in idle_place.store.versions()
    assert idle_place.store.production() is None


def test_everything_in_the_database_is_json(working_place):
    jobs = [working_place.submit(ticks=1), working_place.submit(ticks=1, seed=1)]
    for job in jobs:
        working_place.wait(job, "succeeded", "failed")
    values = []
    database = sqlite3.connect(working_place.url.removeprefix("sqlite:///"))
    for table in ("workflow_input", "workflow_output", "operation_outputs"):
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        json_columns = [c for c in columns if c in ("inputs", "output", "error")]
        assert json_columns, columns
        for row in database.execute(f"SELECT {', '.join(json_columns)} FROM {table}"):
            values += [value for value in row if value is not None]
    database.close()
    assert len(values) >= 6
    for value in values:
        json.loads(value)  # pickles in base64 are not


def test_a_pickle_in_the_database_is_not_read(idle_place):
    jobs = [idle_place.submit(ticks=1), idle_place.submit(ticks=1)]
    mark = idle_place.folder / "unpickled"
    payload = base64.b64encode(pickle.dumps(Mine(mark))).decode()
    database = sqlite3.connect(idle_place.url.removeprefix("sqlite:///"))
    with database:
        row = "WHERE workflow_uuid = ?"
        database.execute(f"UPDATE workflow_input SET inputs = ? {row}", (payload, jobs[0]))
        database.execute(
            f"UPDATE workflow_status SET serialization = 'py_pickle' {row}", (jobs[0],)
        )
    database.close()
    assert [job.id for job in idle_place.jobs.list()] == jobs[1:]
    assert not mark.exists()
    idle_place.worker()
    idle_place.wait(jobs[1], "succeeded")
    assert not mark.exists()


class Mine:
    """An object that writes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def test_what_cannot_be_cancelled_or_found_is_said(working_place):
    job = working_place.submit(ticks=1)
    working_place.wait(job, "succeeded")
    with pytest.raises(JobOver, match="succeeded already"):
        working_place.jobs.cancel(job)
    with pytest.raises(UnknownJob):
        working_place.jobs.cancel("no-such-job")


def test_a_database_that_does_not_answer_is_a_named_error_without_its_password(tmp_path):
    jobs = Jobs(Store(tmp_path), "postgresql://someone:hidden@127.0.0.1:1/jobs?connect_timeout=1")
    with pytest.raises(JobsUnavailable) as caught:
        jobs.list()
    assert "hidden" not in str(caught.value)
    assert caught.value.status == 503
