"""`cloud-service jobs`. These commands use HTTP, so they work from any machine."""

import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from cloud_service.commands.client import (
    DEFAULT_STORE,
    DEFAULT_URL,
    CloudClient,
    CloudUnreachable,
    Token,
    TokenStore,
    Url,
    admin_client,
)
from cloud_service.commands.names import SHORT, pick
from cloud_service.commands.output import err, figures, out, training_bar
from cloud_service.commands.recipe import PromoteOption, with_recipe_options
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.services.job import Job, JobRequest, JobState

app = typer.Typer(help="Training jobs of a running cloud (over HTTP).", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(help="A job's id, its first characters, or `latest`.")]
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 60.0
_ID_LENGTH = 36
_DATA_WIDTH = 20
_ENDED = ("succeeded", "failed", "cancelled")


def submit(
    recipe: TrainingRecipe,
    promote: PromoteOption = "better",
    wait: Annotated[bool, typer.Option("--wait", help="Show progress until it ends.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    store: TokenStore = DEFAULT_STORE,
) -> None:
    """Puts a training job into the queue and prints its id."""
    request = JobRequest(recipe=recipe, promote=promote)
    with admin_client(url, token, store) as cloud:
        job = Job.model_validate(cloud.post("/v1/jobs", request.model_dump(mode="json")))
        out.print(job.id)
        if wait:
            _wait(cloud, job.id)


app.command(
    "submit", epilog="Example: cloud-service jobs submit --data online-retail --epochs 20 --wait"
)(with_recipe_options(submit))


@app.command("list", epilog="Example: cloud-service jobs list --state failed")
def list_jobs(
    url: Url = DEFAULT_URL,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 20,
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """The newest jobs, the newest first. `jobs show` has all of one."""
    with CloudClient(url) as cloud:
        jobs = cloud.get("/v1/jobs", limit=limit)
    if state is not None:
        jobs = [job for job in jobs if job["state"] == state]
    if as_json:
        out.print_json(data=jobs)
        return
    if not jobs:
        out.print("no jobs: submit one with `cloud-service jobs submit`", highlight=False)
        return
    result_column = Column("result", no_wrap=True, overflow="ellipsis", ratio=1)
    fixed = (Column(name, no_wrap=True) for name in ("job", "state", "data", "age"))
    table = Table(*fixed, result_column, expand=True)
    for job in map(Job.model_validate, jobs):
        table.add_row(*(escape(cell) for cell in _row(job)))
    out.print(table)


def _row(job: Job) -> tuple[str, ...]:
    running = figures(job.progress) if job.progress and job.state == "running" else ""
    result = job.version or job.error or job.waits_for or running
    data = job.request.recipe.data.data
    shown = data if len(data) <= _DATA_WIDTH else f"{data[: _DATA_WIDTH - 1]}…"
    age = _ago((datetime.now(UTC) - job.created).total_seconds())
    return job.id[:SHORT], job.state, shown, age, " ".join(result.split())


def _ago(seconds: float) -> str:
    """Formats an age in the largest unit that fits, e.g. "3 min"."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _exact(cloud: CloudClient, text: str) -> str:
    """Resolves a short job id. Raises InvalidRequest."""
    if len(text) == _ID_LENGTH:
        return text
    return pick(text, [job["id"] for job in cloud.get("/v1/jobs", limit=500)], "job")


@app.command("show", epilog="Example: cloud-service jobs show latest")
def show_job(job: JobId, url: Url = DEFAULT_URL) -> None:
    """One job, as JSON."""
    with CloudClient(url) as cloud:
        out.print_json(data=cloud.get(f"/v1/jobs/{_exact(cloud, job)}"))


@app.command("log", epilog="Example: cloud-service jobs log latest --follow")
def show_log(
    job: JobId,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job ends.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """A job's log, a line each."""
    with CloudClient(url) as cloud:
        for line in cloud.lines(f"/v1/jobs/{_exact(cloud, job)}/log", follow=follow):
            text = f"{line['time'][:19]}  {line['message']}"
            out.print(text, markup=False, highlight=False, soft_wrap=True)


@app.command("cancel", epilog="Example: cloud-service jobs cancel c9fb854d")
def cancel_job(
    job: JobId, url: Url = DEFAULT_URL, token: Token = None, store: TokenStore = DEFAULT_STORE
) -> None:
    """Cancels a job: a queued one never starts, a running one stops within two seconds."""
    with admin_client(url, token, store) as cloud:
        exact = _exact(cloud, job)
        cloud.post(f"/v1/jobs/{exact}/cancel")
    out.print(f"{exact} is cancelled", highlight=False)


@app.command("wait", epilog="Example: cloud-service jobs wait latest")
def wait_for_job(job: JobId, url: Url = DEFAULT_URL) -> None:
    """Shows a job's progress until it ends; exit code 1 where it did not succeed."""
    with CloudClient(url) as cloud:
        _wait(cloud, _exact(cloud, job))


def _wait(cloud: CloudClient, job: str) -> None:
    ended = watch(cloud, job)
    if ended.state == "succeeded":
        out.print(ended.outcome, markup=False, highlight=False, soft_wrap=True)
        return
    reason = f"failed: {ended.error}" if ended.state == "failed" else "was cancelled"
    err.print(f"the job {reason}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def watch(cloud: CloudClient, job: str) -> Job:
    """Shows the progress of a job until it has ended, and returns the ended job.

    Raises CloudUnreachable after a minute without an answer: the cloud may be restarting.
    """
    with training_bar() as bar:
        answered, waits_for = time.monotonic(), None
        while True:
            try:
                shown = Job.model_validate(cloud.get(f"/v1/jobs/{job}"))
                answered = time.monotonic()
            except CloudUnreachable:
                if time.monotonic() - answered > PATIENCE_SECONDS:
                    raise
                time.sleep(POLL_SECONDS)
                continue
            if shown.progress is not None:
                bar.show(shown.progress)
            if shown.waits_for != waits_for:
                waits_for = shown.waits_for
                if waits_for is not None:
                    bar.say(f"{shown.state}: {waits_for}")
            if shown.state in _ENDED:
                return shown
            time.sleep(POLL_SECONDS)
