"""What a device does between a click and a ranking, on ONNX Runtime with one thread.

click     the click's H, before which nothing can be asked for (and a window that slides)
prepare   all of the ranking that waits for neither correction nor candidates: while H travels
rank      a correction and 10, 100 or 1,000 candidates to scores

Inner steps (b of 1, 2 and 5 clicks) are measured against b = 10 in the same rounds: a click, its
prepare and a rank of 100. The yardstick of the rest is the bare matrix products that these are made
of, in numpy, into arrays made before.

    python -m benchmarks.rerank                      half a minute, on an idle machine
    python -m benchmarks.rerank --short              a glance that keeps nothing
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks.machine import keep
from benchmarks.served import published
from cloud_service.recommender.export.cost import count_flops
from device_client.bundle import Bundle
from device_client.scn import DeviceSCN, Graphs
from shared import bundle as files
from shared.model import GCNForm
from shared.wire import RowCorrection

GOAL: Final = 3.0
CANDIDATES: Final = (10, 100, 1000)
FORMS: Final[tuple[GCNForm, ...]] = ("causal", "projected")
INNER_STEPS: Final = (None, 5, 2, 1)
INNER_STEP_GOAL: Final = 1.3


class Step(NamedTuple):
    """What is timed, and what has to come before it each time."""

    run: Callable[[], Any]
    before: Callable[[], Any] = lambda: None


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all steps in turn; prints and keeps medians, quartiles and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--items", type=int, default=2000, help="in the catalogue")
    parser.add_argument("--short", action="store_true", help="a glance that keeps nothing")
    options = parser.parse_args(arguments)
    rounds = 3 if options.short else options.rounds
    results: dict[str, Any] = {}
    ratios: dict[str, Any] = {}
    for form in FORMS:
        with tempfile.TemporaryDirectory() as folder:
            store, version = published(Path(folder), items=options.items, gcn=form)
            bundle = Bundle.open(store.version_folder(version))
            found = _measure(_steps(bundle), rounds)
            flops = results[f"{form}: MFLOPs, 100"] = _mflops(bundle)
        print(f"{form:10} a click and a rank of 100: {flops:.3f} MFLOPs")
        for name, times in found.items():
            low, median, high = statistics.quantiles(times, n=4)
            results[f"{form}: {name}"] = {"median": median, "quartiles": [low, high]}
            print(f"{form:10} {name:34} {median:8.1f} µs ({low:.1f} to {high:.1f})")
        for count in CANDIDATES:
            pairs = zip(
                found["prepare"], found[f"rank {count}"], found[f"bare products, {count}"],
                strict=True,
            )  # fmt: skip
            ratio = statistics.median(
                (prepare_time + two) / bare for prepare_time, two, bare in pairs
            )
            name = f"{form}: prepare and rank {count} / bare products"
            ratios[name] = {"value": ratio, "goal": GOAL}
            print(f"{name}: {ratio:.2f} (goal {GOAL:g})")
        _compare_inner_steps(form, options.items, rounds, results, ratios)
    if not options.short:
        keep("rerank", results, ratios)


def _compare_inner_steps(
    form: GCNForm, items: int, rounds: int, results: dict[str, Any], ratios: dict[str, Any]
) -> None:
    """Adds the time of a click, its prepare and a rank of 100 for each inner step."""
    with ExitStack() as stack:
        steps: dict[str, Step] = {}
        for inner_step in INNER_STEPS:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            store, version = published(folder, items=items, gcn=form, inner_step=inner_step)
            of_bundle = _steps(Bundle.open(store.version_folder(version)))
            for name in ("click", "prepare", "rank 100"):
                steps[f"b = {inner_step or 10}: {name}"] = of_bundle[name]
        found = _measure(steps, rounds)
    whole = {}
    for inner_step in INNER_STEPS:
        b = f"b = {inner_step or 10}"
        parts = [found[f"{b}: {name}"] for name in ("click", "prepare", "rank 100")]
        whole[b] = [sum(part) for part in zip(*parts, strict=True)]
        medians = [statistics.median(part) for part in parts]
        results[f"{form}, {b}: click, prepare, rank 100"] = medians
        pairs = zip(whole[b], whole["b = 10"], strict=True)
        ratio = statistics.median(time / of_ten for time, of_ten in pairs)
        print(f"{form:10} {b:7} click, prepare, rank 100: {medians} µs, {ratio:.2f} of b = 10")
        if inner_step is not None:
            goal = {"value": ratio, "goal": INNER_STEP_GOAL}
            ratios[f"{form}: {b} / b = 10, click to scores"] = goal


def _mflops(bundle: Bundle) -> float:
    """Of a click that begins no segment, and a rank of 100."""
    sizes = {"items": bundle.manifest.items + 1, "candidates": 100, "clicks": 1}
    names = files.HIDDEN_GRAPH, files.PROJECTIONS_GRAPH, files.PREPARE_GRAPH, files.RANK_GRAPH
    graphs = [(bundle.folder / name).read_bytes() for name in names]
    graph_flops = [count_flops(graph, **sizes) for graph in graphs]
    return sum(flops.matrix + flops.elementwise for flops in graph_flops) / 1e6


def _steps(bundle: Bundle) -> dict[str, Step]:
    device = DeviceSCN(Graphs(bundle))
    s, random = bundle.manifest.model, np.random.default_rng(0)
    for item in random.integers(1, bundle.manifest.items + 1, s.segment):
        device.click(int(item))
    correction = RowCorrection(
        random.normal(size=(s.heads, s.segment)).astype(np.float32),
        random.normal(size=(s.heads, s.head_dim)).astype(np.float32),
    )
    lists = {n: random.integers(1, bundle.manifest.items + 1, n) for n in CANDIDATES}
    device.prepare()
    steps: dict[str, Step] = {
        "click": Step(lambda: device.click(1), before=device.prepare),
        "prepare": Step(device.prepare, before=lambda: device.click(1)),
    }
    for count, listed in lists.items():
        steps[f"rank {count}"] = Step(partial(device.scores, listed, correction))
        steps[f"bare products, {count}"] = Step(_bare(bundle, listed))
    return steps


def _bare(bundle: Bundle, candidates: np.ndarray[Any, Any]) -> Callable[[], None]:
    """The matrix products between H and the scores, each as one call."""
    s, table = bundle.manifest.model, np.ascontiguousarray(bundle.item_table)
    k, d, h, f = s.segment, s.dim, s.heads, s.head_dim
    random = np.random.default_rng(0)

    def some(*shape: int) -> Any:
        return random.normal(size=shape).astype(np.float32)

    products = [
        (some(1, d), some(d, s.projections_width)),  # the new click's views
        (some(h, k, f), some(h, f, f)),  # keys through the inner model
        (some(h, k, f), some(h, f, 1)),  # attn
        (some(h, 1, f), some(h, f, f)),  # the query through the inner model
        (some(h, 1, k), some(h, k, f)),  # attn times steps
        (some(1, d), some(d, d)),  # output
    ]
    outputs = [np.matmul(factor, second_factor) for factor, second_factor in products]
    rows, user, scores = some(len(candidates), d), some(d, 1), some(len(candidates), 1)

    def run() -> None:
        for (factor, second_factor), out in zip(products, outputs, strict=True):
            np.matmul(factor, second_factor, out=out)
        np.take(table, candidates, axis=0, out=rows, mode="clip")
        np.matmul(rows, user, out=scores)

    return run


def _measure(steps: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Microseconds: the median of each round."""
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(50):
            step.before()
            step.run()
    for _ in range(rounds):
        for name, step in steps.items():
            times = []
            for _ in range(200):
                step.before()
                begun = time.perf_counter_ns()
                step.run()
                times.append((time.perf_counter_ns() - begun) / 1e3)
            samples[name].append(statistics.median(times))
    return samples


if __name__ == "__main__":
    main()
