"""What a correction is worth that was computed some clicks ago, and how often one is at hand.

Takes runs of `cloud-service evaluate` of a projected GCN. For each log, on the test click: NDCG@10
over all items with no correction, a fresh one, and one computed from H of 1, 2 and 5 clicks
before, as it is and faded by the share that is best on the validation click.

Then who is served what: the rerank comes at the real time of the next click, its correction is
asked for at the click before or at the rerank itself, and takes a round trip and the GCN's time.
Clicks that share a tick of the log's clock have no known time between them: both ends are given,
all at once and a second apart, and between them the guess that they are spread over their tick.
Logs without times have no such table.

    python -m benchmarks.stale_corrections FOLDER --data LOG.csv.gz [--data ...]

FOLDER is the --out folder of the evaluation, LOG its data.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.machine import keep
from benchmarks.runs import corrected_runs, runs_parser, sent_rows
from cloud_service.recommender.data.clicks import Split
from cloud_service.recommender.models.cocorrrec import ProjectedCoCorrRec
from cloud_service.recommender.models.recommender import Recommender
from cloud_service.recommender.ranking.evaluate import clicked_before, ranks_over_all, user_states
from cloud_service.recommender.ranking.significance import bootstrap, per_user

AGES: Final = (1, 2, 5)
FADES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
ROUND_TRIPS_MS: Final = (10, 20, 50, 100)
GCN_MS: Final = 2.0
"""The cloud's own time, generously: docs/results.md has the measured one."""
TOLERANCE_MS: Final = 4.21
METRIC: Final = "ndcg@10"

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


def main() -> None:
    """Measures every projected run of the folder on the logs given."""
    options = runs_parser(__doc__).parse_args()
    figures: dict[str, dict[str, Any]] = {}
    for run in corrected_runs(options.folder, options.data, options.seed):
        row = measure(run.model, run.parts)
        figures.setdefault(run.parts.log.name, {})[run.name] = row
        _show(run.name, row)
    for log, results in figures.items():
        keep(f"stale_corrections_{log}", results, _ratios(results))


def _ratios(results: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{name}: {age} clicks old / no correction": {"value": row["ndcg"][age] / row["ndcg"]["no"]}
        for name, row in results.items()
        for age in ("fresh", "1", "2", "5")
    }


@torch.no_grad()
def measure(model: ProjectedCoCorrRec, dataset: Split) -> dict[str, Any]:
    """Figures of one log."""
    test = dataset.test_positions
    local = _gained(model.scn, dataset, test, _local(model, dataset, test))
    served = {"no": local, "fresh": _gains(model, dataset, test, 0, [1.0])[1.0]}
    fades = {}
    for age in AGES:
        judged = _gains(model, dataset, dataset.validation_positions, age, FADES)
        fade = max(judged, key=lambda row: judged[row].mean())
        figures = _gains(model, dataset, test, age, sorted({fade, 1.0}))
        fades[str(age)] = fade
        served[str(age)], served[f"{age} faded"] = figures[1.0], figures[fade]
    columns = np.stack([value - local for value in served.values()], axis=1)
    lows, highs = bootstrap(columns)
    return {
        "users": len(test),
        "ndcg": {name: float(value.mean()) for name, value in served.items()},
        "over_no_correction": {
            name: [float(low), float(high)]
            for name, low, high in zip(served, lows, highs, strict=True)
        },
        "fade_chosen_on_validation": fades,
        "served": _served(dataset, served) if _real_times(dataset) else [],
    }


def _gains(
    model: ProjectedCoCorrRec, dataset: Split, at: Int64, age: int, fades: Sequence[float]
) -> dict[float, Float64]:
    """Each user's NDCG@10 at some positions, by how much of a correction so old is applied."""
    states, rows = _local(model, dataset, at), sent_rows(model, dataset, at - age)
    fixed_values = 2 * model.settings.boosted_items  # what says which items are named does not fade
    figures = {}
    for fade in fades:
        faded = torch.cat((states, rows[:, :fixed_values], fade * rows[:, fixed_values:]), dim=1)
        figures[fade] = _gained(model, dataset, at, faded)
    return figures


