"""More devices: what the simulator asks of a real cloud, what it gets, and which of the two is at
its end. Each has a core of its own where there are two."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from benchmarks import served
from benchmarks.processes import device_core, server_core
from benchmarks.served import SPARE, Running
from cloud_service.publishing.publish import publish
from cloud_service.recommender.data.clicks import split
from cloud_service.recommender.data.synthetic import synthetic_log
from cloud_service.recommender.models.cocorrrec import CoCorrRec
from cloud_service.storage.store import Store
from experiments.simulation.measured import WHOLE_CORE, Limit
from shared.model import PAPER

CLICKS = 2.0
"""A second, of each device: more than a person's, so that 1,000 devices are a load."""
SHED = 0.01
"""Share of corrections refused from which on the cloud is at its end."""

Verdict = Literal["simulator", "cloud", "both", "machine", "devices", "neither"]


def measured(
    counts: Sequence[int], rounds: int, seconds: float, clicks: float, folder: Path
) -> dict[str, Any]:
    """Every number of devices in turn; times in ms, CPU in cores."""
    store, version = _store(folder / "devices")
    figures: dict[int, list[dict[str, Any]]] = {count: [] for count in counts}
    with served.ready_cloud(store, server_core(), CLOUD_SERVE_REPLAYS="true") as cloud:
        bundle = store.version_folder(version)
        _run(cloud, bundle, 10, 100.0, 1.0, 0)  # to warm up
        for index in range(rounds):
            for count in counts:
                print(f"devices, round {index + 1}: {count}", file=sys.stderr)
                run = _run(cloud, bundle, count, clicks * count, seconds, index + 1)
                figures[count].append(_read(run))
    return {str(count): _together(round_) for count, round_ in figures.items()}


def verdict(limit: Limit | None, cloud_cpu: float, refused: float) -> Verdict:
    """Which of the two is at its end. `limit` is the simulator's own word, `cloud_cpu` in cores,
    `refused` the share of corrections that the cloud would not compute."""
    cloud = cloud_cpu >= WHOLE_CORE or refused > SHED
    if limit == "simulator":
        return "both" if cloud else "simulator"
    return "cloud" if cloud else limit or "neither"


def _store(folder: Path) -> tuple[Store, str]:
    log = synthetic_log(users=1500, items=2000, clicks_per_user=15, seed=3)
    dataset = split(log, holdout_users=0.5, seed=1)
    model = CoCorrRec(log.item_count, PAPER, init_std=0.5).eval()
    store = Store(folder)
    store.promote(version := publish(store, model, dataset, {}, created=served.CREATED))
    return store, version


def _run(
    cloud: Running, bundle: Path, devices: int, rate: float, seconds: float, seed: int
) -> dict[str, Any]:
    arguments = [cloud.url, cloud.pid, bundle, devices, rate, seconds, seed]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling.simulated", *map(str, arguments)],
        env=os.environ | SPARE,
        stdout=subprocess.PIPE,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, device_core()),
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _read(run: dict[str, Any]) -> dict[str, Any]:
    result = run["result"]
    outcomes = result["cases"]["at-once"]["outcomes"]
    arrivals, requests = result["arrivals"], result["requests"]
    elapsed = requests / arrivals["achieved_per_s"]
    total = result["legs"]["total"] or {"count": 0, "p50": float("nan"), "p99": float("nan")}
    cloud_cpu = run["cloud_cpu_s"] / run["seconds"]
    refused = outcomes["refused"] / requests
    return {
        "asked_per_s": arrivals["intended_per_s"],
        "reached_per_s": total["count"] / elapsed,
        "outcomes": {outcome: count / requests for outcome, count in outcomes.items() if count},
        "p50": total["p50"],
        "p99": total["p99"],
        "late_p99": arrivals["start_delay"]["p99"],
        "own_late_p99": arrivals["own_delay"]["p99"],
        "simulator_cpu": arrivals["cpu_share"],
        "cloud_cpu": cloud_cpu,
        "limit": run["limit"],
        "saturated": verdict(run["limit"], cloud_cpu, refused),
    }


def _together(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, value in rounds[0].items():
        if isinstance(value, float):
            every = [round_[name] for round_ in rounds]
            figures[name] = statistics.median(every)
            figures[f"{name}_range"] = [min(every), max(every)]
    outcomes = sorted({outcome for round_ in rounds for outcome in round_["outcomes"]})
    figures["outcomes"] = {
        outcome: statistics.median(round_["outcomes"].get(outcome, 0.0) for round_ in rounds)
        for outcome in outcomes
    }
    figures["saturated"] = [round_["saturated"] for round_ in rounds]
    return figures


def ratios(results: dict[str, Any]) -> dict[str, Any]:
    """What is reached of what is asked."""
    return {
        f"devices: reached of asked, {int(count):,}": {
            "value": row["reached_per_s"] / row["asked_per_s"],
            "goal": 0.95,
        }
        for count, row in results.items()
    }


def show(results: dict[str, Any]) -> None:
    """The table."""
    print(
        f"\n{'devices':>8}{'asked/s':>9}{'reached/s':>11}{'median ms':>11}{'p99 ms (range)':>24}"
        f"{'late p99 (own)':>18}{'CPU: simulator':>16}{'cloud':>7}  saturated: outcomes"
    )
    for count, row in results.items():
        low, high = row["p99_range"]
        p99 = f"{row['p99']:.2f} ({low:.2f} to {high:.2f})"
        late = f"{row['late_p99']:.2f} ({row['own_late_p99']:.2f})"
        shares = ", ".join(
            f"{outcome} {share:.1%}"
            for outcome, share in sorted(row["outcomes"].items(), key=lambda round_: -round_[1])
        )
        print(
            f"{int(count):8,}{row['asked_per_s']:9,.0f}{row['reached_per_s']:11,.0f}"
            f"{row['p50']:11.2f}{p99:>24}{late:>18}"
            f"{row['simulator_cpu']:16.2f}{row['cloud_cpu']:7.2f}"
            f"  {' / '.join(dict.fromkeys(row['saturated']))}: {shares}"
        )
