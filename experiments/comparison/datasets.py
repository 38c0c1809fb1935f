"""The data sets of an evaluation: opened before anything is trained, and said what they are."""

from collections.abc import Container
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cloud_service.recommender.data.checks import LogChecks
from cloud_service.recommender.data.clicks import Split, split
from cloud_service.recommender.data.treatment import Treatment
from cloud_service.recommender.ranking.chance import candidates, random_ndcg
from experiments.comparison.comparison_recipe import ComparisonRecipe, DataSet, nearest
from experiments.comparison.names import is_path
from shared.errors import DataError


class DataFacts(BaseModel):
    """What the figures of a data set are of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    clicks: int
    users: int
    items: int
    synthetic: bool
    preprocessing: str
    split: str
    digest: str
    checks: LogChecks | None
    cautions: tuple[str, ...]
    """What makes figures of it doubtful, a sentence each."""
    random_ndcg: float
    """NDCG@10 over all items of a random ranking."""

    @classmethod
    def of(cls, name: str, split: Split) -> "DataFacts":
        """Of a log that was opened and split."""
        log = split.log
        return cls(
            name=name,
            clicks=log.click_count,
            users=log.user_count,
            items=log.item_count,
            synthetic=log.synthetic,
            preprocessing=log.preprocessing,
            split=split.description,
            digest=log.digest(),
            checks=log.checks,
            cautions=split.cautions,
            random_ndcg=float(random_ndcg(candidates(split), 10).mean()),
        )


def open_data(
    recipe: ComparisonRecipe, folder: Path, needed: Container[str] | None = None
) -> list[DataFacts]:
    """Opens every data set once. Raises DataError where one of the `needed` (or all) cannot be.

    Of a data set that is not needed and cannot be opened nothing is said.
    """
    facts = []
    for dataset in recipe.datasets:
        try:
            facts.append(_opened(dataset, folder))
        except DataError:
            if needed is None or dataset.name in needed:
                raise
    return facts


def _opened(dataset: DataSet, folder: Path) -> DataFacts:
    _check_file(dataset.data)
    log = Treatment.of(dataset).load(dataset.data, folder)
    return DataFacts.of(dataset.name, split(log, seen=dataset.seen))


def _check_file(data: str) -> None:
    path = Path(data)
    if not is_path(data) or path.exists():
        return
    beside = [dataset.name for dataset in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = f": {nearest(path.name, beside)}" if beside else ": check the path"
    raise DataError(f"there is no file {path}{hint}")
