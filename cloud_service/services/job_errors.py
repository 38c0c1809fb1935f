"""Errors of training jobs within the cloud. Clients see some of them as problem documents."""

from shared.errors import JobError


class JobCancelled(JobError):
    """Raised by `report` to stop a training run."""

    code = "job-cancelled"
    title = "The job was cancelled"


class JobFailed(JobError):
    """Ends the workflow of a job that failed. Its text becomes the `error` of the job."""

    code = "job-failed"
    title = "The job failed"


class JobOver(JobError):
    """The job has already ended and cannot be cancelled."""

    code = "job-over"
    title = "The job has ended"


class JobsUnavailable(JobError):
    """The database of jobs cannot be reached. Corrections do not need it."""

    code = "jobs-unavailable"
    status = 503
    title = "The list of jobs cannot be reached"
