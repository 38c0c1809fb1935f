"""What newer data in the cloud is worth to devices whose bundle is weeks old.

The SCN is trained on the clicks before a day and then left alone, as the bundle on a phone is.
Week after week everybody's clicks go on, and at the start of a week the cloud learns its teachers
anew from all clicks so far. On the clicks of that week, NDCG@10 over all items that the bundle
knows, histories up to date on the device:

    old               the old bundle, no correction
    old, old cloud    corrected by teachers as old as the bundle
    old, new cloud    corrected by this week's teachers
    new               a bundle of this week's SCN, no correction
    new, new cloud    and corrected by this week's teachers

    python -m benchmarks.freshness LOG.csv.gz --days 180 --weeks 0,2,4,8

Only for logs whose times are real. Interrupted, it goes on where it was (--work).
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.machine import keep
from cloud_service.recommender.data.catalog import load
from cloud_service.recommender.data.clicks import ClickLog, Split, split
from cloud_service.recommender.models.cocorrrec import ProjectedCoCorrRec
from cloud_service.recommender.ranking.evaluate import Clicked, ranks_over_all, user_states
from cloud_service.recommender.ranking.significance import bootstrap, per_user
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.blend import fit_gcn
from cloud_service.recommender.training.build import build
from cloud_service.recommender.training.fit import fit
from shared.model import ModelSettings

DAY: Final = 86_400
WEEK: Final = 7 * DAY
TESTED: Final = 4000
"""Clicks of a week that are ranked, drawn at random."""
KNOWN: Final = 5
"""Clicks an item needs before the bundle is made."""

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


def main() -> None:
    """Trains, measures, and keeps what each arm reached in each week."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, help="a click log with real times, in seconds")
    parser.add_argument("--ties", choices=("shuffled", "file"), default="shuffled")
    parser.add_argument("--repeats", choices=("once", "all"), default="once")
    parser.add_argument("--days", type=int, default=180, help="of clicks before the bundle is made")
    parser.add_argument("--weeks", default="0,2,4,8", help="weeks after it that are measured")
    parser.add_argument("--teachers", default="item-knn")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--work", type=Path, default=Path("evaluation/freshness"))
    options = parser.parse_args()
    weeks = sorted({0, *(int(text) for text in options.weeks.split(","))})
    recipe = TrainingRecipe(
        model=ModelSettings(gcn="projected", fusion="shift"),
        teachers=options.teachers,
        epochs=options.epochs,
        dropout=0.3,
    )
    log = load(
        str(options.data),
        folder=options.data.parent,
        ties=options.ties,
        repeats=options.repeats,
    )
    made_at = int(log.timestamps.min()) + options.days * DAY
    log = _known(log, made_at)
    print(f"{log.name}: {log.item_count:,} items, {_words(log)}; bundle after {options.days} days")
    old: ProjectedCoCorrRec | None = None
    rows = []
    for week in weeks:
        at = made_at + week * WEEK
        dataset = split(_before(log, at), seen=recipe.seen)
        work = options.work / options.data.name / f"week-{week}"
        new = fit(dataset, recipe, work, device=torch.device("cpu")).model.eval()
        assert isinstance(new, ProjectedCoCorrRec)
        old = old or new
        rows.append(_measure(log, dataset, at, old, _beside(dataset, recipe, old, new), new))
        rows[-1]["week"] = week
        _show(rows[-1])
    ratios = {
        f"week {row['week']}: share of the old bundle's loss won back": {"value": row["won_back"]}
        for row in rows
        if row["won_back"] is not None
    }
    keep(f"freshness_{log.name}", {"recipe": recipe.model_dump(mode="json"), "weeks": rows}, ratios)


def _beside(
    dataset: Split, recipe: TrainingRecipe, old: ProjectedCoCorrRec, new: ProjectedCoCorrRec
) -> ProjectedCoCorrRec:
    """The old bundle's SCN with the new teachers."""
    trained = build(dataset, recipe, fit=False)
    assert isinstance(trained, ProjectedCoCorrRec)
    gcn_weights = {
        name: value for name, value in new.state_dict().items() if name.startswith("gcn.")
    }
    scn_weights = {
        name: value for name, value in old.state_dict().items() if name.startswith("scn.")
    }
    trained.load_state_dict(gcn_weights | scn_weights)
    trained.eval()
    fit_gcn(trained, dataset)
    return trained


