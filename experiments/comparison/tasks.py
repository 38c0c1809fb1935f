"""What goes between an evaluation and its workers."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cloud_service.recommender.progress import Progress
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.stages import stages
from experiments.comparison.files import RunFolder

Status = Literal["done", "diverged", "failed"]


@dataclass(frozen=True)
class Task:
    """Train a recipe, and with `test` rank the test clicks too.

    Attributes:
        data, data_folder: what `load` takes.
        clicks: digest of the click log that `data` and the recipe's filters must give.
        runs: the folder of all runs.
    """

    recipe: TrainingRecipe
    data: str
    data_folder: Path
    clicks: str
    runs: Path
    test: bool

    @property
    def folder(self) -> RunFolder:
        """The run's own folder."""
        return RunFolder(self.runs, self.recipe, self.clicks)

    def stages(self) -> "list[Task]":
        """The trainings that this one is put together of, each a run of its own."""
        return [replace(self, recipe=stage, test=False) for stage in stages(self.recipe)]

    def trains(self) -> set[Path]:
        """Folders of the runs that are done on the way: what no other may do at the same time."""
        open_stages = [stage for stage in self.stages() if not stage.is_done()]
        return {stage.folder.path for stage in (self, *open_stages)}

    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        trained = self.folder.trained()
        if trained is None:
            return False
        return trained.status == "diverged" or not self.test or self.folder.result() is not None


@dataclass(frozen=True)
class Started:
    task: Task


@dataclass(frozen=True)
class Moved:
    """A run goes on."""

    task: Task
    progress: Progress


@dataclass(frozen=True)
class Ended:
    """A run ended; `reason` says why where it is not done."""

    task: Task
    status: Status
    reason: str = ""


Event = Started | Moved | Ended
