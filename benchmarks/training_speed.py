"""Training sequences per second: all positions in one pass against one prefix per sample.

A training sequence is one (prefix, next click). The yardstick is the plain loop of the released
code: a batch of prefixes, each padded to the model's length, the state of the last click scored.
Both train the same model on the same clicks with the same loss.

    python -m benchmarks.training_speed            goal: at least 3
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cloud_service.data.clicks import recent, split
from cloud_service.data.synthetic import synthetic_log
from cloud_service.models.cocorrrec import CoCorrRec
from cloud_service.models.recommender import at_last
from cloud_service.training.trainer import Trainer
from cloud_service.training.windows import cut_windows, gather
from shared.jobs import TrainingRecipe
from shared.model import ModelSettings

RESULTS = Path(__file__).parent / "results"
GOAL = 3.0


def main() -> None:
    """Measures both in turn, and prints and keeps medians, quartiles and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args()
    results, ratios = {}, {}
    for form in ("causal", "released"):
        with tempfile.TemporaryDirectory() as folder:
            one_pass, plain = _loops(form, Path(folder))
            for loop in (one_pass, plain):
                loop(0)
            measured: dict[str, list[float]] = {"one pass": [], "one prefix per sample": []}
            for number in range(options.rounds):
                for name, loop in zip(measured, (one_pass, plain), strict=True):
                    measured[name].append(_rate(loop, number * options.steps, options.steps))
        for name, rates in measured.items():
            low, median, high = statistics.quantiles(rates, n=4)
            results[f"{form}, {name}"] = {"median": median, "quartiles": [low, high]}
            print(f"{form:9} {name:22} {median:9,.0f} sequences/s ({low:,.0f} to {high:,.0f})")
        pairs = zip(*measured.values(), strict=True)
        ratio = statistics.median(fast / slow for fast, slow in pairs)
        ratios[f"{form}: one pass / one prefix per sample"] = {"value": ratio, "goal": GOAL}
        print(f"{form:9} ratio {ratio:.2f} (goal {GOAL:g})")
    _keep(results, ratios)


def _loops(form: str, folder: Path) -> tuple[Callable[[int], int], Callable[[int], int]]:
    """One training step each, by its number; they give how many sequences it trained."""
    parts = split(synthetic_log())
    model = ModelSettings(gcn="causal" if form == "causal" else "released")
    recipe = TrainingRecipe(model=model)
    fast, slow = Trainer(parts, recipe, folder / "a"), Trainer(parts, recipe, folder / "b")
    fast.model.train()
    network = slow.model.train()
    assert isinstance(network, CoCorrRec)
    random = np.random.default_rng(0)
    windows = cut_windows(parts, model.length, random)
    items = parts.log.items
    targets = np.setdiff1d(parts.train_positions, parts.starts)
    starts = np.repeat(parts.starts, parts.stops - parts.starts)
    first = dict(zip(parts.train_positions.tolist(), starts.tolist(), strict=True))
    size = recipe.batch_size

    def one_pass(number: int) -> int:
        rows = slice(number % 50 * size, (number % 50 + 1) * size)
        inputs, wanted = gather(items, windows.starts[rows], windows.lengths[rows])
        fast._step(inputs, wanted, windows.users[rows], random)
        return int((wanted > 0).sum())

    def plain(number: int) -> int:
        chosen = random.choice(targets, size)
        begin = np.array([first[int(position)] for position in chosen])
        clicks = torch.from_numpy(recent(items, begin, chosen, model.length).astype(np.int64))
        hidden = network.scn.trained_hidden(clicks)
        gate = torch.from_numpy(random.random(size) >= recipe.drop_corrections).float()
        output = network.scn(hidden, network.gcn(hidden), gate)
        states = network.scn.user_state(at_last(output, clicks))
        scores = network.score_all(states)
        wanted = torch.from_numpy(items[chosen]).long() - 1
        slow._update(torch.nn.functional.cross_entropy(scores, wanted))
        return size

    return one_pass, plain


def _rate(loop: Callable[[int], int], first: int, steps: int) -> float:
    begun = time.perf_counter()
    done = sum(loop(first + number) for number in range(steps))
    return done / (time.perf_counter() - begun)


def _keep(results: object, ratios: object) -> None:
    RESULTS.mkdir(exist_ok=True)
    machine = {
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    kept = {"name": "training_speed", "machine": machine, "results": results, "ratios": ratios}
    (RESULTS / "training_speed.json").write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
