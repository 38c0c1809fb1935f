"""The errors of jobs that never leave the cloud's own processes, or only as a problem."""

from shared.errors import JobError


class JobCancelled(JobError):
    """Raised by `report` inside a training run to stop it."""

    code = "job-cancelled"
    title = "The job was cancelled"


class JobFailed(JobError):
    """The end of a job's workflow that did not succeed; its text is the job's `error`."""

    code = "job-failed"
    title = "The job failed"


class JobOver(JobError):
    """The job has ended: there is nothing left to cancel."""

    code = "job-over"
    title = "The job has ended"


class JobsUnavailable(JobError):
    """The database of jobs does not answer. Corrections do not need it."""

    code = "jobs-unavailable"
    status = 503
    title = "The list of jobs cannot be reached"
