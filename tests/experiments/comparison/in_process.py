"""Workers without processes, and a trainer that needs no time: what an evaluation does, quickly."""

from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import torch

from cloud_service.recommender.training.build import build
from cloud_service.recommender.training.trainer import TrainingDiverged
from experiments.comparison.comparison_recipe import read
from experiments.comparison.datasets import open_data
from experiments.comparison.plan import cells
from experiments.comparison.run import perform
from experiments.comparison.scheduler import Evaluation
from experiments.comparison.tasks import Ended, Started
from experiments.comparison.workers import Workers
from shared.errors import RecommendationError
from shared.manifest import TrainingEnd


class InProcess(Workers):
    """Runs one task after the other in this process."""

    def events(self, tick=1.0):
        while self._queue:
            task = self._queue.popleft()
            yield Started(task)
            try:
                trained = perform(task, torch.device("cpu"), lambda progress: None)
                yield Ended(task, trained.status, trained.reason)
            except RecommendationError as error:
                yield Ended(task, "failed", error.detail)


class FakeTrainer:
    """Validates best at the learning rate 0.01, and diverges from 0.5 on. Counts what it trains."""

    trained: ClassVar[list[tuple[str, float, int]]] = []

    def __init__(self, split, recipe, work, *, device, report):
        torch.manual_seed(recipe.optimisation.seed)
        self.model = build(split, recipe)
        self.recipe, self.loss = recipe, recipe.optimisation.loss
        self.run = SimpleNamespace(best=-1.0, best_epoch=0, epoch=0, metrics=[])

    def fit(self):
        rate = self.recipe.optimisation.learning_rate or 0.002
        self.trained.append((self.recipe.network.kind, rate, self.recipe.optimisation.seed))
        if rate >= 0.5:
            raise TrainingDiverged("loss or scores are not finite in epoch 1")
        best = 0.5 - abs(rate - 0.01)
        self.run = SimpleNamespace(best=best, best_epoch=1, epoch=1, metrics=[best])
        return self.model

    def outcome(self):
        return TrainingEnd(epochs=self.run.epoch, best_epoch=self.run.best_epoch)


def evaluate(recipe: Path, out: Path, *, selected=lambda cell: True, **overrides):
    """Evaluates a recipe file in this process."""
    wanted = read(recipe)
    facts = open_data(wanted, Path("nowhere"))
    planned = cells(wanted, overrides)
    evaluation = Evaluation(wanted, planned, facts, out, Path("nowhere"), selected=selected)
    for _ in evaluation.run(1, device="cpu", pool=InProcess):
        pass
    return evaluation
