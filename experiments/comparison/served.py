"""What one would serve: chosen on the validation click, told on the test click."""

from dataclasses import dataclass
from typing import Final

from cloud_service.recommender.ranking.metrics import ALL
from cloud_service.recommender.ranking.significance import Comparison
from experiments.comparison.board import Board
from experiments.comparison.recipe import LOCAL

METRIC: Final = "ndcg@10"


@dataclass(frozen=True)
class Served:
    """A corrected model of an evaluation, and what its correction is worth.

    Attributes:
        model: its row; the device's network alone is that row with every correction lost.
        alone_validation, validation: validation NDCG@10 without and with the correction.
        comparison: test NDCG@10 with the correction against without.
    """

    model: str
    alone_validation: float
    validation: float
    comparison: Comparison


def served(board: Board, dataset: str) -> Served | None:
    """The best device network, then the best of the models that correct it; or None.

    A device network takes part if it was trained alone: of one trained with its GCN nobody
    validated how it does when corrections are lost.
    """
    candidates = []
    for row in board.about.models:
        runs = [] if row.endswith(LOCAL) else board.chosen(dataset, row)
        if runs and all(
            run["status"] == "done" and run[f"validation_{METRIC}{LOCAL}"] for run in runs
        ):
            candidates.append((_mean(runs, LOCAL), _mean(runs, ""), row))
    if not candidates:
        return None
    # Rows of the same network have the same figure to the last bit; the first of equals is taken.
    alone, corrected, model = max(candidates, key=lambda candidate: candidate[:2])
    compared = board.comparisons(dataset, model + LOCAL, ALL, [model])
    return Served(model, alone, corrected, compared[model, METRIC])


def _mean(runs: list[dict[str, str]], ending: str) -> float:
    return sum(float(run[f"validation_{METRIC}{ending}"]) for run in runs) / len(runs)
