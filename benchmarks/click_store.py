"""What the device's memory of clicks costs: opening, storing a click, and a session with it.

open      a store with 2,000 clicks, against reading the same bytes, and against the same clicks as
          JSON lines, one by one
append    a click that waits for no disk, and one that does (`durable`)
rewrite   the newest 2,000 clicks into a new file that is put in place and on the disk
session   `click_row` without a store and with one, taking turns

    python -m benchmarks.click_store                 half a minute, on an idle machine
    python -m benchmarks.click_store --short         a glance that keeps nothing
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import keep
from benchmarks.served import published
from device_client.bundle import Bundle
from device_client.learning.store import ClickStore
from device_client.scn import Graphs
from device_client.session import Session

CLICKS: Final = 2_000
GOAL_MS: Final = 5.0
"""Longest time of opening."""
NOW_MS: Final = 1_700_000_000_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures; prints and keeps medians in µs with their quartiles, and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--short", action="store_true", help="a glance that keeps nothing")
    options = parser.parse_args(arguments)
    rounds = 60 if options.short else options.rounds
    with tempfile.TemporaryDirectory() as folder:
        times = _openings(Path(folder), rounds)
        times |= _appends(Path(folder), rounds)
        times |= _sessions(Path(folder), rounds)
    results: dict[str, Any] = {}
    for name, samples in times.items():
        low, median, high = statistics.quantiles(samples, n=4)
        results[name] = {"median": median, "quartiles": [low, high]}
        print(f"{name:40} {median:9.1f} µs ({low:.1f} to {high:.1f})")
    medians = {name: row["median"] for name, row in results.items()}
    ratios: dict[str, Any] = {
        "open / reading the same bytes": {"value": medians["open"] / medians["read"]},
        "open / JSON lines": {"value": medians["open"] / medians["JSON lines"], "goal": 1.0},
        "open / 5 ms": {"value": medians["open"] / 1e3 / GOAL_MS, "goal": 1.0},
        "click with a store / without": {
            "value": statistics.median(
                stored / bare
                for stored, bare in zip(
                    times["session, with a store"], times["session, without"], strict=True
                )
            )
        },
    }
    for name, ratio in ratios.items():
        goal = f" (goal at most {ratio['goal']:g})" if "goal" in ratio else ""
        print(f"{name}: {ratio['value']:.2f}{goal}")
    if not options.short:
        keep("click_store", results, ratios)


def _timed(run: Callable[[], Any]) -> float:
    """µs of one call."""
    begun = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - begun) / 1e3


def _fill(store: ClickStore, count: int) -> None:
    for number in range(count):
        store.click(f"item-{number:06}", NOW_MS + number)


def _openings(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Opening and its yardsticks, taking turns."""
    place, lines = folder / "store", folder / "lines"
    with ClickStore.open(place) as store:
        _fill(store, CLICKS)
        clicks = store.clicks()
    log = place / "clicks.log"
    with lines.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"item": item, "time_ms": at}) + "\n" for item, at in clicks)
    print(f"{CLICKS:,} clicks: {log.stat().st_size:,} bytes")
    times: dict[str, list[float]] = {"open": [], "read": [], "JSON lines": [], "clicks()": []}
    for _ in range(rounds):
        begun = time.perf_counter_ns()
        store = ClickStore.open(place)
        times["open"].append((time.perf_counter_ns() - begun) / 1e3)
        times["clicks()"].append(_timed(store.clicks))
        store.close()
        times["read"].append(_timed(log.read_bytes))
        times["JSON lines"].append(_timed(lambda: _json_lines(lines)))
    return times


def _json_lines(path: Path) -> list[tuple[str, int]]:
    with path.open(encoding="utf-8") as file:
        return [(row["item"], row["time_ms"]) for row in map(json.loads, file)]


def _appends(folder: Path, rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"append": [], "append, durable": [], "rewrite": []}
    with ClickStore.open(folder / "appended", max_clicks=CLICKS) as store:
        _fill(store, CLICKS)
        for _ in range(max(rounds // 10, 4)):
            _fill(store, CLICKS // 8)
            times["rewrite"].append(_timed(store.tidy))
            times["append"] += [_timed(lambda: store.click("item-000001")) for _ in range(50)]
    with ClickStore.open(folder / "durable", durable=True) as store:
        for _ in range(rounds):
            times["append, durable"].append(_timed(lambda: store.click("item-000001")))
    return times


def _sessions(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Clicks of two sessions that take turns, in blocks of ten."""
    cloud, version = published(folder / "cloud", items=CLICKS)
    graphs = Graphs(Bundle.open(cloud.version_folder(version)))
    times: dict[str, list[float]] = {"session, without": [], "session, with a store": []}
    with ClickStore.open(folder / "session") as store:
        bare, stored = Session(graphs), Session(graphs, store=store)
        for session in (bare, stored):
            session.preload_rows(range(1, 30))
        for number in range(rounds):
            for name, session in zip(times, (bare, stored), strict=True):
                begun = time.perf_counter_ns()
                for row in range(10):
                    session.click_row(number + row + 1)
                times[name].append((time.perf_counter_ns() - begun) / 1e4)
        times["session, starting with 2,000"] = _starts(folder, graphs, rounds // 10)
    return times


def _starts(folder: Path, graphs: Graphs, rounds: int) -> list[float]:
    with ClickStore.open(folder / "start") as store:
        for number in range(CLICKS):
            store.click(graphs.bundle.item_id(1 + number % graphs.bundle.manifest.items))
        return [_timed(lambda: Session(graphs, store=store)) for _ in range(max(rounds, 4))]


if __name__ == "__main__":
    main()
