"""What learning on the device costs, on ONNX Runtime with one thread.

round      60 clicks, 20 steps, 500 negatives, from the draw of negatives to the judgement; beside
           the same steps in PyTorch with autograd and Adam on the same core
click      how long one waits for a learner: for the step under way in the same thread, or beside a
           learner that works in another thread
rank       100 candidates with patch and memory, beside a bundle without learning
memory     of a process with a learner, above the same without
fleet      10,000 simulated devices in one batched computation, on 2 cores

    python -m benchmarks.learning                    two minutes, on an idle machine
    python -m benchmarks.learning --short            a glance that keeps nothing
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from benchmarks.learning.simulated import fleet_round, published, taught_session, torch_round
from benchmarks.machine import keep
from benchmarks.served import clean_environment
from device_client.bundle import Bundle
from device_client.scn import Graphs
from device_client.session import Session
from shared.outcomes import LearningOutcome

GOALS: Final = {
    "round in ONNX Runtime / in PyTorch": 0.2,
    "round, ms": 30.0,
    "click beside a learner waits, p99 ms": 2.0,
    "patched rank of 100 / unpatched": 1.1,
    "private memory while it runs, MB": 3.0,
    "memory after ten rounds / after the first": 1.0,
    "10,000 devices, one round, s": 60.0,
}
DEVICES: Final = 10_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all of it; prints figures and goals, and keeps them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--short", action="store_true", help="a glance that keeps nothing")
    short = parser.parse_args(arguments).short
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        plain, learns = published(Path(folder))
        results["rounds, ms"] = _rounds(learns, 10 if short else 60)
        results["steps, ms"] = _steps(learns, 5 if short else 40)
        results["clicks, ms"] = _clicks(learns, 200 if short else 2000)
        results["rank, µs"] = _ranks(plain, learns, 5 if short else 40)
        results["memory, kB"] = _memory(learns)
    results["fleet, s"] = _fleet(DEVICES // 10 if short else DEVICES)
    ratios = _ratios(results)
    for name, ratio in ratios.items():
        print(f"{name}: {ratio['value']:.3g} (goal {ratio['goal']:g})")
    if not short:
        keep("learning", results, ratios)


def _ratios(results: dict[str, Any]) -> dict[str, Any]:
    rounds, ranks, memory = results["rounds, ms"], results["rank, µs"], results["memory, kB"]
    worst = max(results["steps, ms"]["p99"], results["clicks, ms"]["beside a learner"]["p99"])
    values = (
        rounds["ratio"],
        rounds["ONNX Runtime"]["median"],
        worst,
        ranks["ratio"],
        max(memory["private"]) / 1000,
        memory["private"][-1] / max(memory["private"][0], 1),
        results["fleet, s"],
    )
    return {
        name: {"value": value, "goal": goal}
        for (name, goal), value in zip(GOALS.items(), values, strict=True)
    }


def _rounds(bundle: Bundle, rounds: int) -> dict[str, Any]:
    """Milliseconds of rounds that take turns, and the median of their ratios."""
    session, learner = taught_session(bundle)
    in_torch = torch_round(bundle)

    def one() -> None:
        session.click_row(1)
        outcome = learner.learn(1e6)
        assert outcome in (LearningOutcome.IMPROVED, LearningOutcome.KEPT)

    times = _in_turns({"ONNX Runtime": one, "PyTorch": in_torch}, rounds, each=1, scale=1e6)
    ratio = statistics.median(a / b for a, b in zip(*times.values(), strict=True))
    return {name: _spread(values) for name, values in times.items()} | {"ratio": ratio}


def _steps(bundle: Bundle, rounds: int) -> dict[str, float]:
    """Milliseconds that each step of rounds takes: what a click in the same thread waits for."""
    session, learner = taught_session(bundle)
    learner.learn(1e6)
    times = []
    for _ in range(rounds):
        session.click_row(1)
        outcome: LearningOutcome | None = LearningOutcome.OUT_OF_TIME
        while outcome is LearningOutcome.OUT_OF_TIME:
            begun = time.perf_counter_ns()
            outcome = learner.learn(0)
            times.append((time.perf_counter_ns() - begun) / 1e6)
    return _spread(times)


def _clicks(bundle: Bundle, clicks: int) -> dict[str, Any]:
    """Milliseconds of a click and a rerank, alone and while a learner works in another thread."""
    session, learner = taught_session(bundle)
    candidates = np.random.default_rng(0).integers(1, bundle.manifest.items + 1, 100)
    stopped = threading.Event()

    def work() -> None:
        while not stopped.is_set():
            if learner.learn(5) is None:
                time.sleep(0.001)

    def measure() -> list[float]:
        times = []
        for at in range(clicks):
            begun = time.perf_counter_ns()
            session.click_row(1 + at % bundle.manifest.items)
            session.rerank_rows(candidates)
            times.append((time.perf_counter_ns() - begun) / 1e6)
            time.sleep(0.002)
        return times

    alone = _spread(measure())
    thread = threading.Thread(target=work)
    thread.start()
    try:
        beside = _spread(measure())
    finally:
        stopped.set()
        thread.join()
    return {"alone": alone, "beside a learner": beside}


def _ranks(plain: Bundle, learns: Bundle, rounds: int) -> dict[str, Any]:
    """Microseconds of a rank of 100 without learning, and with a patch and a memory."""
    unpatched, (patched, learner) = Session(Graphs(plain)), taught_session(learns)
    for row in np.random.default_rng(0).integers(1, plain.manifest.items + 1, 75):
        unpatched.click_row(int(row))
    # A bundle without an adopted patch would be compared with itself.
    patch = np.random.default_rng(0).normal(0, 0.1, plain.manifest.model.dim)
    learner._take(LearningOutcome.IMPROVED, patch.astype(np.float32))
    assert patched.scn.patch is not None
    candidates = np.random.default_rng(1).integers(1, plain.manifest.items + 1, 100)
    times = _in_turns(
        {
            "unpatched": lambda: unpatched.scn.scores(candidates, None),
            "patched": lambda: patched.scn.scores(candidates, None),
        },
        rounds,
        each=200,
        scale=1e3,
    )
    pairs = zip(times["patched"], times["unpatched"], strict=True)
    ratio = statistics.median(one / other for one, other in pairs)
    return {name: _spread(values) for name, values in times.items()} | {"ratio": ratio}


def _memory(bundle: Bundle) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.learning.memory", str(bundle.folder)]
    done = subprocess.run(
        command, capture_output=True, check=True, text=True, env=clean_environment({})
    )
    memory: dict[str, Any] = json.loads(done.stdout)
    return memory


def _fleet(devices: int) -> float:
    """Seconds of one round of so many devices on two cores."""
    torch.set_num_threads(2)
    run = fleet_round(devices)
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def _in_turns(
    ways: dict[str, Callable[[], object]], rounds: int, *, each: int, scale: float
) -> dict[str, list[float]]:
    """For each way, the medians of its rounds; the ways take turns. `scale` is in ns."""
    for run in ways.values():
        for _ in range(max(3, each // 4)):
            run()
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            times = []
            for _ in range(each):
                begun = time.perf_counter_ns()
                run()
                times.append((time.perf_counter_ns() - begun) / scale)
            samples[name].append(statistics.median(times))
    return samples


def _spread(times: Sequence[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(times, n=4)
    return {
        "median": median, "low": low, "high": high,
        "p99": float(np.quantile(times, 0.99)), "most": max(times),
    }  # fmt: skip


if __name__ == "__main__":
    main()
