"""How fast samples are matched, with what recall, and what that costs the corrections.

    OMP_NUM_THREADS=1 python -m benchmarks.pool [--samples 1000000] [--short]

Samples are directions of D = 64 around shared tastes. A search asks for 200 of them, by 1, 4 and 8
states. The yardstick is the same search that compares all samples; usearch is measured beside it
where it is installed. Then a cloud serves these samples, and one device asks for corrections, alone
and while another device asks for samples without a pause.
"""

import argparse
import importlib
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import keep
from benchmarks.one_device.clients import ours
from benchmarks.served import clean_environment, published, ready_cloud
from cloud_service.recommender.pool.inverted_lists import EXACT, Lists, make_lists, unit_rows
from cloud_service.recommender.pool.pool_file import Pool, pool_bytes
from device_client.bundle import Bundle
from device_client.learning.samples import SamplesUnavailable, fetch_samples
from shared.samples import MOST_SAMPLES, Query

DIM: Final = 64
STATES: Final = (1, 4, 8)
TOKEN: Final = "token-of-a-benchmark"
_TASTES: Final = 300
_SPREAD: Final = 0.075

Floats = NDArray[np.float32]


def main() -> None:
    """Measures the search, then the cloud, and keeps the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--short", action="store_true", help="200,001 samples, few rounds")
    options = parser.parse_args()
    count, rounds = options.samples, options.rounds
    if options.short:
        count, rounds = EXACT + 1, 30
    random = np.random.default_rng(0)
    units = directions(count, random)
    begun = time.perf_counter()
    lists = make_lists(units, random)
    results: dict[str, Any] = {"samples": count, "build_s": time.perf_counter() - begun}
    results["search"] = search(lists, units, rounds, random)
    small = make_lists(units[:EXACT].copy(), random)
    results["exact"] = {
        f"{states} states": timed(small.nearest, queries(units, states, rounds, random))
        for states in STATES
    }
    if importlib.util.find_spec("usearch"):
        results["usearch"] = of_usearch(units, rounds, random)
    results["served"] = served(lists, units, random, seconds=2.0 if options.short else 10.0)
    ratios = {
        f"{states} states of {count:,}: lists / all compared": {
            "value": row["lists"]["p50_ms"] / row["all"]["p50_ms"]
        }
        for states, row in ((n, results["search"][f"{n} states"]) for n in STATES)
    }
    calm, busy = results["served"]["alone"], results["served"]["beside samples"]
    ratios |= {
        f"a correction beside searches / alone, {q}": {"value": busy[q] / calm[q]}
        for q in ("p50_ms", "p99_ms")
    }
    for name, ratio in ratios.items():
        print(f"{name}: {ratio['value']:.3f}")
    if not options.short:
        print(keep("pool", results, ratios))


def directions(count: int, random: np.random.Generator) -> Floats:
    """Unit vectors, twenty around each user's mixture of a few tastes, (n, D)."""
    tastes = random.normal(size=(_TASTES, DIM)).astype(np.float32)
    users = -(-count // 20)
    mixtures = random.dirichlet(np.full(_TASTES, 0.02), users).astype(np.float32)
    centres = np.repeat(unit_rows(mixtures @ tastes), 20, axis=0)[:count]
    noise = _SPREAD * random.standard_normal((count, DIM), np.float32)
    return unit_rows(centres + noise)[random.permutation(count)]


def queries(units: Floats, states: int, rounds: int, random: np.random.Generator) -> list[Floats]:
    """States near one sample each, as those of a user are near each other."""
    chosen = units[random.integers(0, len(units), rounds)]
    noise = _SPREAD * random.standard_normal((states, rounds, DIM), np.float32)
    return [unit_rows(rows) for rows in (chosen + noise).transpose(1, 0, 2)]


def timed(nearest: Callable[[Floats, int], Any], asked: list[Floats]) -> dict[str, float]:
    """Milliseconds of a search: the median, and what one in a hundred exceeds."""
    nearest(asked[0], MOST_SAMPLES)
    times = []
    for query in asked:
        begun = time.perf_counter()
        nearest(query, MOST_SAMPLES)
        times.append((time.perf_counter() - begun) * 1e3)
    return {"p50_ms": float(np.median(times)), "p99_ms": float(np.quantile(times, 0.99))}


def search(lists: Lists, units: Floats, rounds: int, random: np.random.Generator) -> dict[str, Any]:
    """Times and recall of a search in lists, beside one that compares all samples."""
    everything = make_lists(units, random, exact=len(units))
    results = {}
    for states in STATES:
        asked = queries(units, states, rounds, random)
        compared = asked[: max(10, rounds // 10)]
        recall = [
            len(np.intersect1d(lists.nearest(q, MOST_SAMPLES), everything.nearest(q, MOST_SAMPLES)))
            / MOST_SAMPLES
            for q in compared
        ]
        row: dict[str, Any] = {
            "lists": timed(lists.nearest, asked),
            "all": timed(everything.nearest, compared),
            "recall": float(np.mean(recall)),
        }
        results[f"{states} states"] = row
        print(
            f"{states} states: {row['lists']['p50_ms']:.2f} ms "
            f"(p99 {row['lists']['p99_ms']:.2f}), recall {row['recall']:.3f}; all compared "
            f"{row['all']['p50_ms']:.2f} ms"
        )
    return results


def of_usearch(units: Floats, rounds: int, random: np.random.Generator) -> dict[str, Any]:
    """The same with usearch: an HNSW graph over the cosine of float16."""
    index = importlib.import_module("usearch.index").Index(ndim=DIM, metric="cos", dtype="f16")
    begun = time.perf_counter()
    index.add(np.arange(len(units)), units, threads=1)
    results: dict[str, Any] = {
        "build_s": time.perf_counter() - begun,
        "megabytes": index.memory_usage / 1e6,
    }
    everything = make_lists(units, random, exact=len(units))
    asked = queries(units, 1, rounds, random)
    results["1 states"] = timed(lambda q, n: index.search(q[0], n, threads=1), asked)
    results["recall"] = float(
        np.mean([
            len(np.intersect1d(index.search(q[0], 200, threads=1).keys, everything.nearest(q, 200)))
            / MOST_SAMPLES
            for q in asked[:20]
        ])
    )  # fmt: skip
    print(f"usearch: {results}")
    return results


def served(
    lists: Lists, units: Floats, random: np.random.Generator, seconds: float
) -> dict[str, Any]:
    """Milliseconds of a correction and of samples, from a device on this machine."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        store, version = published(Path(folder))
        items = store.manifest(version).items
        store.write_pool(version, pool_bytes(_pool(lists, items, random)))
        cloud = stack.enter_context(ready_cloud(store, CLOUD_DEVICE_TOKEN=TOKEN))
        bundle = Bundle.open(store.version_folder(version))
        ask = ours(cloud.url, bundle, "row", stack)
        hidden = random.standard_normal((10, DIM), np.float32)
        query = Query(states=queries(units, 4, 1, random)[0])
        alone_s = fetched_for(cloud.url, bundle, query, seconds)
        calm = corrected(ask, hidden, seconds)
        command = [sys.executable, "-m", "benchmarks.pool.asking", cloud.url]
        with subprocess.Popen(
            [*command, str(bundle.folder), TOKEN],
            stdout=subprocess.PIPE, env=clean_environment({}),
        ) as asking:  # fmt: skip
            assert asking.stdout is not None
            asking.stdout.readline()
            busy = corrected(ask, hidden, seconds)
            asking.terminate()
            beside = int(asking.stdout.readline())
    results = {
        "samples": _quantiles(alone_s),
        "alone": _quantiles(calm),
        "beside samples": _quantiles(busy),
        "searches beside": beside,
    }
    print(f"served: {results}")
    return results


def _pool(lists: Lists, items: int, random: np.random.Generator) -> Pool:
    count = len(lists.order)
    in_order = lists._replace(order=np.arange(count, dtype=np.uint32))
    return Pool(
        states=in_order,
        lengths=np.full(count, 8.0, np.float32),
        rows=random.integers(1, items + 1, count).astype(np.uint32),
        histories=in_order,
        sample_users=10,
        radius=0.1,
    )


def corrected(ask: Callable[[Floats], Any], hidden: Floats, seconds: float) -> list[float]:
    """Seconds of every correction within a time; a device clicks once in 5 ms."""
    times, end = [], time.perf_counter() + seconds
    while (begun := time.perf_counter()) < end:
        ask(hidden)
        times.append(time.perf_counter() - begun)
        time.sleep(0.005)
    return times


def fetched_for(url: str, bundle: Bundle, query: Query, seconds: float) -> list[float]:
    """Seconds of every fetch within a time, without a pause; refusals do not count."""
    times, end = [], time.perf_counter() + seconds
    while (begun := time.perf_counter()) < end:
        try:
            fetch_samples(url, bundle, TOKEN, query)
        except SamplesUnavailable:
            continue
        times.append(time.perf_counter() - begun)
    return times


def _quantiles(seconds: list[float]) -> dict[str, float]:
    times = np.array(seconds) * 1e3
    return {"p50_ms": float(np.median(times)), "p99_ms": float(np.quantile(times, 0.99))}


if __name__ == "__main__":
    main()
