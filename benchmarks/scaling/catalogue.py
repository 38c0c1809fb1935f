"""A larger catalogue: what the device and the cloud need for it.

The device's half is measured once, with the causal form: its table is the same whatever the GCN.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import served
from benchmarks.processes import available_memory, memory
from benchmarks.scaling import stores
from benchmarks.scaling.asking import BareDevice, spread, summary
from benchmarks.served import SPARE
from cloud_service.storage.store import Store
from shared.model import GCNForm

GOAL_PRIVATE, GOAL_TIME = 1.1, 1.25
"""Of the largest catalogue against the smallest: memory of the device's own, and its times."""
BUDGET_MS = 4.21
PROJECTED_BYTES_AN_ITEM = 9_000
"""What exporting a projected GCN takes at its peak, roughly; with less memory it is not done."""
_LONGEST_S = 10.0


def measured(sizes: Sequence[int], rounds: int, requests: int, folder: Path) -> dict[str, Any]:
    """Every size; times in ms, memory in bytes."""
    results: dict[str, Any] = {}
    small = stores.exported("causal")
    versions = {
        size: _published(folder / f"causal-{size}", small, "causal", size) for size in sizes
    }
    devices: dict[int, list[dict[str, Any]]] = {size: [] for size in sizes}
    clouds: dict[int, list[dict[str, Any]]] = {size: [] for size in sizes}
    for index in range(rounds):
        for size, store in versions.items():
            print(f"catalogue, round {index + 1}: {size:,} items", file=sys.stderr)
            devices[size].append(_device(store, requests))
            clouds[size].append(_cloud(store, requests))
    for size, store in versions.items():
        bundle, gcn = stores.sizes(store.manifest(_version(store)))
        results[str(size)] = {
            "bundle_bytes": bundle,
            "device": _device_together(devices[size]),
            "causal": _cloud_together(clouds[size]) | {"gcn_bytes": gcn},
        }
        shutil.rmtree(store.folder)
    small = stores.exported("projected")
    for size in sizes:
        results[str(size)]["projected"] = _projected(small, size, rounds, requests, folder)
    return results


def _projected(
    small: stores.Files, size: int, rounds: int, requests: int, folder: Path
) -> dict[str, Any]:
    """The cloud's figures with a projected GCN, or why there are none."""
    needed = size * PROJECTED_BYTES_AN_ITEM
    if available_memory() < needed:
        return {"not_measured": f"exporting it takes about {needed / 1e9:.0f} GB of memory"}
    print(f"catalogue: exporting the projected GCN of {size:,} items", file=sys.stderr)
    begun = time.perf_counter()
    store = _published(folder / f"projected-{size}", small, "projected", size)
    spent = time.perf_counter() - begun
    figures = _cloud_together([_cloud(store, requests) for _ in range(rounds)])
    _, gcn = stores.sizes(store.manifest(_version(store)))
    shutil.rmtree(store.folder)
    return figures | {"gcn_bytes": gcn, "export_s": spent}


def _published(folder: Path, small: stores.Files, form: GCNForm, size: int) -> Store:
    store = Store(folder)
    content = stores.with_catalogue(small, form, size)
    store.promote(next(stores.published(store, content, form, size, 1)))
    return store


def _version(store: Store) -> str:
    version = store.production()
    assert version is not None
    return version


