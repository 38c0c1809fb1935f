"""FLOPs, time and memory of reranking 100 candidates after one new click, on ONNX Runtime.

CoCorrRec's Table 4 and Figure 4 on the device's own runtime: one thread, no spinning, buffers bound
once, every point in a fresh process without PyTorch. Histories are all clicks, never a window.

    python -m benchmarks.device_cost                       some minutes, on an idle machine
    python -m benchmarks.device_cost --segments            the SCN's segment size (Figure 6)
    python -m benchmarks.device_cost --short               a glance that keeps nothing
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.device_cost import models
from benchmarks.device_cost.figure import draw
from benchmarks.machine import keep

ROOT = Path(__file__).parents[2]
FIGURE = ROOT / "docs" / "figures" / "device_cost.png"
LENGTHS = (10, 15, 20, 25, 50, 100, 200, 500, 1000)
CARRIED, NEW_SEGMENT, SERVED = models.NAMES[:3]
MEAN = f"{CARRIED}, mean"
"""Of nine clicks in the midst of a segment and one that begins a segment."""
GOALS = {
    "sasrec": (20, 1.0),
    "din": (20, 1.0),
    "mamba4rec": (0, 1.0),
    f"mamba4rec{models.CARRIED}": (0, 1.0),
    f"gru4rec{models.CARRIED}": (0, 2.0),
}
"""From how many clicks on, and at most how many times as long, an SCN is to take."""

Points = dict[str, dict[int, dict[str, Any]]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints tables, and keeps results and figure."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as folder:
        results = counted(options.models, options.lengths, Path(folder))
        measured(results, Path(folder), options.rounds, options.seconds)
    _print("MFLOPs", results, lambda point: f"{point['flops'] / 1e6:.2f}")
    _print("ms (median)", results, lambda point: f"{point['median']:.3f}")
    _print("MB at the peak", results, lambda point: f"{point['memory_bytes'] / 1e6:.1f}")
    print(f"\n{'parameters':24}{'network':>12}{'item table':>12}")
    for name, points in results.items():
        point = list(points.values())[-1]
        print(f"{name:24}{point['parameters']:12,}{point['item_table']:12,}")
    if options.short:
        return
    if options.segments:
        keep("segment_size", flat(results), {})
    else:
        keep("device_cost", flat(results), ratios(results))
        draw(results, FIGURE)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--lengths", type=int, nargs="+", metavar="CLICKS")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--models", nargs="+", choices=models.NAMES)
    which.add_argument(
        "--segments",
        action="store_true",
        help="the SCN in segments of 1 to 20 clicks, at a history of 20 (Figure 6)",
    )
    parser.add_argument("--rounds", type=int, help="fresh processes for each point (3)")
    parser.add_argument("--seconds", type=float, help="measuring time of each process (2)")
    parser.add_argument("--short", action="store_true", help="two lengths, briefly; keeps nothing")
    options = parser.parse_args(arguments)
    short = options.short
    usual = (20,) if options.segments else (10, 50) if short else LENGTHS
    options.lengths = sorted(options.lengths or usual)
    options.models = models.SEGMENTS if options.segments else options.models or models.NAMES
    options.rounds = options.rounds or (1 if short else 3)
    options.seconds = options.seconds or (0.2 if short else 2.0)
    return options


def counted(names: Sequence[str], lengths: Sequence[int], folder: Path) -> Points:
    """Exports and counts every point, and writes its plan into a folder of its own."""
    models.write_common(folder)
    points: Points = {name: {} for name in names}
    for name in names:
        for clicks in lengths:
            print(f"exporting {name}, {clicks} clicks", file=sys.stderr)
            plan, learned = models.plan(name, clicks), models.parameters(name, clicks)
            plan.write(_folder(folder, name, clicks))
            cost = models.flops(plan)
            points[name][clicks] = {
                "flops": cost.total,
                "matrix_flops": cost.matrix,
                "elementwise_flops": cost.elementwise,
                "parameters": learned.network,
                "item_table": learned.item_table,
            }
    return points


def measured(results: Points, folder: Path, rounds: int, seconds: float) -> None:
    """Adds time and memory, all points in turn in every round: no model has an hour to itself."""
    times: dict[tuple[str, int], list[float]] = {}
    memory: dict[tuple[str, int], list[int]] = {}
    for round_index in range(rounds):
        for name, points in results.items():
            for clicks in points:
                print(f"round {round_index + 1}: {name}, {clicks} clicks", file=sys.stderr)
                point = _point(_folder(folder, name, clicks), seconds)
                times.setdefault((name, clicks), []).extend(point["ms"])
                memory.setdefault((name, clicks), []).append(point["memory_bytes"])
    for (name, clicks), every in times.items():
        low, median, high = statistics.quantiles(every, n=4)
        results[name][clicks] |= {
            "median": median,
            "quartiles": [low, high],
            "runs": len(every),
            "memory_bytes": int(statistics.median(memory[name, clicks])),
        }


def _point(folder: Path, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.device_cost.point", str(folder), str(seconds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    measured_point: dict[str, Any] = json.loads(done.stdout)
    return measured_point


def _folder(folder: Path, name: str, clicks: int) -> Path:
    return folder / f"{name.replace(' ', '-')}-{clicks}"


def _print(title: str, results: Points, shown: Callable[[Mapping[str, Any]], str]) -> None:
    lengths = list(next(iter(results.values())))
    print(f"\n{title + ', clicks:':24}" + "".join(f"{clicks:>10}" for clicks in lengths))
    for name, points in results.items():
        print(f"{name:24}" + "".join(f"{shown(points[clicks]):>10}" for clicks in lengths))


def flat(results: Points) -> dict[str, dict[str, Any]]:
    """Points by a name of their own, as they are kept."""
    return {
        f"{name}, {clicks} clicks": point
        for name, points in results.items()
        for clicks, point in points.items()
    }


def ratios(results: Points) -> dict[str, dict[str, float]]:
    """What each further click adds (the paper's Table 4), and the SCN's time against others'."""
    summary = {}
    for name, points in results.items():
        (fewest, before), *_, (most, after) = points.items()
        if most == fewest:
            continue
        for figure in ("flops", "memory_bytes"):
            grown = (after[figure] - before[figure]) / (most - fewest)
            summary[f"{name}: {figure} a further click"] = {"value": grown}
    for scn, times in _scn_times(results).items():
        for name, (least, goal) in GOALS.items():
            points = {n: point for n, point in results.get(name, {}).items() if n >= least}
            relative_times = [times[n] / point["median"] for n, point in points.items()]
            if not relative_times:
                continue
            if name.endswith(models.CARRIED):  # neither depends on the length
                summary[f"{scn} / {name}: time"] = {
                    "value": statistics.median(relative_times),
                    "goal": goal,
                }
            else:
                label = f"{scn} / {name}: time, the most from {min(points)} clicks on"
                summary[label] = {"value": max(relative_times), "goal": goal}
    return summary


def _scn_times(results: Points) -> dict[str, dict[int, float]]:
    """The SCN's time for a click by the length of the history: over a segment, and as served."""
    times = {
        name: {clicks: point["median"] for clicks, point in results[name].items()}
        for name in (CARRIED, NEW_SEGMENT, SERVED)
        if name in results
    }
    if CARRIED in times and NEW_SEGMENT in times:
        plain, new = times[CARRIED], times[NEW_SEGMENT]
        times[MEAN] = {n: 0.9 * plain[n] + 0.1 * new[n] for n in plain}
    return {name: times[name] for name in (MEAN, SERVED) if name in times}


if __name__ == "__main__":
    main()
