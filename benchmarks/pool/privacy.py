"""What a handed-out sample gives away about its owner, and how many samples may be handed out.

For each log: an SCN is trained for a few epochs. Half of the users are in the pool. The attacker
has the bundle and the clicks of the other half, on which it learns to name clicks from a state.

    python -m benchmarks.pool.privacy --data LOG.csv.gz [--data ...] [--work FOLDER]

Rows: `item alone` is what the item of a sample says by itself; `own` is a sample's own state, in
float32, float16 or int8, with and without the rule of k users; `mean` is what is handed out by
default. Columns: the owner's last click named by the first of ten guesses, and by any of them;
clicks of the window among ten guesses; membership (AUC: 0.5 is a guess, 1 is certainty); use: how
often the state ranks the sample's item among the first ten of all items.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.machine import keep
from cloud_service.publishing.pipeline import read_data
from cloud_service.recommender.data.clicks import Split, recent
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.pool.anonymity import microaggregates, pool_radius, users_near
from cloud_service.recommender.pool.build import Samples, samples_of, training_clicks
from cloud_service.recommender.pool.inverted_lists import unit_rows
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.trainer import Trainer
from shared.samples import SampleForm, SampleWire
from shared.samples import Samples as Sent
from tests.instruments.pool_attacks import invert, membership_auc

LIMIT: Final = 300_000
"""Clicks that become samples in the attacks; survivors are counted among a million."""
ATTACKED: Final = 5000
"""Samples that are inverted."""
FITTED: Final = 50_000
"""Samples that the attacker learns from."""

Floats = NDArray[np.float32]
Int64 = NDArray[np.int64]


class Attacked(NamedTuple):
    """A log's samples, its model, and which users are in the pool."""

    scn: SCN
    samples: Samples
    windows: Int64
    units: Floats
    radius: float
    in_pool: NDArray[np.bool_]
    """(users of the log,)"""


def main() -> None:
    """Measures the logs one after another and keeps the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", required=True, type=Path)
    parser.add_argument("--work", type=Path, help="folder of checkpoints")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--minutes", type=float, default=5.0)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in options.data:
            name = path.name.split(".")[0]
            recipe = TrainingRecipe.of(
                data=str(path), network="scn", epochs=options.epochs, minutes=options.minutes
            )
            split = read_data(recipe, path.parent)
            scn = trained(split, recipe, (options.work or Path(folder)) / name)
            results[name] = {"survivors": survivors(scn, split)} | attack(scn, split)
            _show(name, results[name])
    ratios = {
        f"{name}: last click named, {row} / item alone": {
            "value": log["rows"][row]["last_at_1"]
            / max(log["rows"]["item alone"]["last_at_1"], 1e-9)
        }
        for name, log in results.items()
        for row in ("own int8, k=10", "mean int8, k=10")
        if row in log["rows"]
    }
    print(keep("pool_privacy", results, ratios))


def trained(split: Split, recipe: TrainingRecipe, work: Path) -> SCN:
    """The device's network after a few epochs."""
    trainer = Trainer(split, recipe, work, device=torch.device("cpu"), report=lambda progress: None)
    model = trainer.fit()
    assert isinstance(model, SCN)
    return model.eval()


def survivors(scn: SCN, split: Split, k: int = 10) -> dict[str, float]:
    """Of up to a million training clicks, those that k users have the like of."""
    random = np.random.default_rng(0)
    samples = samples_of(scn, split, *training_clicks(split, split.train_users, 1_000_000, random))
    units = unit_rows(samples.states)
    radius = pool_radius(units, random)
    near = users_near(units, samples.items, samples.users, radius, random)
    groups = microaggregates(units, samples.items, samples.users, radius, k, random)
    return {
        "users": len(split.train_users),
        "items": split.log.item_count,
        "clicks": len(units),
        "radius": radius,
        "own": int((near >= k).sum()),
        "own_share": float((near >= k).mean()),
        "groups": len(groups),
        "groups_share": len(groups) * k / len(units),
        "items_in_groups": len(np.unique(samples.items[groups[:, 0]])),
    }


