"""From H in hand to a correction ready to apply: one device, one correction at a time, loopback.

The yardstick is a raw socket that exchanges the same bytes with a minimal server running the same
GCN. All ways take turns, so that none has a quiet minute to itself. After each correction comes a
pause, as after a click: without one, neither process ever sleeps, which no device does. Device and
servers have a core each: left alone, the system puts both ends of a hot loop on one, where waking
the other costs nothing, and no device shares a processor with its cloud. The GCN is the paper's,
and then the projected one, which `make demo` and `docker compose up` serve.

    python -m benchmarks.one_device                  two minutes, on an idle machine
    python -m benchmarks.one_device --baselines FOLDER   and the baselines in that environment
    python -m benchmarks.one_device --short          a glance that keeps nothing
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import served
from benchmarks.machine import keep
from benchmarks.one_device import clients
from benchmarks.processes import device_core, running_on, server_core, two_cores
from cloud_service.storage.store import Store
from device_client.bundle import Bundle
from shared import bundle as files
from shared.model import GCNForm
from shared.wire import Form

GOALS: Final = {"median": 1.25, "p99": 1.5}
MEASURED: Final[tuple[Form, ...]] = ("full", "row")
NAMED: Final[dict[GCNForm, str]] = {"causal": "", "projected": "projected, "}
"""The GCNs, and how their results' names begin."""
PAUSES_MS: Final = (0.0, 1.0)
YARDSTICK, OURS, USUAL = "raw socket", "this project", "httpx, JSON, FastAPI, torch"
WEBSOCKET, HTTP2 = "WebSocket, uvicorn, no checks", "HTTP/2 (httpx), hypercorn, no checks"
_WARM = 100


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures both forms with and without a pause; prints tables, keeps results and ratios."""
    options = _options(arguments)
    two_cores()
    if options.baselines is not None:
        sys.path.append(str(next((options.baselines / "lib").glob("python3*/site-packages"))))
    results: dict[str, Any] = {}
    ratios: dict[str, Any] = {}
    for gcn in NAMED:
        with tempfile.TemporaryDirectory() as folder:
            store, version = served.published(Path(folder), gcn=gcn)
            for form in MEASURED:
                with ExitStack() as stack:
                    servers = _Servers.of(store, version, form, stack, options.baselines)
                    stack.enter_context(running_on(device_core()))
                    asks = _ways(servers, form, stack)
                    for pause in options.pauses:
                        name = f"{NAMED[gcn]}{form}, {pause:g} ms between"
                        measured = _measure(asks, pause / 1e3, options.rounds, options.count)
                        results[name] = {
                            client: _summary(samples) for client, samples in measured.items()
                        }
                        ratios |= _ratios(name, measured)
                        _print(name, results[name])
    for name, ratio in ratios.items():
        print(f"{name}: {ratio['value']:.2f} (goal {ratio['goal']:g})")
    if not options.short:
        keep("one_device", results, ratios)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--baselines", type=Path, help="virtual environment of benchmarks/baselines.txt"
    )
    parser.add_argument("--rounds", type=int, help="turns of every way (10)")
    parser.add_argument("--count", type=int, help="corrections in a turn (100)")
    parser.add_argument("--short", action="store_true", help="a glance that keeps nothing")
    parser.add_argument(
        "--pauses", type=float, nargs="+", default=list(PAUSES_MS), metavar="MS",
        help="between one correction and the next H",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (2 if options.short else 10)
    options.count = options.count or (50 if options.short else 100)
    return options


@dataclass(frozen=True)
class _Servers:
    """What is asked, each a process on the servers' core."""

    bundle: Bundle
    raw_port: int
    cloud: str
    usual: str | None
    """Not for every form and GCN, as what follows: what such a stack costs does not depend on
    them."""
    websocket: str | None = None
    http2: str | None = None

    @classmethod
    def of(
        cls, store: Store, version: str, form: Form, stack: ExitStack, baselines: Path | None
    ) -> "_Servers":
        """Starts them; other protocols' where there is the `baselines`' virtual environment."""
        folder = store.version_folder(version)
        bundle = Bundle.open(folder)
        model, usual = bundle.manifest.model, None
        addresses: dict[str, str] = {}
        graph = folder / (files.GCN_GRAPH if form == "full" else files.GCN_ROW_GRAPH)
        arguments = str(graph), str(model.hidden_bytes)
        with running_on(server_core()):
            port = stack.enter_context(
                served.module("benchmarks.one_device.raw_server", *arguments)
            )
            cloud = stack.enter_context(served.cloud(store, served.free_port()))
            if form == "full" and model.gcn == "causal":
                other = served.free_port()
                arguments = str(folder / files.WEIGHTS), str(other)
                module = "benchmarks.one_device.usual_server"
                stack.enter_context(served.module(module, *arguments, speaks=False))
                usual = f"http://127.0.0.1:{other}"
                served.wait_for(f"{usual}/openapi.json")
                if baselines is not None:
                    for protocol in ("websocket", "http2"):
                        server = served.baseline(baselines, "protocols.py", graph, protocol)
                        addresses[protocol] = stack.enter_context(server)
        return cls(bundle, int(port), cloud, usual, **addresses)


