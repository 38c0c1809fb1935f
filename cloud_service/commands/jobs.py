"""`cloud-service jobs`: over HTTP, so that they work from any machine."""

import time
from typing import Annotated

import typer
from rich.table import Column, Table

from cloud_service.commands.client import DEFAULT_URL, CloudClient, CloudUnreachable, Token, Url
from cloud_service.commands.output import err, figures, out, training_bar
from cloud_service.commands.recipe import PromoteOption, with_recipe_options
from shared.jobs import Job, JobRequest, TrainingRecipe

app = typer.Typer(help="Training jobs of a running cloud (over HTTP).", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(help="A job's id, as `jobs list` shows it.")]
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 60.0
_ENDED = ("succeeded", "failed", "cancelled")


def submit(
    recipe: TrainingRecipe,
    promote: PromoteOption = "better",
    wait: Annotated[bool, typer.Option("--wait", help="Show progress until it ends.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Puts a training job into the queue and prints its id."""
    request = JobRequest(recipe=recipe, promote=promote)
    with CloudClient(url, token) as cloud:
        job = Job.model_validate(cloud.post("/v1/jobs", request.model_dump(mode="json")))
        out.print(job.id)
        if wait:
            _wait(cloud, job.id)


app.command(
    "submit", epilog="Example: cloud-service jobs submit --data online-retail --epochs 20 --wait"
)(with_recipe_options(submit))


@app.command("list", epilog="Example: cloud-service jobs list --limit 10")
def list_jobs(
    url: Url = DEFAULT_URL,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """The newest jobs, the newest first."""
    with CloudClient(url) as cloud:
        found = cloud.get("/v1/jobs", limit=limit)
    if as_json:
        out.print_json(data=found)
        return
    table = Table(Column("job", no_wrap=True), "state", "data", "progress", "result", "created")
    for job in map(Job.model_validate, found):
        result = job.version or job.error or ""
        shown = figures(job.progress) if job.progress else ""
        created = f"{job.created:%Y-%m-%d %H:%M}"
        table.add_row(job.id, job.state, job.request.recipe.data, shown, result, created)
    out.print(table)


@app.command("show", epilog="Example: cloud-service jobs show c9fb854d-f78e-42d8-950c-abc42a25acf9")
def show_job(job: JobId, url: Url = DEFAULT_URL) -> None:
    """One job, as JSON."""
    with CloudClient(url) as cloud:
        out.print_json(data=cloud.get(f"/v1/jobs/{job}"))


@app.command(
    "log", epilog="Example: cloud-service jobs log c9fb854d-f78e-42d8-950c-abc42a25acf9 --follow"
)
def show_log(
    job: JobId,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job ends.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """A job's log, a line each."""
    with CloudClient(url) as cloud:
        for line in cloud.lines(f"/v1/jobs/{job}/log", follow=follow):
            text = f"{line['time'][:19]}  {line['message']}"
            out.print(text, markup=False, highlight=False, soft_wrap=True)


@app.command(
    "cancel", epilog="Example: cloud-service jobs cancel c9fb854d-f78e-42d8-950c-abc42a25acf9"
)
def cancel_job(job: JobId, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Cancels a job: a queued one never starts, a running one stops within two seconds."""
    with CloudClient(url, token) as cloud:
        cloud.post(f"/v1/jobs/{job}/cancel")
    out.print(f"{job} is cancelled")


@app.command("wait", epilog="Example: cloud-service jobs wait c9fb854d-f78e-42d8-950c-abc42a25acf9")
def wait_for_job(job: JobId, url: Url = DEFAULT_URL) -> None:
    """Shows a job's progress until it ends; exit code 1 where it did not succeed."""
    with CloudClient(url) as cloud:
        _wait(cloud, job)


def _wait(cloud: CloudClient, job: str) -> None:
    ended = watch(cloud, job)
    if ended.state == "succeeded":
        out.print(ended.outcome, markup=False, highlight=False, soft_wrap=True)
        return
    reason = f"failed: {ended.error}" if ended.state == "failed" else "was cancelled"
    err.print(f"the job {reason}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def watch(cloud: CloudClient, job: str) -> Job:
    """Shows a job's progress until it has ended, and gives it as it ended.

    Raises CloudUnreachable after a minute without an answer: a cloud may be restarting.
    """
    with training_bar() as bar:
        answered = time.monotonic()
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
            if shown.state in _ENDED:
                return shown
            time.sleep(POLL_SECONDS)