def _device(store: Store, requests: int) -> dict[str, Any]:
    folder = store.version_folder(_version(store))
    command = [sys.executable, "-m", "benchmarks.scaling.device", str(folder), str(requests)]
    done = subprocess.run(command, env=os.environ | SPARE, stdout=subprocess.PIPE, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _cloud(store: Store, requests: int) -> dict[str, Any]:
    version, times = _version(store), []
    with served.ready_cloud(store) as cloud, closing(BareDevice(cloud.port)) as device:
        first_answer = device.ask(version)
        device.ask(version)
        with _at_most(_LONGEST_S) as runs:
            for _ in zip(range(requests), runs, strict=False):
                times.append(device.ask(version))
        return {
            "start_s": cloud.start_s,
            "first": first_answer,
            "correction": times,
            "memory": memory(cloud.pid)._asdict(),
        }


@contextmanager
def _at_most(seconds: float) -> Iterator[Iterator[None]]:
    end = time.perf_counter() + seconds

    def runs() -> Iterator[None]:
        while time.perf_counter() < end:
            yield

    yield runs()


def _device_together(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        name: summary([round_[name] for round_ in rounds])
        for name in ("open_cold", "open_again", "first_ranking")
    }
    for name in ("click", "rerank"):
        figures[name] = summary([time for round_ in rounds for time in round_[name]])
    for moment in ("first", "used"):
        figures[f"memory_{moment}"] = {
            memory_kind: int(
                statistics.median(round_["memory"][moment][memory_kind] for round_ in rounds)
            )
            for memory_kind in ("rss", "pss", "private")
        }
    figures["memory_imports"] = rounds[0]["imports"]
    return figures


def _cloud_together(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "start_s": summary([round_["start_s"] for round_ in rounds]),
        "first": summary([round_["first"] for round_ in rounds]),
        "correction": summary([time for round_ in rounds for time in round_["correction"]]),
        "memory": {
            memory_kind: int(statistics.median(round_["memory"][memory_kind] for round_ in rounds))
            for memory_kind in ("rss", "pss", "private")
        },
    }


def ratios(results: dict[str, Any]) -> dict[str, Any]:
    """The largest catalogue against the smallest."""
    (small, first_answer), *_, (large, large_row) = sorted(
        results.items(), key=lambda round_: int(round_[0])
    )
    if small == large:
        return {}
    name = f"catalogue: {int(large):,} / {int(small):,} items"
    small_device, large_device = first_answer["device"], large_row["device"]
    private = large_device["memory_used"]["private"] / small_device["memory_used"]["private"]
    causal = (
        large_row["causal"]["correction"]["median"] / first_answer["causal"]["correction"]["median"]
    )
    return {
        f"{name}, private memory of the device": {"value": private, "goal": GOAL_PRIVATE},
        f"{name}, click to H": {
            "value": large_device["click"]["median"] / small_device["click"]["median"],
            "goal": GOAL_TIME,
        },
        f"{name}, rerank of 100": {
            "value": large_device["rerank"]["median"] / small_device["rerank"]["median"],
            "goal": GOAL_TIME,
        },
        f"{name}, a causal correction": {"value": causal, "goal": GOAL_TIME},
    }


def show(results: dict[str, Any]) -> None:
    """The tables."""
    print(
        f"\n{'items, device':>14}{'bundle, MB':>12}{'open cold, ms':>26}{'again, ms':>26}"
        f"{'first ranking, ms':>24}{'RSS, MB':>9}{'private':>9}{'click to H, µs':>24}"
        f"{'rerank 100, µs':>24}"
    )
    for size, row in results.items():
        device = row["device"]
        used = device["memory_used"]
        print(
            f"{int(size):14,}{row['bundle_bytes'] / 1e6:12.1f}"
            f"{spread(device['open_cold'], 0):>26}{spread(device['open_again'], 0):>26}"
            f"{spread(device['first_ranking'], 1):>24}{used['rss'] / 1e6:9.1f}"
            f"{used['private'] / 1e6:9.1f}{_micro(device['click']):>24}"
            f"{_micro(device['rerank']):>24}"
        )
    print(
        f"\n{'items, cloud':>14}{'form':>11}{'GCN on disk, MB':>17}{'ready, s':>10}"
        f"{'PSS, MB':>9}{'correction, ms':>26}{'p99':>8}"
    )
    for size, row in results.items():
        for form in ("causal", "projected"):
            figures = row[form]
            if "not_measured" in figures:
                print(f"{int(size):14,}{form:>11}  not measured: {figures['not_measured']}")
                continue
            times = figures["correction"]
            beyond = "  beyond the budget" if times["median"] > BUDGET_MS else ""
            print(
                f"{int(size):14,}{form:>11}{figures['gcn_bytes'] / 1e6:17.1f}"
                f"{figures['start_s']['median']:10.1f}{figures['memory']['pss'] / 1e6:9.0f}"
                f"{spread(times):>26}{times['p99']:8.2f}{beyond}"
            )


def _micro(figures: dict[str, Any]) -> str:
    low, high = figures["quartiles"]
    return f"{figures['median'] * 1e3:.1f} ({low * 1e3:.1f} to {high * 1e3:.1f})"
