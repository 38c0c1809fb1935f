"""Trains a model of TRAIN_DATA over HTTP and waits for it; does nothing where there is one.

python train_once.py http://cloud:8000 [FILE]

FILE gets the alias that devices are to ask for. ADMIN_TOKEN_FILE names the file of the admin token.
TRAIN_ and the name of a field of FlatRecipe or ModelSettings sets it (TRAIN_EPOCHS=5);
TRAIN_AGAIN=1 trains though there is a model, and serves what comes of it.
"""

import os
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from cloud_service.commands.client import CloudClient
from cloud_service.commands.jobs import watch
from cloud_service.commands.recipe import one_line
from cloud_service.recommender.recipe import FlatRecipe, TrainingRecipe
from cloud_service.services.job import Job, JobRequest
from shared.errors import RecommendationError
from shared.model import ModelSettings
from shared.whole_file import write_whole

JOBS = 500
"""Jobs that are looked through, at most."""


def main(url: str, file: Path | None) -> int:
    """Gives 0 where there is a model of these data at the end, else 1."""
    token = Path(os.environ["ADMIN_TOKEN_FILE"]).read_text("utf-8").strip()
    recipe, again = _recipe(), bool(os.environ.get("TRAIN_AGAIN"))
    with CloudClient(url, token) as cloud:
        alias = None if again else _serving(cloud, recipe)
        if alias is None:
            alias = _wait(cloud, _open_job(cloud, recipe) or _submit(cloud, recipe, again=again))
    if alias is None:
        return 1
    if file is not None:
        write_whole(file, f"{alias}\n")
    return 0


def _recipe() -> TrainingRecipe:
    """The recipe of the environment. Raises ValueError."""
    shape, plain = _given(ModelSettings), _given(FlatRecipe)
    try:
        # Environment variables are strings: here, and only here, "5" is a number.
        flat = FlatRecipe.model_validate(plain | {"model": shape}, strict=False)
        return TrainingRecipe.of(**dict(flat))
    except ValidationError as error:
        raise ValueError(f"TRAIN_...: {one_line(error)}") from None


def _given(fields: type[BaseModel]) -> dict[str, str]:
    named = {name: os.environ.get(f"TRAIN_{name.upper()}") for name in fields.model_fields}
    return {name: value for name, value in named.items() if value}


def _serving(cloud: CloudClient, recipe: TrainingRecipe) -> str | None:
    """The alias of a model of the same data: same log, same filters. None where there is none."""
    models = {model["version"]: model for model in cloud.get("/v1/models")}
    served = {alias: model for model in models.values() for alias in model["aliases"]}
    for job in map(Job.model_validate, cloud.get("/v1/jobs", limit=JOBS)):
        model = models.get(job.version or "")
        if model is None or job.request.recipe.data != recipe.data:
            continue
        alias = str(model["log_alias"])
        if alias in served:
            _nothing_to_train(alias, served[alias])
            return alias
    if "production" in served and not os.environ.get("TRAIN_DATA"):
        _nothing_to_train("production", served["production"])
        return "production"
    return None


def _nothing_to_train(alias: str, model: dict[str, Any]) -> None:
    _say(
        f"{alias} is version {model['version']} (data: {model['data']}): nothing to train; "
        "TRAIN_AGAIN=1 trains all the same"
    )


def _open_job(cloud: CloudClient, recipe: TrainingRecipe) -> str | None:
    """A job of the same data that an earlier start left behind: its worker goes on with it."""
    for job in map(Job.model_validate, cloud.get("/v1/jobs", limit=JOBS)):
        same = job.request.recipe.data == recipe.data
        if same and job.state in ("queued", "running"):
            _say(f"job {job.id} is {job.state} already")
            return job.id
    return None


def _submit(cloud: CloudClient, recipe: TrainingRecipe, *, again: bool) -> str:
    request = JobRequest(recipe=recipe, promote="always" if again else "better")
    job = Job.model_validate(cloud.post("/v1/jobs", request.model_dump(mode="json")))
    _say(f"job {job.id} is queued: {recipe.data.data}, until validation stops improving")
    return job.id


def _wait(cloud: CloudClient, job: str) -> str | None:
    """The alias of the log of what a job published, or None where it did not succeed."""
    ended = watch(cloud, job)
    if ended.state == "succeeded":
        _say(ended.outcome or "")
        models = {model["version"]: model for model in cloud.get("/v1/models")}
        return str(models[ended.version or ""]["log_alias"])
    _say(f"the job {ended.state}" + (f": {ended.error}" if ended.error else ""))
    return None


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None))
    except (RecommendationError, ValueError, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        sys.exit(2)