def attack(scn: SCN, split: Split) -> dict[str, Any]:
    """The attacks on every form of a pool."""
    random = np.random.default_rng(1)
    positions, starts, users = training_clicks(split, split.train_users, LIMIT, random)
    samples = samples_of(scn, split, positions, starts, users)
    windows = recent(split.log.items, starts, positions, scn.length).astype(np.int64)
    units = unit_rows(samples.states)
    in_pool = np.zeros(split.log.user_count, np.bool_)
    in_pool[random.permutation(split.train_users)[: len(split.train_users) // 2]] = True
    attacked = Attacked(scn, samples, windows, units, pool_radius(units, random), in_pool)
    everyone = np.flatnonzero(in_pool[samples.users])[:, None]
    near = _users_near(attacked, random)
    rows: dict[str, dict[str, float] | None] = {
        "item alone": _item_alone(attacked, everyone, random)
    }
    rows["own float32, k=1"] = _row(attacked, everyone, None, random)
    rows["own float16, k=1"] = _row(attacked, everyone, "half", random)
    rows["own int8, k=1"] = _row(attacked, everyone, "int8", random)
    rows["own int8, k=10"] = _row(attacked, everyone[near >= 10], "int8", random)
    for k in (5, 10, 20):
        inside = everyone[:, 0]
        groups = inside[
            microaggregates(
                units[inside], samples.items[inside], samples.users[inside],
                attacked.radius, k, random,
            )
        ]  # fmt: skip
        rows[f"mean int8, k={k}"] = _row(attacked, groups, "int8", random)
    return {"rows": {name: row for name, row in rows.items() if row is not None}}


def _users_near(attacked: Attacked, random: np.random.Generator) -> Int64:
    inside = np.flatnonzero(attacked.in_pool[attacked.samples.users])
    samples = attacked.samples
    return users_near(
        attacked.units[inside], samples.items[inside], samples.users[inside],
        attacked.radius, random,
    )  # fmt: skip


def _row(
    attacked: Attacked, members: Int64, form: SampleForm | None, random: np.random.Generator
) -> dict[str, float] | None:
    """The attacks on a pool whose samples are the means of `members`, (samples, k)."""
    if len(members) < 10:
        return None
    samples, (count, k) = attacked.samples, members.shape
    lengths = np.linalg.norm(samples.states, axis=1)[members].mean(axis=1, keepdims=True)
    states = unit_rows(attacked.units[members].sum(axis=1)) * lengths.astype(np.float32)
    items = samples.items[members[:, 0]]
    if form is not None:
        wire = SampleWire(states.shape[1], attacked.scn.items)
        body = wire.encode_samples(Sent(states, items), form)
        states = wire.decode_samples(body, form, count).states
    chosen = random.choice(count, min(count, max(10, ATTACKED // k)), replace=False)
    own = _attackers(attacked, random)
    recovery = invert(
        samples.states[own], attacked.windows[own], np.repeat(states[chosen], k, axis=0),
        attacked.windows[members[chosen].ravel()], _item_units(attacked.scn),
    )  # fmt: skip
    everyone, numbers = np.unique(samples.users, return_inverse=True)
    auc = membership_auc(
        states, items, samples.states, samples.items, numbers, attacked.in_pool[everyone]
    )
    return {
        "samples": count,
        **recovery._asdict(),
        "membership_auc": auc,
        "item_in_first_ten": _use(attacked.scn, states[chosen], items[chosen]),
    }


def _item_alone(
    attacked: Attacked, members: Int64, random: np.random.Generator
) -> dict[str, float]:
    """What the item of a sample says of the clicks before it."""
    units, items = _item_units(attacked.scn), attacked.samples.items
    chosen = random.choice(members[:, 0], min(len(members), ATTACKED), replace=False)
    own = _attackers(attacked, random)
    windows = attacked.windows
    recovery = invert(units[items[own]], windows[own], units[items[chosen]], windows[chosen], units)
    return {"samples": len(members), **recovery._asdict()}


def _attackers(attacked: Attacked, random: np.random.Generator) -> Int64:
    """Samples that the attacker learns from: of users who are not in the pool."""
    own = np.flatnonzero(~attacked.in_pool[attacked.samples.users])
    return random.choice(own, min(len(own), FITTED), replace=False)


def _item_units(scn: SCN) -> Floats:
    """Directions of the rows of H, (V + 1, D)."""
    with torch.no_grad():
        return unit_rows(scn.input_norm(scn.item_embedding).numpy())


@torch.no_grad()
def _use(scn: SCN, states: Floats, items: Int64) -> float:
    """The share of samples whose item is among the first ten for its state."""
    hits = []
    for at in range(0, len(states), 512):
        scores = scn.score_all(torch.from_numpy(np.ascontiguousarray(states[at : at + 512])))
        best = scores.topk(10, dim=1).indices.numpy() + 1
        hits.append((best == items[at : at + 512, None]).any(axis=1))
    return float(np.concatenate(hits).mean())


def _show(name: str, log: dict[str, Any]) -> None:
    alive = log["survivors"]
    print(
        f"{name}: {alive['clicks']:,} clicks, radius {alive['radius']:.3f}; k=10: "
        f"{alive['own_share']:.1%} may be handed out, {alive['groups']:,} means "
        f"({alive['groups_share']:.1%} of the clicks, {alive['items_in_groups']:,} items)"
    )
    for row, figures in log["rows"].items():
        shown = "  ".join(
            f"{key} {value:.3f}" for key, value in figures.items() if key != "samples"
        )
        print(f"  {row:18} {figures['samples']:8,}  {shown}", flush=True)


if __name__ == "__main__":
    main()