@torch.no_grad()
def _measure(
    log: ClickLog,
    dataset: Split,
    at: int,
    old: ProjectedCoCorrRec,
    beside: ProjectedCoCorrRec,
    new: ProjectedCoCorrRec,
) -> dict[str, Any]:
    users = np.repeat(np.arange(log.user_count), log.lengths)
    positions = np.arange(log.click_count)
    started = positions > log.offsets[users]
    inside = (log.timestamps >= at) & (log.timestamps < at + WEEK)
    chosen = np.flatnonzero(started & inside)
    chosen = np.sort(np.random.default_rng(0).permutation(chosen)[:TESTED])
    starts = log.offsets[users[chosen]]
    arms = {
        "old": old.scn,
        "old, old cloud": old,
        "old, new cloud": beside,
        "new": new.scn,
        "new, new cloud": new,
    }
    gains = {}
    for name, model in arms.items():
        states = user_states(model, log.items, starts, chosen, np.zeros_like(chosen))
        left_out = Clicked(log.items, starts, chosen) if dataset.seen_left_out else None
        ranks = ranks_over_all(model, states, log.items[chosen].astype(np.int64), left_out)
        gains[name] = per_user(ranks, "ndcg@10")
    lows, highs = bootstrap(
        np.stack([model_gains - gains["old"] for model_gains in gains.values()], axis=1)
    )
    means = {name: float(values.mean()) for name, values in gains.items()}
    lost = means["new"] - means["old"]
    return {
        "clicks": len(chosen),
        "ndcg": means,
        "over_old": {
            name: [float(low), float(high)]
            for name, low, high in zip(gains, lows, highs, strict=True)
        },
        "won_back": (means["old, new cloud"] - means["old"]) / lost if lost > 0 else None,
    }


def _known(log: ClickLog, until: int) -> ClickLog:
    """The clicks on items that a bundle of then knows, numbered anew."""
    counts = np.bincount(log.items[log.timestamps < until], minlength=log.item_count + 1)
    is_known = counts >= KNOWN
    renumbered = np.cumsum(is_known).astype(np.int32)
    known_clicks = _kept(log, is_known[log.items])
    ids = tuple(np.array(log.item_ids, object)[is_known[1:]])
    return replace(known_clicks, items=renumbered[known_clicks.items], item_ids=ids, titles=None)


def _before(log: ClickLog, until: int) -> ClickLog:
    """The clicks before a time, of users who have three by then."""
    is_before = log.timestamps < until
    users = np.repeat(np.arange(log.user_count), log.lengths)
    enough = np.bincount(users[is_before], minlength=log.user_count) >= 3
    return _kept(log, is_before & enough[users])


def _kept(log: ClickLog, clicks: NDArray[np.bool_]) -> ClickLog:
    users = np.repeat(np.arange(log.user_count), log.lengths)
    counts = np.bincount(users[clicks], minlength=log.user_count)
    remains = counts > 0
    return replace(
        log,
        items=log.items[clicks],
        timestamps=log.timestamps[clicks],
        offsets=np.concatenate([[0], np.cumsum(counts[remains])]).astype(np.int64),
        user_ids=tuple(np.array(log.user_ids, object)[remains]),
    )


def _words(log: ClickLog) -> str:
    days = (int(log.timestamps.max()) - int(log.timestamps.min())) / DAY
    return f"{log.click_count:,} clicks in {days:.0f} days"


def _show(row: dict[str, Any]) -> None:
    arms = "  ".join(f"{name} {value:.4f}" for name, value in row["ndcg"].items())
    back = "" if row["won_back"] is None else f"  won back {row['won_back']:.0%}"
    print(f"week {row['week']}: {row['clicks']:,} clicks  {arms}{back}", flush=True)


if __name__ == "__main__":
    main()
