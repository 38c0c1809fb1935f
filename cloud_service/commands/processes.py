"""`cloud-service serve` and `cloud-service worker`, the two processes of a cloud."""

import gc
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

StoreOption = Annotated[
    Path | None, typer.Option("--store", help="Folder of model versions and jobs (CLOUD_STORE).")
]
DataFolder = Annotated[
    Path | None,
    typer.Option(help="Click logs that jobs may name (CLOUD_DATA_FOLDER); else STORE/data."),
]


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (CLOUD_HOST).")] = None,
    port: Annotated[
        int | None, typer.Option(help="0 takes any free one (CLOUD_PORT; 8000).")
    ] = None,
    store: StoreOption = None,
    data_folder: DataFolder = None,
    serve_replays: Annotated[
        bool | None,
        typer.Option(help="Hand out clicks of held-out users (CLOUD_SERVE_REPLAYS)."),
    ] = None,
) -> None:
    """Answers corrections, hands out bundles, keeps the list of jobs. Trains nothing.

    Every setting is also a CLOUD_* environment variable; options win. Tokens and the database are
    set there alone: CLOUD_ADMIN_TOKEN, CLOUD_DEVICE_TOKEN, CLOUD_DATABASE_URL. Without an admin
    token the first start makes one in STORE/admin-token, which the commands on this machine find.

    CLOUD_HTTP_PROTOCOL=uvicorn turns off all that builds on private parts of uvicorn: the short
    cut of corrections, and the limits of heads and silent connections. `guarded` turns off the
    short cut alone.
    """
    # Read when NumPy is imported: a search for samples must not take every core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from cloud_service.settings import load_settings

    settings = load_settings(
        host=host, port=port, store=store, data_folder=data_folder, serve_replays=serve_replays
    )
    from cloud_service.bootstrap import (
        allow_connections,
        build_app,
        build_services,
        log_to_stderr,
        server,
    )

    log_to_stderr(settings)
    allow_connections(settings)
    services = build_services(settings)
    serving = server(build_app(settings, services), settings, services)
    # All objects so far live as long as the process. Without the freeze, each full garbage
    # collection would examine them and delay corrections by 100 ms.
    gc.collect()
    gc.freeze()
    serving.run()


def worker(
    store: StoreOption = None,
    data_folder: DataFolder = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None,
        typer.Option(help="Where training runs (CLOUD_DEVICE)."),
    ] = None,
) -> None:
    """Runs training jobs, one at a time, until it is stopped.

    It may be stopped or killed at any moment: the next worker goes on where it was. A second one
    on the same store stands by.
    """
    from cloud_service.settings import load_settings

    settings = load_settings(store=store, data_folder=data_folder, device=device)
    from cloud_service.bootstrap import log_to_stderr

    log_to_stderr(settings)
    from cloud_service.publishing.judge import judged
    from cloud_service.publishing.pipeline import train_and_publish
    from cloud_service.worker import run_worker

    run_worker(settings, train_and_publish, judged)
