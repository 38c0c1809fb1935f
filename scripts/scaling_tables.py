"""Tables of what growth costs (scaling.json) and of the soak (soak.json)."""

from collections.abc import Callable
from typing import Any

from table_parts import markdown, result, spread

MB = 1e6


def with_p99(times: Any) -> str:
    """Median, quartiles and p99 in ms."""
    return f"{spread(times, '.2f')}, p99 {times['p99']:.2f}"


def versions() -> str:
    """Time of a correction and memory of a cloud, by the number of its open versions."""
    rows = [
        (
            count,
            spread(row["first"], ".1f") if "first" in row else "",
            with_p99(row["hot"]),
            with_p99(row["round_robin"]),
            f"{row['after']['pss'] / MB:.0f}",
        )
        for count, row in result("scaling")["results"]["versions"].items()
    ]
    header = (
        "versions", "first correction of a version, ms", "one hot version, ms",
        "all in turn, ms", "PSS of the cloud, MB",
    )  # fmt: skip
    return markdown(header, rows)


def catalogue_device() -> str:
    """Time and memory of a device, by the number of items of its bundle."""
    rows = []
    for size, row in result("scaling")["results"]["catalogue"].items():
        device = row["device"]
        in_us = [
            {"median": times["median"] * 1e3, "quartiles": [q * 1e3 for q in times["quartiles"]]}
            for times in (device["click"], device["rerank"])
        ]
        rows.append(
            (
                f"{int(size):,}",
                f"{row['bundle_bytes'] / MB:.1f}",
                *(spread(device[t], ".0f") for t in ("open_cold", "open_again", "first_ranking")),
                f"{device['memory_used']['rss'] / MB:.1f}",
                f"{device['memory_used']['private'] / MB:.1f}",
                *(spread(times, ".0f") for times in in_us),
            )
        )
    header = (
        "items", "bundle, MB", "check and open, cold, ms", "again, ms", "to the first ranking, ms",
        "RSS, MB", "of it private, MB", "click to H, µs", "rerank of 100, µs",
    )  # fmt: skip
    return markdown(header, rows)


def catalogue_cloud() -> str:
    """Size, start, memory and correction of both forms of the GCN, by the number of items."""
    catalogues = result("scaling")["results"]["catalogue"]
    rows = [
        (
            f"{int(size):,}",
            form,
            f"{row[form]['gcn_bytes'] / MB:,.1f}",
            f"{row[form]['start_s']['median']:.1f}",
            f"{row[form]['memory']['pss'] / MB:,.0f}",
            with_p99(row[form]["correction"]),
        )
        for form in ("causal", "projected")
        for size, row in catalogues.items()
    ]
    header = (
        "items", "GCN", "on disk, MB", "until ready, s", "PSS of the cloud, MB", "correction, ms",
    )  # fmt: skip
    return markdown(header, rows)


def devices() -> str:
    """What a simulator asked and reached, with how many devices, and what limited it."""

    def verdicts(rounds: list[str]) -> str:
        counts = {verdict: rounds.count(verdict) for verdict in sorted(rounds)}
        return ", ".join(
            f"{verdict} ({count} of {len(rounds)})" for verdict, count in counts.items()
        )

    rows = []
    for count, row in result("scaling")["results"]["devices"].items():
        low, high = row["p99_range"]
        outcomes = (f"{name} {share:.1%}" for name, share in row["outcomes"].items())
        rows.append(
            (
                f"{int(count):,}",
                f"{row['asked_per_s']:,.0f}",
                f"{row['reached_per_s']:,.0f}",
                f"{row['p50']:.2f}",
                f"{row['p99']:.1f} ({low:.1f} to {high:.1f})",
                f"{row['simulator_cpu']:.2f}, {row['cloud_cpu']:.2f}",
                verdicts(row["saturated"]),
                ", ".join(outcomes),
            )
        )
    header = (
        "devices", "asked, a second", "reached, a second", "median, ms",
        "p99, ms (lowest to highest run)", "CPU of the simulator, of the cloud",
        "saturated (runs)", "outcomes",
    )  # fmt: skip
    return markdown(header, rows)


def soak_counts() -> str:
    """What the soak did, and what became of every H, every answer and every ranking."""
    soak = result("soak")["results"]
    requests, counted, answers = soak["requests"], soak["devices"], soak["answers"]
    uncounted = answers["all"] - answers["compared with the cloud's counters"]
    different = sum(len(life["differences"]) for life in soak["lives"])
    rows = {
        "minutes": round(soak["seconds"] / 60),
        "sessions": counted["sessions"],
        "versions published": soak["versions"]["published"],
        "versions retired": soak["versions"]["retired"],
        "times that the cloud was killed": len(soak["kills"]),
        "**H that devices asked with**": requests["asked for"],
        "ended with an outcome": requests["ended with an outcome"],
        "of these, applied": soak["outcomes"]["applied"],
        "replaced by a newer H before they were sent": requests["replaced by a newer H"],
        "on their way when their session ended": requests["on their way when their session ended"],
        "not sent when their session ended": requests["not sent when their session ended"],
        "with an end that the faults do not explain": soak["matched"]["unexplained"]["count"],
        "**answers of the cloud**": answers["all"],
        "compared with its counters": answers["compared with the cloud's counters"],
        "after the last look before a kill, not compared": uncounted,
        "counters that differ": different,
        "**rankings**": counted["rankings"],
        "without a correction": counted["local rankings"],
        "of these, unlike those of a device without a cloud": counted["local rankings that differ"],
        "with a correction": counted["ranking applied"],
        "of these, computed again": counted["corrected rankings computed again"],
        "of these, different": len(soak["corrected rankings that differ"]),
    }
    return markdown(("what", "count"), ((what, f"{count:,}") for what, count in rows.items()))


def soak_late() -> str:
    """How late rankings were, beside a bare wait of the budget in the same threads, in ms."""
    rows = []
    for processes in ("one device a process", "four devices a process"):
        for waiting, late in result("soak")["results"][f"late by, {processes}"].items():
            rows.append(
                (
                    f"{processes}, {waiting}",
                    f"{late['count']:,}",
                    f"{late['median']:.2f}",
                    *(f"{late[tail]:.1f}" for tail in ("p99", "p99.9", "max")),
                    *(f"{late[f'over {limit} ms']:,}" for limit in (1, 10, 100)),
                )
            )
    header = (
        "late by, in ms", "count", "median", "p99", "p99.9", "longest", "over 1 ms", "over 10 ms",
        "over 100 ms",
    )  # fmt: skip
    return markdown(header, rows)


def soak_slopes() -> str:
    """Means over the second half of the soak, and changes an hour with 95% intervals."""
    digits = {"RSS, MB": 1, "PSS, MB": 1, "open files": 2, "sockets": 2, "threads": 2}

    def cell(slope: Any, places: int) -> str:
        changes = [f"{slope[key]:+.{places}f}" for key in ("an hour", "low", "high")]
        return "{mean:.1f}, {} ({} to {})".format(*changes, mean=slope["mean"])

    rows = [
        (process, *(cell(slopes[name], places) for name, places in digits.items()))
        for process, slopes in result("soak")["results"]["slopes of the second half"].items()
    ]
    return markdown(("mean, change an hour (interval)", *digits), rows)


TABLES: dict[str, Callable[[], str]] = {
    "versions": versions,
    "catalogue-device": catalogue_device,
    "catalogue-cloud": catalogue_cloud,
    "simulated-devices": devices,
    "soak-counts": soak_counts,
    "soak-late": soak_late,
    "soak-slopes": soak_slopes,
}
