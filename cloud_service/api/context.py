"""The services that routes use, and path parameters that several routes share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from fastapi import Path as PathParameter

from cloud_service.api.metrics import Metrics
from cloud_service.correction.corrector_cache import CorrectorCache
from cloud_service.correction.scheduler import CorrectionScheduler
from cloud_service.services.candidates import Candidates
from cloud_service.services.heartbeat import Heartbeat
from cloud_service.services.jobs import Jobs
from cloud_service.services.models import ModelRegistry
from cloud_service.services.samples import SampleService


@dataclass(frozen=True)
class Services:
    """All services that routes use. `cloud_service.bootstrap` creates them."""

    models: ModelRegistry
    candidates: Candidates
    samples: SampleService
    jobs: Jobs
    correctors: CorrectorCache
    scheduler: CorrectionScheduler
    metrics: Metrics
    heartbeat: Heartbeat
    log_folder: Path
    """Folder of click logs that jobs may name."""
    admin_token: str | None = None
    """If None, every admin call is refused."""
    device_token: str | None = None
    """If None, samples are off: every query for them is refused."""
    serve_replays: bool = False


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]

ModelName = Annotated[
    str,
    PathParameter(
        description="a version (16 hex digits), or an alias: `production` for the one in use, or "
        "that of a log",
        openapi_examples={
            "the one in use": {"value": "production"},
            "the one of a log": {"value": "online-retail"},
            "a version": {"value": "8a6c1f0b9d3e5724"},
        },
    ),
]
ExactVersion = Annotated[
    str, PathParameter(description="a version (16 hex digits)", examples=["8a6c1f0b9d3e5724"])
]
JobName = Annotated[
    str, PathParameter(description="a job's id", examples=["c9fb854d-f78e-42d8-950c-abc42a25acf9"])
]
