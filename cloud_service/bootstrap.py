"""Builds services, application and server from the settings."""

import logging

import uvicorn
from starlette.types import ASGIApp

from cloud_service.admin_token import TOKEN_FILE, read_or_create_token
from cloud_service.api.app import create_app
from cloud_service.api.context import Services
from cloud_service.api.gauges import JobCounts, StoreGauges
from cloud_service.api.metrics import Metrics
from cloud_service.correction.corrector_cache import CorrectorCache
from cloud_service.correction.protocol import CorrectionProtocol, correction_protocol
from cloud_service.correction.scheduler import CorrectionScheduler
from cloud_service.http.admission import RESERVE, Limits
from cloud_service.http.uvicorn_parts import check_uvicorn
from cloud_service.services.candidates import Candidates
from cloud_service.services.heartbeat import Heartbeat
from cloud_service.services.jobs import Jobs
from cloud_service.services.models import ModelRegistry
from cloud_service.services.samples import SampleService
from cloud_service.settings import CloudSettings
from cloud_service.storage.store import Store
from shared.open_files import SPARE, allow_open_files

_log = logging.getLogger(__name__)
SHUTDOWN_SECONDS = 3
"""Longest time that open responses (e.g. of a followed log) may take after SIGTERM."""


def build_services(settings: CloudSettings) -> Services:
    """Creates all services of the API. Opens no database and no model yet.

    Creates the admin token of the store if it is needed. Raises AdminTokenError if that file is
    unsafe, and UnknownDBOS if the installed DBOS would read pickles.
    """
    store = Store(settings.store)
    models, jobs = ModelRegistry(store), Jobs(store, settings.jobs_url)
    correctors = CorrectorCache(store, room=settings.max_gcn_mb << 20)
    metrics, heartbeat = Metrics(), Heartbeat(store.folder)
    metrics.registry.register(StoreGauges(models, JobCounts(jobs.counts), heartbeat))
    return Services(
        models=models,
        candidates=Candidates(models),
        samples=SampleService(store, models),
        jobs=jobs,
        correctors=correctors,
        scheduler=CorrectionScheduler(longest_s=settings.max_queue_ms / 1e3),
        metrics=metrics,
        heartbeat=heartbeat,
        log_folder=settings.log_folder,
        admin_token=_admin_token(settings),
        device_token=settings.device_token.get_secret_value() if settings.device_token else None,
        serve_replays=settings.serve_replays,
    )


def _admin_token(settings: CloudSettings) -> str | None:
    """Returns the admin token, or None if there is none and none can be stored."""
    if settings.admin_token is not None:
        return settings.admin_token.get_secret_value()
    try:
        token = read_or_create_token(settings.store)
    except OSError as error:  # a read-only store can still serve devices
        _log.warning(
            "admin calls are refused: %s can be neither read nor made (%s); set CLOUD_ADMIN_TOKEN",
            settings.store / TOKEN_FILE,
            error.strerror or error,
        )
        return None
    _log.info("admin calls need the token in %s", settings.store / TOKEN_FILE)
    return token


def build_app(settings: CloudSettings, services: Services) -> ASGIApp:
    """Builds the ASGI application."""
    return create_app(
        services,
        max_json_bytes=settings.max_json_bytes,
        body_timeout=settings.body_timeout,
        close=services.jobs.close,
    )


def server(app: ASGIApp, settings: CloudSettings, services: Services) -> uvicorn.Server:
    """Configures uvicorn: one process, uvloop, httptools, no access log.

    uvloop sets TCP_NODELAY on every connection; the loop of asyncio does not always. Raises
    UnknownUvicorn if CLOUD_HTTP_PROTOCOL needs private parts that this uvicorn lacks.
    """
    is_standard = settings.http_protocol == "uvicorn"
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            loop="uvloop",
            http="httptools" if is_standard else _protocol(services, settings),
            limit_concurrency=settings.max_connections if is_standard else None,
            timeout_keep_alive=settings.keep_alive,
            ws="none",
            access_log=False,
            log_level=settings.log_level,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            # Addresses give no rights here, and a client can forge a forwarded one.
            proxy_headers=False,
            server_header=False,
        )
    )


def _protocol(services: Services, settings: CloudSettings) -> type[CorrectionProtocol]:
    check_uvicorn()
    short_cut = settings.http_protocol == "short-cut"
    return correction_protocol(services, _limits(settings), short_cut=short_cut)


def _limits(settings: CloudSettings) -> Limits:
    return Limits(
        connections=settings.max_connections,
        head_bytes=settings.max_head_bytes,
        head_lines=settings.max_head_lines,
        head_seconds=settings.head_seconds,
        body_seconds=settings.body_timeout,
        write_seconds=settings.write_seconds,
        idle_seconds=settings.keep_alive,
    )


def allow_connections(settings: CloudSettings) -> None:
    """Raises the limit of open files for `max_connections`; warns if the system refuses."""
    needed = settings.max_connections + RESERVE + SPARE
    allowed = allow_open_files(needed)
    if allowed < needed:
        _log.warning(
            "%d connections need %d open files, of which the system allows %d (ulimit -n)",
            settings.max_connections,
            needed,
            allowed,
        )


def log_to_stderr(settings: CloudSettings) -> None:
    """Logs to stderr: this project at the level of the settings, other libraries from WARNING."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("cloud_service").setLevel(settings.log_level.upper())
