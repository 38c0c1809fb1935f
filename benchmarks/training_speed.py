"""How fast networks train: sequences per second, and seconds to near their final quality.

A training sequence is one (prefix, next click). The yardstick is the plain loop of the released
code: a batch of prefixes, each padded to the model's length, the state of the last click scored.
Both train the same network on the same clicks with the same loss, a step in turn; so does one pass
with fast products of matrices, which is how training goes by default.

With --data each network then trains on that log until its validation NDCG@10 stops rising, and is
timed to the epoch that first had 95% of its best, validation included.

    python -m benchmarks.training_speed                        goal: at least 3
    python -m benchmarks.training_speed --data LOG.csv.gz      and how long training takes
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from benchmarks.machine import keep
from cloud_service.recommender.data.catalog import load
from cloud_service.recommender.data.clicks import Split, recent, split
from cloud_service.recommender.data.synthetic import synthetic_log
from cloud_service.recommender.models.cocorrrec import CoCorrRec
from cloud_service.recommender.models.recommender import Recommender, at_last
from cloud_service.recommender.progress import Progress
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.trainer import Trainer
from cloud_service.recommender.training.windows import cut_windows, gather
from shared.model import ModelSettings

GOAL: Final = 3.0
NEAR: Final = 0.95
"""Of the best validation NDCG@10."""
ONE_PASS: Final = "one pass"
FAST: Final = "one pass, fast products"
PLAIN: Final = "one prefix per sample"
RATIOS: Final = ((ONE_PASS, PLAIN), (FAST, ONE_PASS))
COMPARED: Final = ("scn", "gru4rec", "sasrec")


def recipes() -> dict[str, TrainingRecipe]:
    """What is timed, by name."""
    forms = {
        f"scn+gcn, {form}": TrainingRecipe(model=ModelSettings(gcn=form))
        for form in ("causal", "released")
    }
    return forms | {name: TrainingRecipe(network=name) for name in COMPARED}


def main() -> None:
    """Measures each network both ways in turn; prints and keeps medians, quartiles and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--short", action="store_true", help="a glance that keeps nothing")
    parser.add_argument(
        "--data", type=Path, action="append", default=[], help="a click log to train on to the end"
    )
    parser.add_argument("--min-item", type=int, default=1)
    parser.add_argument("--min-user", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=60, help="at most, with --data")
    options = parser.parse_args()
    dataset = split(synthetic_log())
    results: dict[str, Any] = {}
    ratios: dict[str, Any] = {}
    for name, recipe in recipes().items():
        rates = _rates(dataset, recipe, options.rounds, options.steps)
        for loop_name, samples in rates.items():
            low, median, high = statistics.quantiles(samples, n=4)
            results[f"{name}, {loop_name}"] = {"median": median, "quartiles": [low, high]}
            print(
                f"{name:18} {loop_name:22} {median:9,.0f} sequences/s ({low:,.0f} to {high:,.0f})"
            )
        ratio, fast = (_ratio(rates[loop_name], rates[than]) for loop_name, than in RATIOS)
        ratios[f"{name}: one pass / one prefix per sample"] = {"value": ratio, "goal": GOAL}
        ratios[f"{name}: fast products / exact"] = {"value": fast}
        print(f"{name:18} ratio {ratio:.2f} (goal {GOAL:g}), fast products {fast:.2f}", flush=True)
    for data in options.data:
        log = load(
            str(data), folder=data.parent, min_item=options.min_item, min_user=options.min_user
        )
        timed = {name: _to_quality(split(log), name, options.epochs) for name in COMPARED}
        results[f"to {NEAR:.0%} on {data.name}"] = timed
        for name in COMPARED[1:]:
            ratio = timed[name]["seconds"] / timed["scn"]["seconds"]
            ratios[f"seconds to {NEAR:.0%} on {data.name}: {name} / scn"] = {"value": ratio}
    if not options.short:
        keep("training_speed", results, ratios)


def _ratio(loop_name: list[float], than: list[float]) -> float:
    return statistics.median(fast / slow for fast, slow in zip(loop_name, than, strict=True))


