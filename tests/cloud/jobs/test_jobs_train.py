"""A job that trains for real, in a worker that dies on the way."""

import json

import pytest

from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.services.job import JobRequest
from shared.model import ModelSettings
from tests.instruments.logs import small_csv

pytestmark = pytest.mark.slow(8)


def test_real_training_goes_on_after_kill_nine_and_is_published(place):
    log = place.store.folder / "data" / "clicks.csv"
    small_csv(log)
    recipe = TrainingRecipe(
        data="clicks.csv",
        epochs=5000,
        patience=5000,
        batch_size=64,
        model=ModelSettings(length=10, dim=8, heads=2),
    )
    job = place.jobs.submit(JobRequest(recipe=recipe)).id
    worker = ("-m", "cloud_service.cli", "worker")
    first = place.start(*worker)
    place.wait_for_epoch(job, 3)
    first.kill()
    first.wait()
    reached = place.jobs.get(job).progress.epoch
    place.start(*worker)
    place.wait_for_epoch(job, reached + 1)
    messages = [json.loads(line)["message"] for line in place.log(job).splitlines()]
    assert any(message.startswith("going on after epoch") for message in messages), messages
    place.jobs.cancel(job)
    place.wait_for_log(job, "Stopped: the job was cancelled.")
