"""Routes of training jobs (/v1/jobs), their progress and their log."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Body, Query, Response, status
from fastapi.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from cloud_service.api import examples
from cloud_service.api.auth import ADMIN
from cloud_service.api.context import JobName, Services, ServicesDep
from cloud_service.http.problems import RequestTimeout, RequestTooLarge, documented
from cloud_service.services.data_names import resolve_data
from cloud_service.services.job import Job, JobRequest
from cloud_service.services.job_errors import JobOver, JobsUnavailable
from cloud_service.services.jobs import ended
from shared.errors import DataError, InvalidRequest, Unauthorized, UnknownJob

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

LINES = "application/x-ndjson"
POLL_SECONDS = 0.3
STATE_SECONDS = 1.0
CANCELLED_LOG_SECONDS = 2.5
"""Time to wait for the last log lines of a cancelled job, whose worker stops within two seconds."""


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    dependencies=[ADMIN],
    responses=examples.answer(examples.JOB_SHOWN | {"state": "queued"}, status=201)
    | documented(
        Unauthorized, DataError, InvalidRequest, RequestTooLarge, RequestTimeout,
        JobsUnavailable,
    ),
)  # fmt: skip
def submit_job(
    request: Annotated[
        JobRequest, Body(openapi_examples={"a recipe": {"value": examples.JOB_REQUEST}})
    ],
    services: ServicesDep,
    response: Response,
) -> Job:
    """Puts a training job into the queue. `data` and `items` are names, never paths.

    Data that are not there are refused at once, with the command that fetches them.
    """
    resolve_data(request.recipe.data.data, request.recipe.data.items, services.log_folder)
    job = services.jobs.submit(request)
    response.headers["location"] = f"/v1/jobs/{job.id}"
    return job


@router.get(
    "",
    responses=examples.answer([examples.JOB_SHOWN]) | documented(InvalidRequest, JobsUnavailable),
)
def list_jobs(
    services: ServicesDep, limit: Annotated[int, Query(ge=1, le=500, examples=[20])] = 50
) -> list[Job]:
    """The newest jobs, the newest first."""
    return services.jobs.list(limit)


@router.get(
    "/{job}",
    responses=examples.answer(examples.JOB_SHOWN) | documented(UnknownJob, JobsUnavailable),
)
def show_job(job: JobName, services: ServicesDep) -> Job:
    """One job: its state and progress, what it published, or why it failed.

    A job whose worker died stays `running` until the next worker goes on with it.
    """
    return services.jobs.get(job)


@router.get(
    "/{job}/log",
    response_class=StreamingResponse,
    responses=examples.answer(examples.LOG, LINES)
    | documented(UnknownJob, InvalidRequest, JobsUnavailable),
)
async def read_job_log(
    job: JobName,
    services: ServicesDep,
    follow: Annotated[bool, Query(description="go on until the job ends")] = False,
) -> StreamingResponse:
    """A job's log: one JSON object a line, `{"time": ..., "message": ...}`."""
    await run_in_threadpool(services.jobs.get, job)
    return StreamingResponse(
        _lines(services, job, follow), media_type=LINES, headers={"cache-control": "no-store"}
    )


async def _lines(services: Services, job: str, follow: bool) -> AsyncIterator[bytes]:
    files = services.jobs.files(job)
    offset, checked_at, quiet_since, is_over, patience = 0, 0.0, time.monotonic(), not follow, 0.0
    while True:
        lines, offset = await run_in_threadpool(files.read_log, offset)
        now_s = time.monotonic()
        if lines:
            quiet_since = now_s
            yield lines
            continue
        if is_over and now_s - quiet_since >= patience:
            return
        if not is_over and now_s - checked_at >= STATE_SECONDS:
            shown, checked_at = await run_in_threadpool(services.jobs.get, job), now_s
            is_over = ended(shown)
            patience = CANCELLED_LOG_SECONDS if shown.state == "cancelled" else 0.0
            continue
        await asyncio.sleep(POLL_SECONDS)


@router.post(
    "/{job}/cancel",
    dependencies=[ADMIN],
    responses=examples.answer(examples.JOB_SHOWN | {"state": "cancelled"})
    | documented(Unauthorized, UnknownJob, JobOver, JobsUnavailable),
)
def cancel_job(job: JobName, services: ServicesDep) -> Job:
    """Cancels a job: a queued one never starts, a running one stops within two seconds."""
    return services.jobs.cancel(job)
