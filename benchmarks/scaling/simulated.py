"""One run of simulated devices, in a process of its own: `device-client simulate` without pages.

    python -m benchmarks.scaling.simulated URL PID BUNDLE DEVICES RATE SECONDS SEED

PID is the cloud's. Prints JSON: the result over an unshaped network as the report has it, and CPU
seconds of this process and of the cloud. No request's ranking is compared with another: random
weights have no quality.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.processes import cpu_seconds
from device_client.bundle import Bundle
from device_client.cloud import Cloud
from device_client.correction.budget import Budget
from device_client.scn import Graphs
from experiments.simulation.device import Load
from experiments.simulation.measure import summarise
from experiments.simulation.network import PROFILES
from experiments.simulation.pauses import parse_think
from experiments.simulation.requests import Visit, plan_visits
from experiments.simulation.runner import run_profile
from shared.open_files import SPARE, allow_open_files

PLANNED, CANDIDATES, LONGEST = 2000, 100, 10


def visits_for(url: str, version: str, devices: int, requests: int, seed: int) -> list[Visit]:
    """Visits of `requests` in all or some more, at least one a device: those of the cloud's
    held-out users, played again by others where there are too few."""
    with Cloud(url) as cloud:
        planned = plan_visits(
            cloud,
            version,
            request_count=min(requests, PLANNED),
            longest=LONGEST,
            candidates=CANDIDATES,
            seed=seed,
            progress=lambda done, total: None,
        )
    figures: list[Visit] = []
    total = 0
    while total < requests or len(figures) < devices:
        visit = planned[len(figures) % len(planned)]
        figures.append(Visit(visit.user, visit.earlier, visit.requests))
        total += len(visit.requests)
    return figures


def main() -> None:
    """Runs and prints."""
    url, pid, folder, *texts = sys.argv[1:]
    devices, rate, seconds, seed = (float(text) for text in texts)
    bundle = Bundle.open(Path(folder))
    requests = max(1, int(rate * seconds))
    visits = visits_for(url, bundle.version, int(devices), requests, int(seed))
    load = Load(int(devices), rate, parse_think("none"), Budget(), "row", int(seed))
    graphs = Graphs(bundle)
    allow_open_files(int(devices) + SPARE)
    begun, ours, cloud = time.perf_counter(), cpu_seconds(), cpu_seconds(int(pid))
    network = PROFILES["loopback"]
    measured = run_profile(visits, graphs, url, network, load, lambda corrected: None)
    result = summarise(network, [measured], load.budget.tolerance_ms / 1e3)
    figures: dict[str, Any] = {
        "result": result.model_dump(mode="json"),
        "limit": result.arrivals.limit(load.budget.tolerance_ms),
        "seconds": time.perf_counter() - begun,
        "simulator_cpu_s": cpu_seconds() - ours,
        "cloud_cpu_s": cpu_seconds(int(pid)) - cloud,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
