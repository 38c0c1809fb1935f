"""Noise in ten disguises through the whole evaluation: no model may be told from chance.

    OMP_NUM_THREADS=1 python -m benchmarks.noise_control

Of each disguise twenty worlds with fixed seeds are written to files and evaluated: popularity,
item-kNN, SCN, SCN with a projected GCN, SASRec, over all items (NDCG@10) and against 100 negatives
(UAUC). Chance is a random ranking; where popularity is skewed it is popularity, and then only what
is better counts. Where a log holds something, or where it is read as it stands, the same verdict
must fall: three such worlds are the control of the control. Killed, it goes on where it was.
"""

import argparse
import re
from pathlib import Path
from typing import Any

from benchmarks.machine import keep
from benchmarks.noise_control.evaluated import evaluated
from benchmarks.noise_control.verdict import METRICS, Verdict, against_chance, as_values, verdicts
from benchmarks.noise_control.worlds import DISGUISES, PLANTED, Disguise
from experiments.comparison.markdown import markdown

SEEDS = 20
CONTROLS: dict[str, tuple[Disguise, dict[str, str]]] = {
    "planted": (PLANTED, {}),
    "repeated rows, counted": (DISGUISES["repeated-rows"], {"repeats": "all"}),
    "one date, in the file's order": (DISGUISES["one-date"], {"ties": "file"}),
}
"""Worlds in which models must be told from chance."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--disguises", default=",".join(DISGUISES), help="commas between")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("evaluation/noise_control"))
    parser.add_argument("--short", action="store_true", help="one seed; keeps nothing")
    options = parser.parse_args()
    seeds = 1 if options.short else options.seeds
    rows, results = [], {}
    for name in options.disguises.split(","):
        disguise = DISGUISES[name]
        values, judged = _judged(disguise, options.out / name, seeds, options.workers, {})
        results[name] = {"words": disguise.words} | values
        rows.append([name, disguise.words, *_shown(values, judged)])
        print(" | ".join(rows[-1]), flush=True)
    for name, (disguise, treatment) in CONTROLS.items():
        folder = options.out / re.sub(r"[^a-z]+", "-", name)
        values, judged = _judged(disguise, folder, 1, options.workers, treatment)
        results[name] = {"words": disguise.words, "control": True} | values
        rows.append([f"({name})", disguise.words, *_shown(values, judged)])
    columns = ["disguise", "what it looks like"]
    for metric in METRICS.values():
        columns += [f"{metric}: chance", "models", "smallest p (Holm)", "intervals without 0"]
        columns += ["p over all worlds (corrected)"]
    print(markdown([*columns, "nothing found"], rows))
    if not options.short:
        ratios = {
            f"{name}: comparisons told from chance": {"value": len(_broken(failures)), "goal": 0}
            for name, failures in results.items()
            if "control" not in failures
        }
        keep("noise_control", results, ratios)


def _judged(
    disguise: Disguise, folder: Path, seeds: int, workers: int, treatment: dict[str, Any]
) -> tuple[dict[str, Any], list[Verdict]]:
    worlds = folder / "worlds"
    worlds.mkdir(parents=True, exist_ok=True)
    paths = [disguise.write(worlds, seed) for seed in range(seeds)]
    board, dataset = evaluated(
        paths,
        folder,
        workers=workers,
        say=lambda line: print(f"{folder.name}: {line}", flush=True),
        treatment=treatment,
    )
    comparisons = [
        comparison
        for world, mine in dataset.items()
        for comparison in against_chance(board, mine, world, skewed=disguise.skewed)
    ]
    judged = verdicts(comparisons, one_sided=disguise.skewed)
    cautions = sorted({caution for facts in board.about.datasets for caution in facts.cautions})
    return as_values(comparisons, judged) | {"cautions": cautions[:3]}, judged


def _shown(values: dict[str, Any], judged: list[Verdict]) -> list[str]:
    cells = []
    for verdict, means in zip(judged, values["means"].values(), strict=True):
        models = [mean for row, mean in means.items() if row != "chance"]
        cells += [
            f"{means['chance']:.4f}",
            f"{min(models):.4f} to {max(models):.4f}",
            f"{verdict.holm:.3g}",
            f"{verdict.outside} of {verdict.comparisons} (at most {verdict.allowed})",
            f"{verdict.pooled:.3g}",
        ]
    return [*cells, "yes" if all(verdict.holds for verdict in judged) else "no"]


def _broken(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [verdict for verdict in values["verdicts"] if not verdict["holds"]]


if __name__ == "__main__":
    main()