def _local(model: ProjectedCoCorrRec, dataset: Split, at: Int64) -> torch.Tensor:
    """The user states that devices have by themselves."""
    return user_states(model.scn, dataset.log.items, dataset.starts, at, np.zeros_like(at))


def _gained(model: Recommender, dataset: Split, at: Int64, states: torch.Tensor) -> Float64:
    """Each user's NDCG@10 with these states."""
    targets = dataset.log.items[at].astype(np.int64)
    return per_user(ranks_over_all(model, states, targets, clicked_before(dataset, at)), METRIC)


def _real_times(dataset: Split) -> bool:
    """Whether the log has times at all: in some a click's time is its place in the sequence."""
    return bool((np.diff(dataset.log.timestamps) > 1).any())


def _served(dataset: Split, served: dict[str, Float64]) -> list[dict[str, Any]]:
    """Shares and NDCG@10 for each round trip, way of asking and reading of the clock."""
    test = dataset.test_positions
    figures = []
    for clock, waits in _waits_ms(dataset).items():
        wait = waits[test]
        before = wait + waits[test - 1]
        for trip in ROUND_TRIPS_MS:
            took = trip + GCN_MS
            for ask, fresh in (
                ("at the click", wait + TOLERANCE_MS >= took),
                ("at the rerank", np.full(len(test), took <= TOLERANCE_MS)),
            ):
                # Asked for at the rerank, the one before came for the rerank before.
                stale = ~fresh & ((before if ask == "at the click" else wait) >= took)
                row: dict[str, Any] = {"clock": clock, "round_trip_ms": trip, "ask": ask}
                row |= {"fresh": float(fresh.mean()), "stale": float(stale.mean())}
                row["none"] = 1.0 - row["fresh"] - row["stale"]
                for policy, late in (("stale dropped", "no"), ("stale applied", "1 faded")):
                    gains = np.where(fresh, served["fresh"], served["no"])
                    row[policy] = float(np.where(stale, served[late], gains).mean())
                figures.append(row)
    return figures


def _waits_ms(dataset: Split) -> dict[str, Float64]:
    """Milliseconds from the click before to each click of the log, by reading of its clock."""
    times, starts = dataset.log.timestamps, dataset.starts
    steps = np.diff(times, prepend=times[:1]).astype(np.float64)
    steps[starts] = 0.0
    tick = steps[steps > 0].min()
    begins = steps != 0
    begins[starts] = True
    sharing = np.diff(np.append(np.flatnonzero(begins), len(times)))[begins.cumsum() - 1]
    return {
        "one tick at once": steps * 1000.0,
        "one tick spread": np.where(steps > 0, steps, tick / sharing) * 1000.0,
        "one tick a second apart": np.maximum(steps, 1.0) * 1000.0,
    }


def _show(name: str, row: dict[str, Any]) -> None:
    print(f"{name}: {row['users']:,} users, NDCG@10 over all items")
    for label, value in row["ndcg"].items():
        low, high = row["over_no_correction"][label]
        print(f"  {label:10} {value:.4f}  ({low:+.4f} to {high:+.4f} over no correction)")
    print(f"  fade: {row['fade_chosen_on_validation']}")
    columns: Sequence[str] = ("fresh", "stale", "none")
    for each in row["served"]:
        shares = "  ".join(f"{name} {each[name]:5.1%}" for name in columns)
        print(
            f"  {each['clock']:24} {each['round_trip_ms']:4} ms, asked {each['ask']:14} {shares}"
            f"  NDCG@10 {each['stale dropped']:.4f}, stale applied {each['stale applied']:.4f}"
        )


if __name__ == "__main__":
    main()
