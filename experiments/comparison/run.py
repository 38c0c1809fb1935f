"""One run, as a worker does it: train until validation is best, then rank the test clicks."""

import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch

from cloud_service.recommender.data.clicks import Split, split
from cloud_service.recommender.data.treatment import Treatment
from cloud_service.recommender.models.cocorrrec import SCNAndGCN
from cloud_service.recommender.models.recommender import Recommender
from cloud_service.recommender.progress import Progress
from cloud_service.recommender.ranking.evaluate import held_out, validation_ndcg
from cloud_service.recommender.recipe import Seen
from cloud_service.recommender.training.blend import assemble
from cloud_service.recommender.training.build import build
from cloud_service.recommender.training.checkpoint import Checkpoints
from cloud_service.recommender.training.trainer import Trainer, TrainingDiverged
from experiments.comparison.files import (
    RESULT,
    TRAINED,
    Result,
    RunFolder,
    Trained,
    write_model,
    write_ranks,
)
from experiments.comparison.recipe import LOCAL
from experiments.comparison.tasks import Task
from shared.errors import DataError

NEGATIVES_SEED: Final = 0
"""Every model and seed ranks against the same sampled negatives: figures are paired by user."""

Report = Callable[[Progress], None]


def perform(task: Task, device: torch.device, report: Report) -> Trained:
    """Does what of a task is not done yet, and gives how its training ended.

    Raises DataError where the data are not those of the task.
    """
    folder = task.folder
    with folder.locked():
        trained = folder.trained()
        if trained and (trained.status == "diverged" or not task.test or folder.result()):
            return trained
        report(Progress(phase="data", epochs=task.recipe.epochs))
        dataset = _parts(task)
        try:
            model, trained = _trained(task, dataset, device, report)
            if task.test:
                report(
                    Progress(
                        phase="testing",
                        epoch=trained.epochs,
                        epochs=task.recipe.epochs,
                        best=trained.best,
                    )
                )
                _test(folder, model, dataset)
        except TrainingDiverged as error:
            trained = Trained(status="diverged", reason=error.detail, device=str(device))
            write_model(folder.path / TRAINED, trained)
            folder.drop_checkpoints(weights=True)
        return trained


def _parts(task: Task) -> Split:
    recipe = task.recipe
    dataset, digest = _split(
        task.clicks, task.data, task.data_folder, Treatment.of(recipe), recipe.seen
    )
    if digest != task.clicks:
        raise DataError(f"the clicks of {task.data} changed while this ran: run it again")
    return dataset


@lru_cache(maxsize=2)
def _split(
    clicks: str, data: str, folder: Path, treatment: Treatment, seen: Seen
) -> tuple[Split, str]:
    """A split and its digest, kept for the next run of the same `clicks`."""
    log = treatment.load(data, folder)
    return split(log, seen=seen), log.digest()


def _trained(
    task: Task, dataset: Split, device: torch.device, report: Report
) -> tuple[Recommender, Trained]:
    """The model of the best epoch: read where it was trained before. Raises TrainingDiverged."""
    folder = task.folder
    before = folder.trained()
    if before and folder.has_weights():
        return _kept(task, dataset, device), before
    train = _assemble if task.stages() else _train
    model, trained = train(task, dataset, device, report)
    write_model(folder.path / TRAINED, trained)
    folder.drop_checkpoints(weights=False)
    return model, trained


def _kept(task: Task, dataset: Split, device: torch.device) -> Recommender:
    model = build(dataset, task.recipe, fit=False).to(device)
    Checkpoints(task.folder.path, task.recipe, task.clicks).load_best(model)
    return model


def _assemble(
    task: Task, dataset: Split, device: torch.device, report: Report
) -> tuple[Recommender, Trained]:
    """A model of several, each trained as a run of its own, which other runs find there."""
    models, trained_stages = [], []
    for stage in task.stages():
        if not stage.folder.has_weights():  # trained, perhaps, but not the point that was chosen
            (stage.folder.path / TRAINED).unlink(missing_ok=True)
        trained = perform(stage, device, report)
        if trained.status == "diverged":
            raise TrainingDiverged(f"{stage.recipe.network}: {trained.reason}")
        trained_stages.append(trained)
        models.append(_kept(stage, dataset, device))
    began = time.monotonic()
    model = assemble(dataset, task.recipe, models)
    best = _finite(lambda: validation_ndcg(model, dataset))
    Checkpoints(task.folder.path, task.recipe, task.clicks).save_best(model)
    spent = [
        s
        for trained in trained_stages
        for s in (*trained.seconds, trained.fitting)
        if s is not None
    ]
    return model, Trained(
        status="done",
        best=best,
        best_local=trained_stages[0].best,
        best_epoch=trained_stages[0].best_epoch,
        epochs=trained_stages[0].epochs,
        limit="; ".join(
            f"{stage.recipe.network}: {trained.limit}"
            for stage, trained in zip(task.stages(), trained_stages, strict=True)
            if trained.limit
        ),
        metrics=[best],
        fitting=sum(spent) + time.monotonic() - began,
        parameters=sum(tensor.numel() for tensor in model.parameters()),
        loss=trained_stages[0].loss,
        device=str(device),
    )


def _train(
    task: Task, dataset: Split, device: torch.device, report: Report
) -> tuple[Recommender, Trained]:
    folder, started = task.folder, time.monotonic()
    began = started

    def note(progress: Progress) -> None:
        nonlocal began
        if progress.phase == "training" and not progress.step:
            clock_s = time.monotonic()
            folder.add_seconds(progress.epoch, clock_s - began)
            began = clock_s
        report(progress)

    trainer = Trainer(dataset, task.recipe, folder.path, device=device, report=note)
    model = trainer.fit()
    run = trainer.run
    return model, Trained(
        status="done",
        best=run.best if run.metrics else _finite(lambda: validation_ndcg(model, dataset)),
        best_epoch=run.best_epoch,
        epochs=run.epoch,
        limit=trainer.end().limit,
        metrics=run.metrics,
        seconds=folder.seconds(run.epoch),
        fitting=0.0 if run.epoch else time.monotonic() - started,
        parameters=sum(tensor.numel() for tensor in model.parameters()),
        loss=trainer.loss if run.epoch else "",
        device=str(device),
    )


def _finite(figure: Callable[[], float]) -> float:
    try:
        return figure()
    except ValueError as error:
        raise TrainingDiverged(str(error)) from error


def _test(folder: RunFolder, model: Recommender, dataset: Split) -> None:
    """Writes the figures of the test clicks, and before them every user's ranks."""
    networks = {"": model}
    if isinstance(model, SCNAndGCN):
        networks[LOCAL] = model.scn
    rows = {}
    for row, network in networks.items():
        try:
            ranks = held_out(network, dataset, dataset.test_positions, seed=NEGATIVES_SEED)
        except ValueError as error:
            raise TrainingDiverged(str(error)) from error
        write_ranks(folder.ranks_file(row), ranks.all, ranks.sampled, ranks.sampled_users)
        rows[row] = ranks.metrics()
    write_model(folder.path / RESULT, Result(users=len(dataset.train_users), rows=rows))