def _rates(
    dataset: Split, recipe: TrainingRecipe, rounds: int, steps: int
) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        loops = _loops(dataset, recipe, Path(folder))
        for loop in loops.values():
            loop(0)
        measured: dict[str, list[float]] = {name: [] for name in loops}
        for step_number in range(rounds):
            for name, loop in loops.items():
                measured[name].append(_rate(loop, step_number * steps, steps))
    return measured


def _loops(dataset: Split, recipe: TrainingRecipe, folder: Path) -> dict[str, Callable[[int], int]]:
    """One training step each, by its number; they give how many sequences it trained."""
    slow = Trainer(dataset, recipe, folder / "slow")  # its products are exact: `_step` has the fast
    network = slow.model.train()
    random = np.random.default_rng(0)
    windows = cut_windows(dataset, recipe.model.length, random)
    items = dataset.log.items
    targets = np.setdiff1d(dataset.train_positions, dataset.starts)
    starts = np.repeat(dataset.starts, dataset.stops - dataset.starts)
    first_start = dict(zip(dataset.train_positions.tolist(), starts.tolist(), strict=True))
    size = slow.settings.batch_size

    def one_pass(matmul: str) -> Callable[[int], int]:
        changed = recipe.model_copy(update={"matmul": matmul})
        fast = Trainer(dataset, changed, folder / matmul)
        fast.model.train()

        def step(step_number: int) -> int:
            rows = slice(step_number % 50 * size, (step_number % 50 + 1) * size)
            inputs, targets = gather(items, windows.starts[rows], windows.lengths[rows])
            fast._step(inputs, targets, windows.users[rows], random)
            return int((targets > 0).sum())

        return step

    def plain(step_number: int) -> int:
        chosen = random.choice(targets, size)
        begin = np.array([first_start[int(position)] for position in chosen])
        window = recent(items, begin, chosen, recipe.model.length).astype(np.int64)
        states = _states_of_prefixes(network, torch.from_numpy(window), recipe, random)
        wanted = torch.from_numpy(items[chosen]).long() - 1
        slow.optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(network.score_all(states), wanted).backward()
        slow._descend()
        return size

    return {ONE_PASS: one_pass("exact"), FAST: one_pass("fast"), PLAIN: plain}


def _states_of_prefixes(
    network: Recommender,
    clicks: torch.Tensor,
    recipe: TrainingRecipe,
    random: np.random.Generator,
) -> torch.Tensor:
    if not isinstance(network, CoCorrRec):
        return at_last(network.states(clicks, torch.zeros_like(clicks[:, 0])), clicks)
    hidden = network.scn.trained_hidden(clicks)
    gate = torch.from_numpy(random.random(len(clicks)) >= recipe.drop_corrections).float()
    output = network.scn(hidden, network.gcn(hidden), gate)
    return network.scn.user_state(at_last(output, clicks))


def _rate(loop: Callable[[int], int], first_start: int, steps: int) -> float:
    begun = time.perf_counter()
    done = sum(loop(first_start + step_number) for step_number in range(steps))
    return done / (time.perf_counter() - begun)


def _to_quality(dataset: Split, name: str, epochs: int) -> dict[str, Any]:
    """Seconds until the validation NDCG@10 first had 95% of its best."""
    recipe = recipes()[name].model_copy(update={"epochs": epochs})
    ends: list[float] = []

    def note(progress: Progress) -> None:
        if not progress.step:
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        trainer = Trainer(dataset, recipe, Path(folder), report=note)
        trainer.fit()
    metrics = trainer.run.metrics
    there = next(n for n, value in enumerate(metrics) if value >= NEAR * trainer.run.best)
    figures = {
        "seconds": ends[there] - begun,
        "epochs": there + 1,
        "best": trainer.run.best,
        "seconds_in_all": ends[-1] - begun,
        "epochs_in_all": len(metrics),
    }
    print(
        f"{name:18} {figures['seconds']:.0f} s and {figures['epochs']} epochs to {NEAR:.0%} "
        f"of its best validation NDCG@10, {trainer.run.best:.4f}; "
        f"{figures['seconds_in_all']:.0f} s in all",
        flush=True,
    )
    return figures


if __name__ == "__main__":
    main()
