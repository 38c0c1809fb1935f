"""Selects the model to serve on the validation clicks; its figures are of the test clicks."""

from dataclasses import dataclass
from typing import Final

from cloud_service.recommender.ranking.metrics import ALL
from cloud_service.recommender.ranking.significance import Comparison
from experiments.comparison.comparison_recipe import LOCAL
from experiments.comparison.results_reader import EvaluationResults

METRIC: Final = "ndcg@10"


@dataclass(frozen=True)
class SelectedModel:
    """The selected model of an evaluation, and the effect of its correction.

    Attributes:
        model: its row; the device's network alone is that row with every correction lost.
        alone_validation, validation: validation NDCG@10 without and with the correction.
        comparison: test NDCG@10 with the correction against without.
    """

    model: str
    alone_validation: float
    validation: float
    comparison: Comparison


def select_model(results: EvaluationResults, dataset: str) -> SelectedModel | None:
    """The best device network, then the best of the models that correct it; or None.

    Only device networks that were trained alone are candidates: one trained together with its GCN
    was not validated without corrections.
    """
    candidates = []
    for row in results.about.models:
        runs = [] if row.endswith(LOCAL) else results.chosen(dataset, row)
        if runs and all(
            run["status"] == "done" and run[f"validation_{METRIC}{LOCAL}"] for run in runs
        ):
            candidates.append((_mean(runs, LOCAL), _mean(runs, ""), row))
    if not candidates:
        return None
    # Rows of the same network have the same figure to the last bit; the first of equals is taken.
    alone, corrected, model = max(candidates, key=lambda candidate: candidate[:2])
    compared = results.comparisons(dataset, model + LOCAL, ALL, [model])
    return SelectedModel(model, alone, corrected, compared[model, METRIC])


def _mean(runs: list[dict[str, str]], ending: str) -> float:
    return sum(float(run[f"validation_{METRIC}{ending}"]) for run in runs) / len(runs)
