"""Routes for monitoring: /health, /ready and /metrics."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from cloud_service.api import examples
from cloud_service.api.context import ServicesDep
from cloud_service.api.metrics import MEDIA_TYPE
from cloud_service.http.problems import documented
from cloud_service.services.heartbeat import WorkerState
from shared.errors import NotReady
from shared.manifest import Version

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The process is alive."""

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """The model in production, whose GCN is loaded, and the state of the worker."""

    production: Version
    worker: WorkerState


@router.get("/health", responses=examples.answer({"status": "alive"}))
async def health() -> Health:
    """Whether the process is alive; says nothing of models or jobs."""
    return Health()


@router.get(
    "/ready",
    responses=examples.answer(
        {
            "production": examples.VERSION,
            "worker": {"alive": True, "seconds_ago": 1.2, "job": examples.JOB},
        }
    )
    | documented(NotReady),
)
def ready(services: ServicesDep) -> Ready:
    """Whether a model is in production and its GCN is loaded."""
    production = services.models.named("production")
    if production not in services.correctors.loaded():
        raise NotReady(f"version {production} is being loaded")
    return Ready(production=production, worker=services.heartbeat.state())


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus' text format",
            "content": {MEDIA_TYPE: {"example": 'cloud_corrections_total{outcome="row"} 1042.0'}},
        }
    },
)
def metrics(services: ServicesDep) -> Response:
    """Counts and times of this process."""
    services.metrics.loaded(len(services.correctors.loaded()))
    return Response(services.metrics.page(), media_type=MEDIA_TYPE)
