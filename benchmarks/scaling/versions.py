"""More versions: what a cloud needs that answers for 1, 10 and 100 of them."""

import statistics
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks import served
from benchmarks.processes import memory
from benchmarks.scaling import stores
from benchmarks.scaling.asking import BareDevice, spread, summary
from cloud_service.storage.store import Store

GOALS = {"median": 1.25, "p99": 1.5}
"""Of round robin over the most versions, against the one version of a cloud that has one."""


def measured(counts: Sequence[int], rounds: int, requests: int, folder: Path) -> dict[str, Any]:
    """Every count in turn, in fresh processes; times in ms, memory in bytes."""
    content = stores.exported("causal")
    items = stores.items_of(content)
    figures: dict[int, list[dict[str, Any]]] = {count: [] for count in counts}
    stores_by_count: dict[int, tuple[Store, list[str]]] = {}
    for count in counts:
        store = Store(folder / f"versions-{count}")
        versions = list(stores.published(store, content, "causal", items, count))
        store.promote(versions[0])
        stores_by_count[count] = store, versions
    for index in range(rounds):
        for count, (store, versions) in stores_by_count.items():
            print(f"versions, round {index + 1}: {count}", file=sys.stderr)
            figures[count].append(_once(store, versions, requests))
    return {str(count): _together(round_) for count, round_ in figures.items()}


def _once(store: Store, versions: list[str], requests: int) -> dict[str, Any]:
    with served.ready_cloud(store) as cloud, closing(BareDevice(cloud.port)) as device:
        before = memory(cloud.pid)
        answers = [device.ask(version) for version in versions]
        device.ask_all(versions, len(versions))
        opened = memory(cloud.pid)
        return {
            "start_s": cloud.start_s,
            "first": answers[1:],  # the production version was opened at the start
            "hot": device.ask_all(versions[:1], requests),
            "round_robin": device.ask_all(versions, requests),
            "started": before._asdict(),
            "opened": opened._asdict(),
            "after": memory(cloud.pid)._asdict(),
        }


def _together(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        name: summary([time for round_ in rounds for time in round_[name]])
        for name in ("first", "hot", "round_robin")
        if rounds[0][name]
    }
    figures["start_s"] = summary([round_["start_s"] for round_ in rounds])
    for name in ("started", "opened", "after"):
        figures[name] = {
            memory_kind: int(statistics.median(round_[name][memory_kind] for round_ in rounds))
            for memory_kind in rounds[0][name]
        }
    return figures


def ratios(results: dict[str, Any]) -> dict[str, Any]:
    """The most versions against one, and what a further one takes."""
    (fewest, answers), *_, (most, largest_row) = sorted(
        results.items(), key=lambda round_: int(round_[0])
    )
    if fewest == most:
        return {}
    figures: dict[str, Any] = {
        f"versions: round robin over {most} / {fewest}, {name}": {
            "value": largest_row["round_robin"][name] / answers["round_robin"][name],
            "goal": goal,
        }
        for name, goal in GOALS.items()
    }
    figures[f"versions: one hot of {most} / {fewest}, median"] = {
        "value": largest_row["hot"]["median"] / answers["hot"]["median"],
        "goal": GOALS["median"],
    }
    grown = (largest_row["after"]["pss"] - answers["after"]["pss"]) / (int(most) - int(fewest))
    figures["versions: MB a further version"] = {"value": grown / 1e6}
    return figures


def show(results: dict[str, Any]) -> None:
    """The table."""
    print(
        f"\n{'versions':>9}{'start, s':>10}{'PSS then, MB':>14}{'asked all, MB':>15}"
        f"{'first, ms':>24}{'one hot, ms':>24}{'p99':>7}{'round robin, ms':>24}{'p99':>7}"
    )
    for count, row in results.items():
        answers = spread(row["first"], 1) if "first" in row else ""
        print(
            f"{count:>9}{row['start_s']['median']:10.2f}{row['started']['pss'] / 1e6:14.1f}"
            f"{row['after']['pss'] / 1e6:15.1f}{answers:>24}"
            f"{spread(row['hot']):>24}{row['hot']['p99']:7.2f}"
            f"{spread(row['round_robin']):>24}{row['round_robin']['p99']:7.2f}"
        )
