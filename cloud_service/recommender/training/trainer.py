"""The training loop: all positions of a window in one pass, early stopping, resumable."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from cloud_service.recommender.data.clicks import Split
from cloud_service.recommender.models.recommender import DotProduct, Recommender
from cloud_service.recommender.progress import Progress
from cloud_service.recommender.ranking.evaluate import validation_ndcg
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.build import build
from cloud_service.recommender.training.checkpoint import BEST, Checkpoints
from cloud_service.recommender.training.losses import full_softmax, sampled_bce, sampled_softmax
from cloud_service.recommender.training.replay import Replayed
from cloud_service.recommender.training.stages import stages
from cloud_service.recommender.training.suited import suited
from cloud_service.recommender.training.windows import Int64, TrainingNegatives, cut_windows, gather
from shared.errors import RecommendationError
from shared.manifest import TrainingEnd

CLIP = 5.0
"""Largest norm of a gradient; the inner model's can jump early on."""
_CPU_PAIRS, _GPU_PAIRS = 1 << 14, 1 << 18
"""States times candidates that a sampled loss looks at together."""
_REPORT_S = 0.5

Report = Callable[[Progress], None]
_Tensors = tuple[Tensor, ...] | list[Tensor]


class TrainingDiverged(RecommendationError):
    """The loss or the scores are not finite any more."""

    code = "training-diverged"
    title = "The training diverged"


