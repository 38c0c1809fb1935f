"""The cloud's ASGI application.

Correction requests go to their own endpoint first; FastAPI handles all others.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud_service.api import candidates, health, jobs, models
from cloud_service.api.context import Services
from cloud_service.api.metrics import Metrics
from cloud_service.api.samples import ROUTE as SAMPLES_PATH
from cloud_service.api.samples import SamplesEndpoint
from cloud_service.api.samples_openapi import OPENAPI_PATH as SAMPLES_OPENAPI
from cloud_service.correction.endpoint import CorrectionEndpoint
from cloud_service.correction.openapi import OPENAPI_PATH
from cloud_service.http import problems
from cloud_service.http.limits import BodyLimit
from shared.problems import Problem

REFRESH_SECONDS = 1.0
CORRECTION_PATH = "/v1/models/{version}/correction"
_log = logging.getLogger(__name__)

_DESCRIPTION = """The cloud of a recommender that is split between device and cloud.

Devices download a bundle, rerank by themselves, and ask here for corrections of what they compute.
Errors are problem documents (RFC 9457). Admin calls carry `Authorization: Bearer TOKEN`: the
cloud's CLOUD_ADMIN_TOKEN or, where that is not set, what is in the file `admin-token` of its store.
"""


def create_app(
    services: Services, *, max_json_bytes: int, body_timeout: float, close: Callable[[], None]
) -> ASGIApp:
    """Builds the application. `close` is called once, when the process ends."""
    samples = SamplesEndpoint(services.samples, services.device_token)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        refreshing = asyncio.create_task(_refresh(services))
        yield
        refreshing.cancel()
        with suppress(asyncio.CancelledError):
            await refreshing
        samples.close()
        await run_in_threadpool(close)

    app = FastAPIOffline(  # its /docs works without the internet
        title="Device-cloud recommendation", description=_DESCRIPTION, version="1",
        lifespan=lifespan, redirect_slashes=False,
    )  # fmt: skip
    app.state.services = services
    for router in (models, candidates, jobs, health):
        app.include_router(router.router)
    problems.install(app)
    fastapi_openapi = app.openapi
    app.openapi = lambda: _openapi(fastapi_openapi)  # type: ignore[method-assign]
    bounded = BodyLimit(app, max_bytes=max_json_bytes, seconds=body_timeout)
    endpoint = CorrectionEndpoint(services.correctors, services.scheduler, services.metrics)
    return Dispatcher(endpoint, samples, bounded, services.metrics)


class Dispatcher:
    """Sends requests for corrections and for samples to their endpoints, all others to the app.

    It counts all but the corrections, which count themselves.
    """

    def __init__(
        self,
        endpoint: CorrectionEndpoint,
        samples: SamplesEndpoint,
        app: ASGIApp,
        metrics: Metrics,
    ) -> None:
        self._endpoint, self._samples = endpoint, samples
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request, or the lifespan of the process."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self._endpoint.serves(scope["path"]):
            await self._endpoint(scope, receive, send)
        else:
            await self._counted(scope, receive, send)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun, status = time.perf_counter(), 0
        is_for_samples = self._samples.serves(scope["path"])

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            app = self._samples if is_for_samples else self._app
            await app(scope, receive, send_and_note_status)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            route = SAMPLES_PATH if is_for_samples else route
            method = scope["method"] if route != "none" else "any"
            self._metrics.request(route, method, status, time.perf_counter() - begun)


async def _refresh(services: Services) -> None:
    loop, correctors = asyncio.get_running_loop(), services.correctors
    while True:
        try:
            await loop.run_in_executor(correctors.thread, correctors.refresh)
        except Exception:  # the store may be readable again in a second
            _log.exception("the models could not be refreshed")
        await asyncio.sleep(REFRESH_SECONDS)


def _openapi(fastapi_openapi: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Adds the correction endpoint to FastAPI's description and removes FastAPI's own 422."""
    page = fastapi_openapi()
    page["paths"][CORRECTION_PATH] = OPENAPI_PATH
    page["paths"][SAMPLES_PATH] = SAMPLES_OPENAPI
    schemas = page["components"]["schemas"]
    schemas["Problem"] = Problem.model_json_schema()
    for operations in page["paths"].values():
        for operation in operations.values():
            content = operation["responses"].get("422", {}).get("content", {})
            if "HTTPValidationError" in str(content.get("application/json")):
                del operation["responses"]["422"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return page
