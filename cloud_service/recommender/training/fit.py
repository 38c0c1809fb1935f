"""From a recipe to trained SCN and GCN, in one training or, for a projected GCN, several."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import torch

from cloud_service.recommender.data.clicks import Split
from cloud_service.recommender.models.cocorrrec import SCNAndGCN
from cloud_service.recommender.models.recommender import Recommender
from cloud_service.recommender.progress import Progress
from cloud_service.recommender.ranking.evaluate import validation_ndcg
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.blend import assemble
from cloud_service.recommender.training.build import build
from cloud_service.recommender.training.checkpoint import BEST, Checkpoints
from cloud_service.recommender.training.stages import UNTRAINED, stages
from cloud_service.recommender.training.trainer import Report, Trainer
from shared.manifest import TrainingEnd

Log = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained model.

    Attributes:
        best: its validation NDCG@10.
        epochs: how many were trained, of all its networks together.
        training: how the training of the device's network ended.
        created: when the weights were written.
        folders: where its checkpoints lie.
    """

    model: SCNAndGCN
    best: float
    epochs: int
    training: TrainingEnd
    created: datetime
    folders: Sequence[Checkpoints]

    def at(self, phase: Literal["testing", "exporting", "done"]) -> Progress:
        """The progress of what comes after training."""
        return Progress(phase=phase, epoch=self.epochs, epochs=self.epochs, best=self.best)

    def clear(self) -> None:
        """Removes all checkpoints: the run is complete and published."""
        for checkpoints in self.folders:
            checkpoints.clear()


def fit(
    split: Split,
    recipe: TrainingRecipe,
    work: Path,
    *,
    device: torch.device,
    report: Report = lambda progress: None,
    log: Log = lambda line: None,
) -> Fitted:
    """Trains a recipe of network `scn+gcn`, or goes on where it was cut off in `work`.

    Raises TrainingDiverged.
    """
    stage_recipes = stages(recipe)
    if not stage_recipes:
        trainer = Trainer(split, recipe, work, device=device, report=report)
        model = _trained(trainer, log)
        assert isinstance(model, SCNAndGCN)
        run, checkpoints = trainer.run, trainer.checkpoints
        training_end = trainer.end()
        return Fitted(
            model, run.best, run.epoch, training_end, checkpoints.best_at(), [checkpoints]
        )
    return _in_stages(split, recipe, work, device, report, log)


def _in_stages(
    split: Split,
    recipe: TrainingRecipe,
    work: Path,
    device: torch.device,
    report: Report,
    log: Log,
) -> Fitted:
    """The SCN, then each teacher, each in a folder of its own; then what puts them together."""
    stage_recipes = stages(recipe)
    own_checkpoints = Checkpoints(work, recipe, split.log.digest())
    folders, models, ends = [own_checkpoints], [], []
    done = 0
    for index, stage in enumerate(stage_recipes):
        to_train = sum(stage.network not in UNTRAINED for stage in stage_recipes[index:])
        epochs = done + recipe.epochs * to_train

        def say(
            progress: Progress, done: int = done, epochs: int = epochs, network: str = stage.network
        ) -> None:
            changes = {"epoch": done + progress.epoch, "epochs": epochs, "message": network}
            report(progress.model_copy(update=changes))

        log(f"stage {index + 1} of {len(stage_recipes)}: {stage.network}")
        say(Progress(phase="training"))
        folder = work / f"{index + 1}-{stage.network}"
        trainer = Trainer(split, stage, folder, device=device, report=say)
        models.append(_trained(trainer, log))
        folders.append(trainer.checkpoints)
        ends.append(trainer.end())
        done += ends[-1].epochs
    model = _assembled(split, recipe, own_checkpoints, models, device)
    best = validation_ndcg(model, split)
    log(f"validation NDCG@10 with the correction {best:.4f}")
    return Fitted(model, best, done, ends[0], own_checkpoints.best_at(), folders)


def _trained(trainer: Trainer, log: Log) -> Recommender:
    if trainer.epochs:
        log(trainer.settings.words)
    if trainer.run.epoch:
        log(f"going on after epoch {trainer.run.epoch}")
    model, run = trainer.fit(), trainer.run
    log(f"best validation NDCG@10 {run.best:.4f} in epoch {run.best_epoch} of {run.epoch}")
    if limit := trainer.end().limit:
        log(
            f"training of {trainer.recipe.network} ended after {limit} while validation still "
            "improved: what is measured with it is of an under-trained network; give it more "
            "epochs or minutes"
        )
    return model


def _assembled(
    split: Split,
    recipe: TrainingRecipe,
    own_checkpoints: Checkpoints,
    models: Sequence[Recommender],
    device: torch.device,
) -> SCNAndGCN:
    """Put together once: a run that goes on must publish the same version."""
    if (own_checkpoints.folder / BEST).exists():
        model = build(split, recipe, fit=False).to(device)
        own_checkpoints.load_best(model)
    else:
        model = assemble(split, recipe, models)
        own_checkpoints.save_best(model)
    assert isinstance(model, SCNAndGCN)
    return model