class Trainer:
    """Trains one model on one split by one recipe, with checkpoints in `work`.

    A model whose scores are no dot products trains by sampled softmax where the recipe asks for
    the softmax over all items (`loss` says which it is): a pass of an MLP for every item and
    click is out of reach. A model without parameters is fitted when it is built: no epochs.

    What is validated and kept is the exponential moving average of the weights, `averaged`: it
    spares a schedule of the learning rate, and the best epoch is less a matter of luck.
    """

    def __init__(
        self,
        split: Split,
        recipe: TrainingRecipe,
        work: Path,
        *,
        device: torch.device | None = None,
        report: Report = lambda progress: None,
    ) -> None:
        """Raises ValueError for a model that is put together of several (`training/stages.py`)."""
        if stages(recipe):
            raise ValueError("a projected GCN has no training of its own")
        self.split, self.recipe, self._report = split, recipe, report
        self.settings = suited(recipe, split)
        self.device = device or torch.device("cpu")
        torch.manual_seed(recipe.seed)
        fitted = (work / BEST).exists()
        self.model = build(split, recipe, fit=not fitted).to(self.device)
        parameters = list(self.model.parameters())
        self.averaged = AveragedModel(self.model, multi_avg_fn=_moving_average(recipe.ema))
        self.optimiser = torch.optim.AdamW(
            parameters or [torch.zeros(0)],  # it refuses an empty list
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
            fused=True,
        )
        self.checkpoints = Checkpoints(work, recipe, split.log.digest())
        self.run = self.checkpoints.resume(self.model, self.averaged, self.optimiser)
        full_loss = self.model.factorised or recipe.loss != "softmax"
        self.loss = recipe.loss if full_loss else "sampled_softmax"
        self._negatives = TrainingNegatives(split) if self.loss != "softmax" else None
        replayed = self.device.type == "cuda" and self.model.factorised
        self._states = Replayed(self.model) if replayed else self.model.training_states
        self._said = 0.0
        self._began = time.monotonic()

    @property
    def epochs(self) -> int:
        """Epochs at most; none for a model without parameters."""
        return self.recipe.epochs if any(True for _ in self.model.parameters()) else 0

    def fit(self) -> Recommender:
        """Trains to the end and gives the model of the best validation epoch.

        It ends where validation stops improving, or at the recipe's epochs or minutes.

        Raises TrainingDiverged where loss or scores stop being finite.
        """
        run = self.run
        self._began = time.monotonic() - run.seconds
        if not self.epochs and not run.metrics:
            self._validate(None)
        while self._improves() and run.epoch < self.epochs and not self._late():
            loss = self._epoch(run.epoch)
            run.epoch += 1
            run.losses.append(loss)
            self._validate(loss)
        self.checkpoints.load_best(self.model)
        return self.model

    def end(self) -> TrainingEnd:
        """How the training ended, once `fit` has."""
        run, recipe, limit = self.run, self.recipe, ""
        if run.epoch and self._improves():
            limit = counted(run.epoch, "epoch")
            if run.epoch < self.epochs and recipe.minutes is not None:
                limit = counted(recipe.minutes, "minute")
        return TrainingEnd(epochs=run.epoch, best_epoch=run.best_epoch, limit=limit)

    def _improves(self) -> bool:
        return self.run.epoch - self.run.best_epoch < self.recipe.patience

    def _late(self) -> bool:
        minutes = self.recipe.minutes
        return minutes is not None and time.monotonic() - self._began >= 60 * minutes

    def _validate(self, loss: float | None) -> None:
        """Ranks the validation clicks, and writes the checkpoint of the epoch that just ended."""
        run = self.run
        try:
            averaged = self.averaged.module
            assert isinstance(averaged, Recommender)
            metric = validation_ndcg(averaged, self.split)
        except ValueError as error:
            raise TrainingDiverged(_diverged(run.epoch)) from error
        run.metrics.append(metric)
        if metric > run.best:
            run.best, run.best_epoch = metric, run.epoch
        run.seconds = time.monotonic() - self._began
        self.checkpoints.save(self.model, self.averaged, self.optimiser, run)
        self._say(0, 0, loss, force=True)

    def _epoch(self, epoch: int) -> float:
        """One pass over all windows, cut short by the recipe's minutes; gives the mean loss.

        All randomness is the epoch's own.
        """
        recipe, split, size = self.recipe, self.split, self.settings.batch_size
        random = np.random.default_rng((recipe.seed, epoch))
        torch.manual_seed(recipe.seed * 1_000_003 + epoch)
        windows = cut_windows(split, recipe.model.length, random)
        steps = -(-len(windows) // size)
        total = count = 0.0
        self.model.train()
        for step in range(steps):
            batch = slice(step * size, (step + 1) * size)
            starts, lengths = windows.starts[batch], windows.lengths[batch]
            inputs, targets = gather(split.log.items, starts, lengths)
            loss = self._step(inputs, targets, windows.users[batch], random)
            if not math.isfinite(loss):
                raise TrainingDiverged(_diverged(epoch + 1))
            total += loss * int(lengths.sum())
            count += int(lengths.sum())
            self._say(step + 1, steps, total / count)
            if self._late():
                break
        return total / max(count, 1)

    def _step(
        self,
        inputs: Int64,
        targets: Int64,
        users: Int64,
        random: np.random.Generator,
    ) -> float:
        clicks = torch.from_numpy(inputs).to(self.device)
        wanted = torch.from_numpy(targets).to(self.device)
        owners = torch.from_numpy(users + 1).to(self.device)
        clicks, wanted = self.model.examples(clicks, wanted)
        filled = wanted > 0
        self.optimiser.zero_grad(set_to_none=True)
        with _products(self.recipe.matmul):
            states = self._states(clicks, owners)[filled]
            loss = self._differentiate(states, wanted[filled], users, filled, random)
            self._descend()
        return loss

    def _differentiate(
        self,
        states: Tensor,
        positives: Tensor,
        users: Int64,
        filled: Tensor,
        random: np.random.Generator,
    ) -> float:
        """Adds up the gradients of the loss, and gives it."""
        model = self.model
        if self._negatives is None:
            assert isinstance(model, DotProduct)
            full_loss = full_softmax(states, model.catalogue(), positives)
            full_loss.backward()  # type: ignore[no-untyped-call]
            return float(full_loss.detach())
        owners = np.repeat(users, filled.sum(1).cpu().numpy())
        drawn = torch.from_numpy(self._negatives.draw(owners, self.recipe.negatives, random))
        candidates = torch.cat((positives[:, None], drawn.to(self.device)), dim=1)
        # A part at a time, gradients at once: what a model keeps of all pairs is hundreds of MB,
        # and waiting for memory took a third of a step.
        pairs = _CPU_PAIRS if self.device.type == "cpu" else _GPU_PAIRS
        rows = max(16, max(pairs, model.items) // candidates.shape[1])
        read, total = states.detach().requires_grad_(states.requires_grad), 0.0
        for states_part, ranked in zip(read.split(rows), candidates.split(rows), strict=True):
            scores = model.score(states_part, ranked)
            loss = sampled_bce(scores) if self.loss == "sampled_bce" else sampled_softmax(scores)
            loss = loss * (len(states_part) / len(read))
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if read.grad is not None:
            states.backward(read.grad)  # type: ignore[no-untyped-call]
        return total

    def _descend(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimiser.step()
        self.averaged.update_parameters(self.model)

    def _say(self, step: int, steps: int, loss: float | None, *, force: bool = False) -> None:
        clock_s = time.monotonic()
        if not force and clock_s - self._said < _REPORT_S:
            return
        self._said = clock_s
        run = self.run
        self._report(
            Progress(
                phase="training",
                epoch=run.epoch,
                epochs=self.epochs,
                step=step,
                steps=steps,
                loss=loss,
                ndcg=run.metrics[-1] if run.metrics else None,
                best=run.best if run.metrics else None,
            )
        )


def counted(count: float, noun: str) -> str:
    """ "60 epochs", "1 epoch", "2.5 minutes"."""
    return f"{count:g} {noun}" + "s" * (count != 1)


@contextmanager
def _products(mode: Literal["fast", "exact"]) -> Iterator[None]:
    """Fast ones are oneDNN's where the exact ones are MKL's: in float32 all the same, and twice as
    fast, on processors without AMX (docs/decisions.md)."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if mode == "fast" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _moving_average(decay: float) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """Less of the past at first: (1 + n) / (10 + n) of it after n steps, at most `decay`."""

    def update(averaged: _Tensors, current: _Tensors, steps: Tensor | int) -> None:
        count = int(steps)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + count) / (10 + count)))

    return update


def _diverged(epoch: int) -> str:
    return (
        f"loss or scores are not finite in epoch {epoch}: lower the learning rate "
        "(the best earlier epoch is kept in the work folder)"
    )
