"""A real training job whose worker is killed while it trains."""

import json

import pytest

from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.services.job import JobRequest
from shared.model import ModelSettings
from tests.instruments.logs import small_csv

pytestmark = pytest.mark.slow(8)


def test_real_training_goes_on_after_kill_nine_and_is_published(idle_place):
    log = idle_place.store.folder / "data" / "clicks.csv"
    small_csv(log)
    recipe = TrainingRecipe(
        data="clicks.csv",
        epochs=5000,
        patience=5000,
        batch_size=64,
        model=ModelSettings(length=10, dim=8, heads=2),
    )
    job = idle_place.jobs.submit(JobRequest(recipe=recipe)).id
    worker = ("-m", "cloud_service.cli", "worker")
    first_worker = idle_place.start(*worker)
    idle_place.wait_for_epoch(job, 3)
    first_worker.kill()
    first_worker.wait()
    reached = idle_place.jobs.get(job).progress.epoch
    idle_place.start(*worker)
    idle_place.wait_for_epoch(job, reached + 1)
    messages = [json.loads(line)["message"] for line in idle_place.log(job).splitlines()]
    assert any(message.startswith("going on after epoch") for message in messages), messages
    idle_place.jobs.cancel(job)
    idle_place.wait_for_log(job, "Stopped: the job was cancelled.")
