"""Trains the SCN and GCN of a recipe: in one training or, for a teacher-fitted GCN, in stages."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Generic, Literal, TypeVar

import torch

from cloud_service.recommender.data.clicks import Split
from cloud_service.recommender.models.cocorrrec import SCNAndGCN
from cloud_service.recommender.models.recommender import Recommender
from cloud_service.recommender.progress import Progress
from cloud_service.recommender.ranking.evaluate import validation_ndcg
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.build import build
from cloud_service.recommender.training.checkpoint import BEST, Checkpoints
from cloud_service.recommender.training.stacking import assemble
from cloud_service.recommender.training.stages import UNTRAINED, stages
from cloud_service.recommender.training.trainer import Report, Trainer, TrainingDiverged
from shared.manifest import TrainingEnd

Log = Callable[[str], None]
Outcome = TypeVar("Outcome")
TrainStage = Callable[[int, TrainingRecipe], tuple[Recommender, Outcome]]
"""Trains the stage of an index and a recipe, or loads it; gives its best model and how it ended."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained model.

    Attributes:
        best: its validation NDCG@10.
        epochs: epochs trained, the sum over all its networks.
        training: how the training of the device's network ended.
        created: when the weights were written.
        folders: its checkpoints, one for each training.
    """

    model: SCNAndGCN
    best: float
    epochs: int
    training: TrainingEnd
    created: datetime
    folders: Sequence[Checkpoints]

    def at(self, phase: Literal["testing", "exporting", "done"]) -> Progress:
        """The progress of a phase after training."""
        return Progress(phase=phase, epoch=self.epochs, epochs=self.epochs, best=self.best)

    def clear(self) -> None:
        """Removes all checkpoints: the run is complete and published."""
        for checkpoints in self.folders:
            checkpoints.clear()


@dataclass(frozen=True, eq=False)
class AssembledModel(Generic[Outcome]):
    """A model assembled of stages.

    Attributes:
        outcomes: how each stage ended, in the order of `stages(recipe)`.
        best: validation NDCG@10 of the assembled model.
        seconds: time for assembling and validating, without the stages.
    """

    model: SCNAndGCN
    outcomes: Sequence[Outcome]
    best: float
    seconds: float


def train_in_stages(
    split: Split,
    recipe: TrainingRecipe,
    checkpoints: Checkpoints,
    device: torch.device,
    train_stage: TrainStage[Outcome],
) -> AssembledModel[Outcome]:
    """Trains the SCN, then each teacher, by `train_stage`; then assembles the teacher-fitted GCN.

    The assembled weights are saved in `checkpoints` and loaded from there if they exist, so a run
    that is resumed publishes the same version. The results do not depend on the caller.

    Raises TrainingDiverged if the scores of the assembled model are not finite.
    """
    trained = [train_stage(index, stage) for index, stage in enumerate(stages(recipe))]
    began = time.monotonic()
    if (checkpoints.folder / BEST).exists():
        model = build(split, recipe, fit=False).to(device)
        checkpoints.load_best(model)
        assert isinstance(model, SCNAndGCN)
    else:
        model = assemble(split, recipe, [network for network, _ in trained])
        checkpoints.save_best(model)
    try:
        best = validation_ndcg(model, split)
    except ValueError as error:
        raise TrainingDiverged(str(error)) from error
    outcomes = [outcome for _, outcome in trained]
    return AssembledModel(model, outcomes, best, time.monotonic() - began)


def fit(
    split: Split,
    recipe: TrainingRecipe,
    work: Path,
    *,
    device: torch.device,
    report: Report = lambda progress: None,
    log: Log = lambda line: None,
) -> Fitted:
    """Trains a recipe of network `scn+gcn`, or resumes it in `work`.

    Raises TrainingDiverged.
    """
    if stages(recipe):
        return _fit_in_stages(split, recipe, work, device, report, log)
    trainer = Trainer(split, recipe, work, device=device, report=report)
    model = _trained(trainer, log)
    assert isinstance(model, SCNAndGCN)
    run, checkpoints = trainer.run, trainer.checkpoints
    return Fitted(
        model, run.best, run.epoch, trainer.outcome(), checkpoints.best_at(), [checkpoints]
    )


def _fit_in_stages(
    split: Split,
    recipe: TrainingRecipe,
    work: Path,
    device: torch.device,
    report: Report,
    log: Log,
) -> Fitted:
    """Each stage in a folder of its own below `work`; the progress counts the epochs of all."""
    stage_recipes = stages(recipe)
    own_checkpoints = Checkpoints(work, recipe, split.log.digest())
    folders = [own_checkpoints]
    done = 0

    def train_stage(index: int, stage: TrainingRecipe) -> tuple[Recommender, TrainingEnd]:
        nonlocal done
        network, done_before = stage.network.kind, done
        to_train = sum(later.network.kind not in UNTRAINED for later in stage_recipes[index:])
        epochs = done + recipe.optimisation.epochs * to_train

        def report_stage(progress: Progress) -> None:
            changes = {
                "epoch": done_before + progress.epoch,
                "epochs": epochs,
                "message": network,
            }
            report(progress.model_copy(update=changes))

        log(f"stage {index + 1} of {len(stage_recipes)}: {network}")
        report_stage(Progress(phase="training"))
        folder = work / f"{index + 1}-{network}"
        trainer = Trainer(split, stage, folder, device=device, report=report_stage)
        model = _trained(trainer, log)
        folders.append(trainer.checkpoints)
        outcome = trainer.outcome()
        done += outcome.epochs
        return model, outcome

    assembled = train_in_stages(split, recipe, own_checkpoints, device, train_stage)
    log(f"validation NDCG@10 with the correction {assembled.best:.4f}")
    return Fitted(
        assembled.model,
        assembled.best,
        done,
        assembled.outcomes[0],
        own_checkpoints.best_at(),
        folders,
    )


def _trained(trainer: Trainer, log: Log) -> Recommender:
    if trainer.epochs:
        log(trainer.hyperparameters.description)
    if trainer.run.epoch:
        log(f"going on after epoch {trainer.run.epoch}")
    model, run = trainer.fit(), trainer.run
    log(f"best validation NDCG@10 {run.best:.4f} in epoch {run.best_epoch} of {run.epoch}")
    if limit := trainer.outcome().limit:
        log(
            f"training of {trainer.recipe.network.kind} ended after {limit} while validation still "
            "improved: what is measured with it is of an under-trained network; give it more "
            "epochs or minutes"
        )
    return model
