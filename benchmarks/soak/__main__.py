"""Half an hour of everything at once, after which the ledger of both sides must balance.

A real cloud, a proxy that delays, drops, cuts, damages and doubles answers, and processes of
devices whose sessions begin and end: both forms, causal and projected versions, candidate lists of
10 to 1,000. Versions are published, promoted and retired meanwhile, and in the first half the
cloud is killed with -9 and started again, three times. At the end: every request accounted for,
by devices, proxy and cloud; every local ranking equal to that of a device without a cloud;
lateness; and in the second half, which one cloud lives through, the slopes of memory, open files
and threads.

    python -m benchmarks.soak                    30 minutes
    python -m benchmarks.soak --minutes 5
    python -m benchmarks.soak --short            a minute that keeps nothing
"""

import argparse
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TextIO

import httpx
import torch

from benchmarks import served
from benchmarks.machine import keep
from benchmarks.processes import PROC, memory
from benchmarks.served import SPARE
from benchmarks.soak import ledger
from benchmarks.soak.figure import draw
from benchmarks.soak.ledger import Life
from cloud_service.publishing.publish import publish
from cloud_service.recommender.data.clicks import split
from cloud_service.recommender.data.synthetic import synthetic_log
from cloud_service.storage.store import Store
from shared.model import GCNForm
from tests.instruments.fault_proxy import (
    Exchange,
    Fault,
    Place,
    Proxy,
    cut_then_closed,
    cut_then_reset,
    delayed,
    dripped,
    flipped,
    lost_once,
    of_the_click_before,
    passed,
    silence,
    twice,
)
from tests.instruments.versions import published_again

FIGURE: Final = Path(__file__).parents[2] / "docs" / "figures" / "soak.svg"
PROCESSES: Final = (1, 1, 4, 4)
"""Devices in each process: alone, and in threads that share an interpreter."""
KILLS: Final = (0.1, 0.25, 0.4)
"""When the cloud is killed, as shares of the time."""
FORMS: Final[tuple[GCNForm, ...]] = ("causal", "projected")
FAULTS: Final[dict[str, tuple[float, Fault]]] = {
    "passed": (0.70, passed),
    "delay": (0.06, delayed(0.04)),
    "jitter": (0.06, delayed(0.004)),
    "loss": (0.03, lost_once),
    "reset": (0.025, lambda exchange: exchange.reset()),
    "half-open": (0.02, silence),
    "drip": (0.02, dripped),
    "cut, closed": (0.02, cut_then_closed),
    "cut, reset": (0.02, cut_then_reset),
    "corruption": (0.025, flipped),
    "duplicate": (0.01, twice),
    "another's answer": (0.01, of_the_click_before),
}
SAMPLE_S: Final = 2.0
BEFORE_A_KILL_S: Final = 0.5
ALIVE: Final = 3
"""Versions that answer; older ones are retired."""


class FaultSchedule:
    """Draws a fault for every answer, and notes it."""

    def __init__(self, out: TextIO, seed: int) -> None:
        self._out, self._random, self._lock = out, random.Random(seed), threading.Lock()
        self._names = list(FAULTS)
        self._shares = [share for share, _ in FAULTS.values()]

    def __call__(self, exchange: Exchange) -> None:
        """Passes an answer on, or not."""
        with self._lock:
            (name,) = self._random.choices(self._names, self._shares)
        self._note(exchange.place, exchange.status, name)
        FAULTS[name][1](exchange)

    def lost(self, position: Place) -> None:
        """The cloud gave no answer."""
        self._note(position, 0, "no answer of the cloud")

    def _note(self, position: Place, status: int, fault: str) -> None:
        with self._lock:
            self._out.write(" ".join(map(str, position)) + f" {status} {fault}\n")


class CloudProcess:
    """A cloud that is killed and started again on one port, and what it was seen to count."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self._folder, self._port = store, folder, served.free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.lives: list[Life] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._token = secrets.token_hex(32)
        headers = {"authorization": f"Bearer {self._token}"}
        self.http = httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=30)

    def start(self, answered: Counter[int]) -> None:
        """Starts a process; returns when it has a model."""
        environment = served.clean_environment(
            {"CLOUD_STORE": str(self.store.folder), "CLOUD_ADMIN_TOKEN": self._token}
        )
        command = served.cloud_command(self._port)
        with (self._folder / f"cloud-{len(self.lives)}.log").open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self.lives.append(Life(answered))
        served.wait_for(f"{self.url}/ready")

    def look(self, proxy: Proxy) -> None:
        """Compares counters while no correction is on its way."""
        with proxy.quiet() as quiet:
            if not quiet:
                raise RuntimeError("the cloud did not answer for five seconds")
            self.lives[-1].looked = proxy.answered.copy()
            self.lives[-1].counted = ledger.counters(self.http.get("/metrics").text)

    def end(self, how: signal.Signals) -> None:
        """Ends the process."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(30)

    def tracebacks(self) -> int:
        """How often the cloud's logs hold one."""
        logs = self._folder.glob("cloud-*.log")
        return sum(log.read_text(errors="replace").count("Traceback") for log in logs)


