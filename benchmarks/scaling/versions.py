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
from benchmarks.scaling.asking import Asker, spread, summary
from cloud_service.storage.store import Store

GOALS = {"median": 1.25, "p99": 1.5}
"""Of round robin over the most versions, against the one version of a cloud that has one."""


def measured(counts: Sequence[int], rounds: int, asked: int, folder: Path) -> dict[str, Any]:
    """Every count in turn, in fresh processes; times in ms, memory in bytes."""
    content = stores.exported("causal")
    items = stores.items_of(content)
    found: dict[int, list[dict[str, Any]]] = {count: [] for count in counts}
    kept: dict[int, tuple[Store, list[str]]] = {}
    for count in counts:
        store = Store(folder / f"versions-{count}")
        versions = list(stores.published(store, content, "causal", items, count))
        store.promote(versions[0])
        kept[count] = store, versions
    for number in range(rounds):
        for count, (store, versions) in kept.items():
            print(f"versions, round {number + 1}: {count}", file=sys.stderr)
            found[count].append(_once(store, versions, asked))
    return {str(count): _together(each) for count, each in found.items()}


def _once(store: Store, versions: list[str], asked: int) -> dict[str, Any]:
    with served.ready_cloud(store) as cloud, closing(Asker(cloud.port)) as asker:
        before = memory(cloud.pid)
        first = [asker.ask(version) for version in versions]
        asker.ask_all(versions, len(versions))
        opened = memory(cloud.pid)
        return {
            "start_s": cloud.start_s,
            "first": first[1:],  # the production version was opened at the start
            "hot": asker.ask_all(versions[:1], asked),
            "round_robin": asker.ask_all(versions, asked),
            "started": before._asdict(),
            "opened": opened._asdict(),
            "after": memory(cloud.pid)._asdict(),
        }


def _together(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: summary([time for each in rounds for time in each[name]])
        for name in ("first", "hot", "round_robin")
        if rounds[0][name]
    }
    found["start_s"] = summary([each["start_s"] for each in rounds])
    for name in ("started", "opened", "after"):
        found[name] = {
            kind: int(statistics.median(each[name][kind] for each in rounds))
            for kind in rounds[0][name]
        }
    return found


def ratios(results: dict[str, Any]) -> dict[str, Any]:
    """The most versions against one, and what a further one takes."""
    (one, first), *_, (most, last) = sorted(results.items(), key=lambda each: int(each[0]))
    if one == most:
        return {}
    found: dict[str, Any] = {
        f"versions: round robin over {most} / {one}, {name}": {
            "value": last["round_robin"][name] / first["round_robin"][name],
            "goal": goal,
        }
        for name, goal in GOALS.items()
    }
    found[f"versions: one hot of {most} / {one}, median"] = {
        "value": last["hot"]["median"] / first["hot"]["median"],
        "goal": GOALS["median"],
    }
    grown = (last["after"]["pss"] - first["after"]["pss"]) / (int(most) - int(one))
    found["versions: MB a further version"] = {"value": grown / 1e6}
    return found


def show(results: dict[str, Any]) -> None:
    """The table."""
    print(
        f"\n{'versions':>9}{'start, s':>10}{'PSS then, MB':>14}{'asked all, MB':>15}"
        f"{'first, ms':>24}{'one hot, ms':>24}{'p99':>7}{'round robin, ms':>24}{'p99':>7}"
    )
    for count, row in results.items():
        first = spread(row["first"], 1) if "first" in row else ""
        print(
            f"{count:>9}{row['start_s']['median']:10.2f}{row['started']['pss'] / 1e6:14.1f}"
            f"{row['after']['pss'] / 1e6:15.1f}{first:>24}"
            f"{spread(row['hot']):>24}{row['hot']['p99']:7.2f}"
            f"{spread(row['round_robin']):>24}{row['round_robin']['p99']:7.2f}"
        )
