"""An evaluation of worlds that lie in files, as `cloud-service evaluate` does it."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from cloud_service.recommender.data.clicks import Split, split
from cloud_service.recommender.data.treatment import Treatment
from experiments.comparison.board import Board
from experiments.comparison.datasets import open_data
from experiments.comparison.grid import Evaluation
from experiments.comparison.plan import cells
from experiments.comparison.recipe import Recipe, parse
from experiments.comparison.tasks import Ended
from experiments.comparison.workers import Workers

MODELS: Final[tuple[dict[str, Any], ...]] = (
    {"network": "popularity"},
    {"network": "item-knn"},
    {"network": "scn"},
    {"network": "scn+gcn", "gcn": "projected", "teachers": "item-knn"},
    {"network": "sasrec"},
)
EPOCHS: Final = 20


def evaluated(
    paths: Iterable[Path],
    folder: Path,
    *,
    models: Iterable[dict[str, Any]] = MODELS,
    epochs: int = EPOCHS,
    workers: int = 1,
    pool: type[Workers] = Workers,
    say: Callable[[str], None] = lambda line: None,
    treatment: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Board, dict[str, Split]]:
    """Trains and tests all models on each world; goes on where it was cut off.

    Args:
        treatment: of every world, as a recipe's data set says it.

    Returns:
        The evaluation, read back from `folder`, and the split of each world by its file's stem.
    """
    datasets = [{"name": path.stem, "data": str(path), **treatment} for path in paths]
    recipe: Recipe = parse(
        {"datasets": datasets, "models": list(models), "epochs": epochs, "patience": 2}, "noise"
    )
    facts = open_data(recipe, folder)
    evaluation = Evaluation(recipe, cells(recipe), facts, folder / "evaluation", folder)
    for event in evaluation.run(workers, device="cpu", pool=pool):
        if isinstance(event, Ended):
            if event.status != "done":
                raise RuntimeError(f"{evaluation.name(event.task)}: {event.reason}")
            say(f"{evaluation.done}/{evaluation.total} {evaluation.name(event.task)}")
    parts = {
        dataset.name: split(Treatment.of(dataset).load(dataset.data, folder), seen=dataset.seen)
        for dataset in recipe.datasets
    }
    return Board.read(folder / "evaluation"), parts