class Versions:
    """Publishes, promotes and retires versions of two forms in turn."""

    def __init__(self, store: Store, http: httpx.Client) -> None:
        self._store, self._http = store, http
        self._made = served.CREATED
        self._bases = [_published(store, form, self._made) for form in FORMS]
        self._alive = list(self._bases[:1])
        self.published = self.retired = 0
        store.promote(self._bases[0])

    def another(self) -> None:
        """One more in production; the oldest goes."""
        self._made += timedelta(days=1)
        self.published += 1
        base = self._bases[self.published % len(self._bases)]
        version = published_again(self._store, base, self._made)
        self._http.post(f"/v1/models/{version}/promote").raise_for_status()
        self._alive.append(version)
        if len(self._alive) > ALIVE:
            self._http.post(f"/v1/models/{self._alive.pop(0)}/retire").raise_for_status()
            self.retired += 1


class Samples:
    """Memory, open files and threads of processes over time."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.of: dict[str, dict[str, list[float]]] = {}

    def take(self, now: float, processes: dict[str, int]) -> None:
        """One look at every process; none where one has just ended."""
        try:
            usage_now = {name: _usage(pid) for name, pid in processes.items()}
        except OSError:
            return
        self.times.append(now)
        for name, usage in usage_now.items():
            for label, value in usage.items():
                self.of.setdefault(name, {}).setdefault(label, []).append(value)

    def slopes(self, begin: float) -> dict[str, dict[str, dict[str, float]]]:
        """Change an hour of everything from `begin` on."""
        first = next((n for n, time_ in enumerate(self.times) if time_ >= begin), 0)
        return {
            name: {
                label: ledger.slope(self.times[first:], values[first:])
                for label, values in usage.items()
            }
            for name, usage in self.of.items()
        }


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs, balances, prints; keeps results and the figure."""
    options = _options(arguments)
    seconds = 60.0 if options.short else options.minutes * 60
    with tempfile.TemporaryDirectory() as name:
        results, samples, kills = soak(Path(name), seconds, options.seed)
    _print(results)
    if not options.short:
        keep("soak", results, {})
        pss = {name: usage["PSS, MB"] for name, usage in samples.of.items()}
        draw(samples.times, pss, kills, FIGURE)
    if results["wrong"]:
        sys.exit("the ledgers do not balance: " + "; ".join(results["wrong"]))


def soak(folder: Path, seconds: float, seed: int) -> tuple[dict[str, Any], Samples, list[float]]:
    """All of it: results, samples, and when the cloud was killed."""
    cloud = CloudProcess(Store(folder / "store"), folder)
    versions = Versions(cloud.store, cloud.http)
    samples, kills = Samples(), []
    with (folder / "proxy").open("w") as out:
        fault_schedule = FaultSchedule(out, seed)
        proxy = Proxy(cloud.url, fault_schedule, fault_schedule.lost)
        cloud.start(proxy.answered.copy())
        devices = _devices(cloud, proxy.url, folder, seed)
        begun = time.monotonic()
        due = [share * seconds for share in KILLS]
        every = max(8.0, seconds / 90)
        renewed = 0.0
        try:
            while (now := time.monotonic() - begun) < seconds:
                assert cloud.process is not None
                pids = {"cloud": cloud.process.pid}
                pids |= {f"devices {n}": process.pid for n, process in enumerate(devices)}
                samples.take(now, pids)
                if due and now > due[0]:
                    kills.append(due.pop(0))
                    cloud.look(proxy)
                    time.sleep(BEFORE_A_KILL_S)
                    cloud.end(signal.SIGKILL)
                    time.sleep(1.0)  # devices meet nobody
                    cloud.start(proxy.answered.copy())
                elif now - renewed > every:
                    versions.another()
                    renewed = now
                time.sleep(SAMPLE_S)
        finally:
            for process in devices:
                process.terminate()
            for process in devices:
                process.wait(30)
        cloud.look(proxy)
        ended = proxy.answered.copy()
        cloud.end(signal.SIGTERM)
        proxy.close()
        time.sleep(1.0)  # threads of the proxy write their last lines
    results = _balanced(folder, cloud, ended)
    results["seconds"], results["kills"] = seconds, kills
    results["versions"] = {"published": versions.published, "retired": versions.retired}
    results["connections"] = proxy.connections
    results["slopes of the second half"] = samples.slopes(seconds / 2)
    return results, samples, kills


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (30)")
    parser.add_argument("--seed", type=int, default=0, help="of faults and clicks (0)")
    parser.add_argument("--short", action="store_true", help="a minute that keeps nothing")
    return parser.parse_args(arguments)


def _published(store: Store, form: GCNForm, created: datetime) -> str:
    """An untrained model of the paper's shape: it costs what a trained one does."""
    dataset = split(synthetic_log(users=300, items=2000, clicks_per_user=15, seed=3), seed=1)
    model = served.untrained(dataset, form)
    with torch.no_grad():
        model.scn.block.fusion_attn.fill_(0.7)  # else the paper's correction changes no score
    return publish(store, model, dataset, {}, created=created)


