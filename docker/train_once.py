"""Trains the first model of a cloud, over HTTP, and waits for it; does nothing where there is one.

python train_once.py http://cloud:8000

ADMIN_TOKEN_FILE names the file of the admin token. TRAIN_ and the name of a field of TrainingRecipe
or ModelSettings sets it (TRAIN_EPOCHS=5); TRAIN_AGAIN=1 trains though there is a model.
"""

import os
import sys
from pathlib import Path

from pydantic import BaseModel, ValidationError

from cloud_service.commands.client import CloudClient
from cloud_service.commands.jobs import watch
from cloud_service.commands.recipe import one_line
from shared.errors import RecommendationError
from shared.jobs import Job, JobRequest, TrainingRecipe
from shared.model import ModelSettings


def main(url: str) -> int:
    """Gives 0 where a model is in production at the end, else 1."""
    token = Path(os.environ["ADMIN_TOKEN_FILE"]).read_text("utf-8").strip()
    with CloudClient(url, token) as cloud:
        if not os.environ.get("TRAIN_AGAIN"):
            found = next((model for model in cloud.get("/v1/models") if model["production"]), None)
            if found:
                _say(
                    f"version {found['version']} (data: {found['data']}) is in production: "
                    "nothing to train; TRAIN_AGAIN=1 trains all the same"
                )
                return 0
        return _wait(cloud, _open_job(cloud) or _submit(cloud, _recipe()))


def _recipe() -> TrainingRecipe:
    """The recipe of the environment. Raises ValueError."""
    shape, plain = _given(ModelSettings), _given(TrainingRecipe)
    try:
        # The environment knows texts alone: here, and only here, "5" is a number.
        return TrainingRecipe.model_validate(plain | {"model": shape}, strict=False)
    except ValidationError as error:
        raise ValueError(f"TRAIN_...: {one_line(error)}") from None


def _given(fields: type[BaseModel]) -> dict[str, str]:
    found = {name: os.environ.get(f"TRAIN_{name.upper()}") for name in fields.model_fields}
    return {name: value for name, value in found.items() if value}


def _open_job(cloud: CloudClient) -> str | None:
    """A job that an earlier start left behind: its worker goes on with it."""
    for job in map(Job.model_validate, cloud.get("/v1/jobs", limit=20)):
        if job.state in ("queued", "running"):
            _say(f"job {job.id} is {job.state} already")
            return job.id
    return None


def _submit(cloud: CloudClient, recipe: TrainingRecipe) -> str:
    request = JobRequest(recipe=recipe)
    job = Job.model_validate(cloud.post("/v1/jobs", request.model_dump(mode="json")))
    _say(f"job {job.id} is queued: {recipe.data}, at most {recipe.epochs} epochs")
    return job.id


def _wait(cloud: CloudClient, job: str) -> int:
    ended = watch(cloud, job)
    if ended.state == "succeeded":
        _say(f"published version {ended.version}")
        return 0
    _say(f"the job {ended.state}" + (f": {ended.error}" if ended.error else ""))
    return 1


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except (RecommendationError, ValueError, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        sys.exit(2)
