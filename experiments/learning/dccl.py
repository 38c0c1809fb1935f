"""DCCL's tables on a log: `python -m experiments.learning.dccl --data LOG --out FOLDER`.

Trains an SCN, or goes on with the one in FOLDER, and writes `dccl.json` and `dccl.md`.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from cloud_service.recommender.data.clicks import Split, split
from cloud_service.recommender.data.named_sets import identity
from cloud_service.recommender.data.treatment import Treatment
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.ranking.metrics import (
    ALL,
    NEGATIVES,
    SAMPLED,
    Ranks,
    rank_metrics,
    uauc,
)
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.trainer import Trainer
from experiments.learning.dccl_rounds import (
    PLACES,
    DCCLSettings,
    Ranked,
    dccl_rows,
    gains,
    world_of,
)
from shared.whole_file import write_whole

GROUPS: Final = 4
"""Groups of users, from those with the fewest training clicks to those with the most."""
MORE: Final = ("NDCG@10 against backbone, e-4 (95% interval)", "validation ndcg@10")
COLUMNS: Final = ("hitrate@1", "hitrate@5", "hitrate@10", "ndcg@5", "ndcg@10")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="a named set or a click log")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--data-folder", type=Path, default=Path("data"))
    parser.add_argument("--min-item", type=int, default=1)
    parser.add_argument("--min-user", type=int, default=3)
    parser.add_argument("--users", type=int, help="devices, drawn at random; all by default")
    parser.add_argument("--rounds", type=int, default=DCCLSettings.rounds)
    parser.add_argument("--most", type=int, default=DCCLSettings.most, help="events of an epoch")
    parser.add_argument("--places", nargs="+", choices=tuple(PLACES), default=tuple(PLACES))
    parser.add_argument("--minutes", type=float, help="at most, for the backbone")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    treatment = Treatment(min_item=given.min_item, min_user=given.min_user)
    log = treatment.load(given.data, given.data_folder)
    recipe = TrainingRecipe.of(
        data=identity(given.data), min_item=given.min_item, min_user=given.min_user,
        network="scn", minutes=given.minutes, seed=given.seed,
    )  # fmt: skip
    parts = split(log, seed=given.seed)
    trained = Trainer(parts, recipe, given.out / "backbone").fit()
    assert isinstance(trained, SCN)
    settings = DCCLSettings(
        users=given.users,
        rounds=given.rounds,
        places=tuple(given.places),
        most=given.most,
        seed=given.seed,
    )
    print(run(parts, trained.eval(), settings, given.out))


def run(parts: Split, scn: SCN, settings: DCCLSettings, folder: Path) -> str:
    """Computes all rows, writes them, and gives the page."""
    torch.manual_seed(settings.seed)
    folder.mkdir(parents=True, exist_ok=True)
    world = world_of(parts, scn, settings)
    rows = dccl_rows(world, settings, lambda line: print(line, flush=True))
    clicks = np.diff(world.events.offsets) - 2
    groups = _groups(clicks)
    figures = [row_figures(row, rows[0], groups) for row in rows]
    write_whole(folder / "dccl.json", json.dumps(figures, indent=1))
    page = page_of(parts, figures, clicks, groups)
    write_whole(folder / "dccl.md", page)
    return page


def _groups(clicks: np.ndarray) -> list[np.ndarray]:
    """Users in groups of one size, by their number of training clicks."""
    return [np.sort(group) for group in np.array_split(np.argsort(clicks, kind="stable"), GROUPS)]


def row_figures(row: Ranked, backbone: Ranked, groups: list[np.ndarray]) -> dict[str, Any]:
    """A row's figures, and the difference from the backbone with its 95% interval by user."""
    difference = gains(row.all) - gains(backbone.all)
    error = 1.96 * float(difference.std()) / len(difference) ** 0.5
    return {
        "row": row.name,
        "chosen": row.chosen,
        "validation": row.validation,
        **rank_metrics(ALL, row.all),
        **rank_metrics(SAMPLED, row.sampled, negatives=NEGATIVES),
        "difference": [float(difference.mean()), error],
        "group_ndcg@10": [float(gains(row.all)[group].mean()) for group in groups],
        "group_auc": [
            uauc(Ranks(row.sampled.greater[group], row.sampled.equal[group]), NEGATIVES)
            for group in groups
        ],
    }


def page_of(
    parts: Split, figures: list[dict[str, Any]], clicks: np.ndarray, groups: list[np.ndarray]
) -> str:
    """The tables as Markdown."""
    lines = [f"# DCCL on {parts.log.name}", "", f"{len(clicks):,} devices; {parts.description}."]
    for protocol, title in ((ALL, "All items"), (SAMPLED, f"{NEGATIVES} sampled negatives")):
        head = ["row", *COLUMNS] + ([*MORE] if protocol == ALL else [])
        lines += ["", f"## {title}", "", *_table(head)]
        for row in figures:
            cells = [f"{row[f'{protocol}/{column}']:.4f}" for column in COLUMNS]
            if protocol == ALL:
                mean, error = (1e4 * value for value in row["difference"])
                cells += [
                    f"{mean:+.0f} ({mean - error:+.0f} to {mean + error:+.0f})",
                    f"{row['validation']:.4f}",
                ]
            lines.append("| " + " | ".join([row["row"], *cells]) + " |")
    names = [f"{clicks[group].min()} to {clicks[group].max()} clicks" for group in groups]
    for key, title in (
        ("group_ndcg@10", "NDCG@10, all items"),
        ("group_auc", f"AUC, {NEGATIVES} sampled negatives"),
    ):
        lines += ["", f"## {title}, by training clicks", "", *_table(["row", *names])]
        for row in figures:
            cells = [f"{value:.4f}" for value in row[key]]
            lines.append("| " + " | ".join([row["row"], *cells]) + " |")
    return "\n".join(lines) + "\n"


def _table(head: list[str]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]


if __name__ == "__main__":
    main()