def _devices(
    cloud: CloudProcess, proxy: str, folder: Path, seed: int
) -> list[subprocess.Popen[bytes]]:
    store = cloud.store.folder
    return [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.soak.device"]
            + [str(argument) for argument in (index, count, cloud.url, proxy, store, folder, seed)],
            env=os.environ | SPARE,
        )
        for index, count in enumerate(PROCESSES)
    ]


def _usage(pid: int) -> dict[str, float]:
    process, used = PROC / str(pid), memory(pid)
    files = [str(file.readlink()) for file in (process / "fd").iterdir()]
    status = (process / "status").read_text()
    return {
        "PSS, MB": used.pss / 2**20,
        "RSS, MB": used.rss / 2**20,
        "open files": len(files),
        "sockets": sum(file.startswith("socket:") for file in files),
        "threads": int(status.split("Threads:")[1].split()[0]),
    }


def _balanced(folder: Path, cloud: CloudProcess, ended: Counter[int]) -> dict[str, Any]:
    """Every term of the ledger, and in `wrong` what does not add up."""
    told, faults, differ = ledger.devices(folder)
    matched = ledger.joined(folder)
    usage_now = {name.removeprefix("request "): n for name, n in told.items() if "request " in name}
    terms = {
        "asked for": told["asked"],
        "ended with an outcome": sum(usage_now.values()),
        "replaced by a newer H": told["replaced by a newer H"],
        "on their way when their session ended": told["on its way when its session ended"],
    }
    unexplained = 2 * terms["asked for"] - sum(terms.values())
    terms["not sent when their session ended"] = unexplained
    answered, looked = 0, 0
    lives = []
    for index, life in enumerate(cloud.lives):
        after = cloud.lives[index + 1].answered_before if index + 1 < len(cloud.lives) else ended
        seen = (life.looked - life.answered_before).total()
        looked += seen
        answered += (after - life.answered_before).total()
        lives.append(
            {
                "by the cloud's counters": dict(life.counted),
                "answers seen by the proxy until the last look": seen,
                "after it, until the kill": (after - life.looked).total(),
                "differences": life.differences(),
            }
        )
    wrong = [f"raised in a device: {fault}" for fault in faults]
    wrong += [f"life {n}: {life['differences']}" for n, life in enumerate(lives)
              if life["differences"]]  # fmt: skip
    for label in ("sent, not seen by the proxy", "seen by the proxy, not sent", "unexplained"):
        lines = matched.pop(label)
        matched[label] = {"count": len(lines), "first": lines[:20]}
        if lines:
            wrong.append(f"{label}: {len(lines)}")
    for label in ("local rankings that differ", "corrected rankings that differ"):
        if told[label]:
            wrong.append(f"{label}: {told[label]}")
    if not 0 <= terms["not sent when their session ended"] <= told["sessions"]:
        wrong.append(f"not sent: {terms['not sent when their session ended']}")
    if cloud.tracebacks():
        wrong.append(f"tracebacks in the cloud's log: {cloud.tracebacks()}")
    single = {str(n) for n, count in enumerate(PROCESSES) if count == 1}
    return {
        "wrong": wrong,
        "corrected rankings that differ": differ,
        "requests": terms,
        "outcomes": usage_now,
        "devices": dict(sorted(told.items())),
        "matched": matched,
        "answers": {"all": answered, "compared with the cloud's counters": looked},
        "lives": lives,
        "late by, one device a process": ledger.excess(
            folder, lambda name: name.split("-")[0] in single
        ),
        "late by, four devices a process": ledger.excess(
            folder, lambda name: name.split("-")[0] not in single
        ),
    }


def _print(results: dict[str, Any]) -> None:
    for argument in results["corrected rankings that differ"]:
        print("differs:", argument)
    print("requests")
    for name, count in results["requests"].items():
        print(f"  {name:44}{count:>10,}")
    print("outcomes", results["outcomes"])
    print("devices")
    for name, count in results["devices"].items():
        print(f"  {name:44}{count:>10,}")
    print("what was done to an answer, and how its request ended")
    for name, ends in results["matched"]["by fault"].items():
        print(f"  {name:26}{ends}")
    for label in ("sent, not seen by the proxy", "seen by the proxy, not sent", "unexplained"):
        print(f"  {label}: {results['matched'][label]}")
    for index, life in enumerate(results["lives"]):
        print(f"cloud {index}: {life}")
    print(f"answers {results['answers']}, versions {results['versions']}")
    for who in ("late by, one device a process", "late by, four devices a process"):
        for label, spread in results[who].items():
            shown = ", ".join(f"{name} {value:,.4g}" for name, value in spread.items())
            print(f"{who}, {label}, ms: {shown}")
    print("an hour, with 95% intervals, in the second half")
    for name, usage in results["slopes of the second half"].items():
        for label, usage_now in usage.items():
            print(
                f"  {name:12}{label:12}{usage_now['mean']:10.1f}{usage_now['an hour']:+10.2f} "
                f"({usage_now['low']:+.2f} to {usage_now['high']:+.2f})"
            )


if __name__ == "__main__":
    main()