def _ways(servers: _Servers, form: Form, stack: ExitStack) -> dict[str, clients.Ask]:
    bundle, url = servers.bundle, servers.cloud
    model = bundle.manifest.model
    size = model.correction_bytes if form == "full" else model.row_bytes
    asks = {
        YARDSTICK: clients.raw(servers.raw_port, size, stack),
        OURS: clients.ours(url, bundle, form, stack),
    }
    if model.gcn == "causal":
        asks |= {
            f"{name}, our cloud": ask
            for name, ask in clients.libraries(url, bundle, form, stack).items()
        }
    if servers.websocket is not None:
        asks[WEBSOCKET] = clients.websocket(servers.websocket, size, stack)
    if servers.http2 is not None:
        asks[HTTP2] = clients.http2(servers.http2, size, stack)
    if servers.usual is not None:
        asks[USUAL] = clients.usual(servers.usual, stack)
    return asks


def _measure(
    ways: dict[str, clients.Ask], pause_s: float, rounds: int, count: int
) -> dict[str, list[list[float]]]:
    """Microseconds of each correction, by way and turn."""
    random = np.random.default_rng(0)
    rounds_by_client: dict[str, list[list[float]]] = {name: [] for name in ways}
    for ask in ways.values():
        for _ in range(_WARM):
            ask(random.normal(size=(10, 64)).astype(np.float32))
    for _ in range(rounds):
        for name, ask in ways.items():
            turn = []
            for hidden in random.normal(size=(count, 10, 64)).astype(np.float32):
                if pause_s:
                    time.sleep(pause_s)
                begun = time.perf_counter_ns()
                ask(hidden)
                turn.append((time.perf_counter_ns() - begun) / 1e3)
            rounds_by_client[name].append(turn)
    return rounds_by_client


def _summary(turns: list[list[float]]) -> dict[str, Any]:
    every = [value for turn in turns for value in turn]
    low, median, high = statistics.quantiles(every, n=4)
    p99 = float(np.quantile(every, 0.99))
    return {"median": median, "quartiles": [low, high], "p99": p99, "corrections": len(every)}


def _ratios(name: str, found: dict[str, list[list[float]]]) -> dict[str, Any]:
    """Ours to the yardstick, turn by turn, so that a slow minute counts for both."""
    ratios = {}
    for label, quantile in (("median", 0.5), ("p99", 0.99)):
        pairs = zip(found[OURS], found[YARDSTICK], strict=True)
        each = [np.quantile(ours, quantile) / np.quantile(raw, quantile) for ours, raw in pairs]
        ratios[f"{name}: {label} / raw socket"] = {
            "value": float(statistics.median(each)),
            "goal": GOALS[label],
        }
    return ratios


def _print(name: str, rows: dict[str, Any]) -> None:
    print(f"\n{name:40}{'median µs':>10}{'quartiles':>16}{'p99':>8}{'to raw':>8}")
    base = rows[YARDSTICK]["median"]
    for client, row in rows.items():
        low, high = row["quartiles"]
        print(
            f"{client:40}{row['median']:10.0f}{f'{low:.0f} to {high:.0f}':>16}{row['p99']:8.0f}"
            f"{row['median'] / base:8.2f}"
        )


if __name__ == "__main__":
    main()
