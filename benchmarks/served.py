"""A cloud to measure: an untrained model in a store of its own, and server processes."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import httpx
import torch

from cloud_service.publishing.publish import publish
from cloud_service.recommender.data.clicks import Split, split
from cloud_service.recommender.data.synthetic import synthetic_log
from cloud_service.recommender.models.cocorrrec import CoCorrRec, SCNAndGCN
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.build import build
from cloud_service.storage.store import Store
from shared.model import GCNForm, ModelSettings

START_SECONDS = 60.0
READY_SECONDS = 600.0
"""A million items' graphs take long to open on a busy machine."""
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
BASELINES = Path(__file__).parent / "baselines"
SPARE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def published(
    folder: Path,
    users: int = 300,
    items: int = 2000,
    gcn: GCNForm = "causal",
    inner_step: int | None = None,
) -> tuple[Store, str]:
    """A store with one version, in production: `untrained`."""
    dataset = split(synthetic_log(users=users, items=items, clicks_per_user=15, seed=3), seed=1)
    store = Store(folder)
    model = untrained(dataset, gcn, inner_step)
    store.promote(version := publish(store, model, dataset, {}, created=CREATED))
    return store, version


def untrained(dataset: Split, gcn: GCNForm, inner_step: int | None = None) -> SCNAndGCN:
    """A model of the paper's shape with random weights, which cost what trained ones do. A
    projected GCN follows item-kNN."""
    torch.manual_seed(7)
    settings = ModelSettings(gcn=gcn, inner_step=inner_step)
    if gcn != "projected":
        return CoCorrRec(dataset.log.item_count, settings, init_std=0.5).eval()
    model = build(dataset, TrainingRecipe.of(model=settings, teachers="item-knn"))
    assert isinstance(model, SCNAndGCN)
    return model.eval()


def cloud_command(port: int) -> list[str]:
    """`cloud-service serve` on a port."""
    return [sys.executable, "-m", "cloud_service.cli", "serve", "--port", str(port)]


def clean_environment(settings: dict[str, str]) -> dict[str, str]:
    """The environment with these settings of a cloud and no others, and one thread a process."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CLOUD_")}
    return clean | SPARE | settings


@contextmanager
def module(name: str, *arguments: str, speaks: bool = True) -> Iterator[str]:
    """A server of these benchmarks, `python -m NAME ARGUMENTS`: the line it prints first."""
    command = [sys.executable, "-m", name, *arguments]
    with _process(command, stdout=subprocess.PIPE if speaks else subprocess.DEVNULL) as process:
        if not speaks:
            yield ""
            return
        assert process.stdout is not None
        yield process.stdout.readline().decode().strip()


@contextmanager
def baseline(environment: Path, script: str, graph: Path, *arguments: str) -> Iterator[str]:
    """A server of benchmarks/baselines in its own virtual environment, with a GCN's graph: its
    address, once it answers."""
    port = free_port()
    command = [str(environment / "bin" / "python"), str(BASELINES / script), *arguments, str(port)]
    with _process(command, {"GCN_GRAPH": str(graph)}):
        url = f"http://127.0.0.1:{port}"
        wait_for(url)
        yield url


@contextmanager
def cloud(store: Store, port: int, **settings: str) -> Iterator[str]:
    """`cloud-service serve` on a store: its address, once it answers."""
    with _process(cloud_command(port), {"CLOUD_STORE": str(store.folder)} | settings):
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/health")
        yield url


class Running(NamedTuple):
    """A cloud's process, once its production version answers corrections."""

    url: str
    port: int
    pid: int
    start_s: float
    """From the command to that moment; seconds, to a twentieth."""


@contextmanager
def ready_cloud(store: Store, cores: set[int] | None = None, **settings: str) -> Iterator[Running]:
    """As `cloud`, for those who look at the process itself; on the cores given."""
    port, begun = free_port(), time.perf_counter()
    settings = {"CLOUD_STORE": str(store.folder)} | settings
    with _process(cloud_command(port), settings) as process:
        if cores is not None:
            os.sched_setaffinity(process.pid, cores)
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/ready", READY_SECONDS)
        yield Running(url, port, process.pid, time.perf_counter() - begun)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def wait_for(url: str, seconds: float = START_SECONDS) -> None:
    """Returns when `url` answers 200. Raises RuntimeError after `seconds`."""
    deadline = time.monotonic() + seconds
    with httpx.Client() as client:
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if client.get(url).status_code == httpx.codes.OK:
                    return
            time.sleep(0.05)
    raise RuntimeError(f"{url} did not answer within {seconds:g} s")


@contextmanager
def _process(
    command: list[str],
    environment: dict[str, str] | None = None,
    stdout: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, stdout=stdout, stderr=subprocess.DEVNULL, env=clean_environment(environment or {})
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
