"""The servers that are compared, each started on one core, and what is asked of it."""

import base64
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import numpy as np

from benchmarks.served import BASELINES, SPARE
from shared import bundle as files
from shared.wire import FULL_TYPE, HIDDEN_TYPE, correction_path

START_SECONDS: Final = 90.0
OURS: Final = "this project"
BARE: Final = "bare sockets"
PLAIN: Final = "FastAPI, torch"


@dataclass(frozen=True)
class Server:
    """A way to serve the GCN."""

    name: str
    command: tuple[str, ...]
    path: str = "/correction"
    json: bool = False
    """Whether H goes as base64 in JSON; as raw bytes else."""

    def body(self) -> bytes:
        """A request's body."""
        hidden = np.random.default_rng(0).normal(size=(10, 64)).astype("<f4").tobytes()
        if self.json:
            return b'{"hidden":"' + base64.b64encode(hidden) + b'"}'
        return hidden

    def request(self) -> bytes:
        """All of a request's bytes."""
        content_type = "application/json" if self.json else HIDDEN_TYPE
        body = self.body()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {FULL_TYPE}\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def servers(folder: Path, store: Path, port: int, baselines: Path | None) -> list[Server]:
    """All that can be compared; `baselines` is the folder of the baselines' virtual environment."""
    interpreter = sys.executable
    cloud = (
        interpreter,
        "-m",
        "cloud_service.cli",
        "serve",
        "--store",
        str(store),
        "--port",
        str(port),
    )
    servers = [
        Server(OURS, cloud, correction_path(folder.name)),
        Server(BARE, (interpreter, str(BASELINES / "bare.py"), str(port))),
        Server(
            PLAIN,
            (interpreter, str(BASELINES / "plain.py"), str(folder / files.WEIGHTS), str(port)),
        ),
    ]
    if baselines is not None:
        python = str(baselines / "bin" / "python")
        bento = (
            str(baselines / "bin" / "bentoml"),
            "serve",
            "bento:Corrections",
            "--port",
            str(port),
        )
        servers += [
            Server("BentoML", bento),
            Server("LitServe", (python, str(BASELINES / "lit.py"), str(port)), json=True),
            Server("Ray Serve", (python, str(BASELINES / "ray_serve.py"), str(port))),
        ]
    return servers


@contextmanager
def started(server: Server, graph: Path, port: int, core: set[int]) -> Iterator[None]:
    """The server on the cores given, once it answers a correction; then all it started ends."""
    environment = os.environ | SPARE | {"GCN_GRAPH": str(graph)}
    process = subprocess.Popen(
        server.command,
        env=environment,
        cwd=BASELINES if server.command[0] != sys.executable else None,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: os.sched_setaffinity(0, core),
    )
    try:
        _wait(server, port)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def _wait(server: Server, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    content_type = "application/json" if server.json else HIDDEN_TYPE
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            answer = httpx.post(
                f"http://127.0.0.1:{port}{server.path}",
                content=server.body(),
                headers={"content-type": content_type, "accept": FULL_TYPE},
            )
            if answer.status_code == httpx.codes.OK and len(answer.content) == 4160:
                return
        time.sleep(0.2)
    raise RuntimeError(f"{server.name} did not answer within {START_SECONDS:g} s")
