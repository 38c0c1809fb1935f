"""Examples for OpenAPI. They are built from the schemas, so that they cannot become outdated."""

from datetime import UTC, datetime
from typing import Any

from cloud_service.recommender.progress import Progress
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.services.job import Job, JobRequest
from cloud_service.services.job_files import LogLine
from cloud_service.services.models import ModelSummary
from shared.manifest import FileEntry, Manifest, TrainingData
from shared.model import ModelSettings

VERSION = "8a6c1f0b9d3e5724"
JOB = "c9fb854d-f78e-42d8-950c-abc42a25acf9"
_WHEN = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
_METRICS = {"corrected/all/ndcg@10": 0.1873, "local/all/ndcg@10": 0.1869}

_request = JobRequest(
    recipe=TrainingRecipe.of(data="synthetic", min_item=5, holdout_users=0.1, epochs=20)
)
JOB_REQUEST: dict[str, Any] = {
    "recipe": {"data": "synthetic", "min_item": 5, "holdout_users": 0.1, "epochs": 20},
    "promote": "better",
}
JOB_SHOWN: dict[str, Any] = Job(
    id=JOB,
    state="running",
    request=_request,
    progress=Progress(
        phase="training", epoch=3, epochs=20, step=41, steps=120, loss=6.31, ndcg=0.171, best=0.171
    ),
    created=_WHEN,
    updated=_WHEN,
).model_dump(mode="json")
LOG = (
    LogLine(time=_WHEN, message="Started.").model_dump_json()
    + "\n"
    + LogLine(time=_WHEN, message="best validation NDCG@10 0.1812 in epoch 9").model_dump_json()
    + "\n"
)
MODEL: dict[str, Any] = ModelSummary(
    version=VERSION,
    production=True,
    aliases=("production", "online-retail"),
    log_alias="online-retail",
    retired=False,
    data="online-retail",
    synthetic=False,
    metrics=_METRICS,
    created=_WHEN,
).model_dump(mode="json")
MANIFEST: dict[str, Any] = Manifest(
    model=ModelSettings(),
    items=3659,
    opset=18,
    data=TrainingData(
        name="online-retail",
        users=3_901,
        items=3_659,
        clicks=350_000,
        synthetic=False,
        preprocessing="items with at least 5 clicks, users with at least 3; leave-one-out",
    ),
    metrics=_METRICS,
    created=_WHEN,
    files=(FileEntry(name="hidden.onnx", size=4_182, sha256="0" * 64, role="device"),),
).model_dump(mode="json")


def answer(
    example: object, media_type: str = "application/json", status: int = 200
) -> dict[int | str, dict[str, Any]]:
    """Returns the `responses` entry of a successful response."""
    return {status: {"content": {media_type: {"example": example}}}}
