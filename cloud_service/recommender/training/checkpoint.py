"""Checkpoints: weights, optimiser and the state of the run, one safetensors file per epoch.

An epoch draws all its random numbers from the seed and its own index, so a run that was cut off
resumes from these exactly.
"""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from cloud_service.recommender.recipe import TrainingRecipe, identity
from shared.errors import DataError
from shared.whole_file import whole_path, write_whole

BEST = "best.safetensors"
_KEPT = 2


@dataclass
class Run:
    """The state of a training run after its last epoch."""

    epoch: int = 0
    """Epochs completed."""
    best: float = -1.0
    best_epoch: int = 0
    losses: list[float] = field(default_factory=list)
    metrics: list[float] = field(default_factory=list)
    seconds: float = field(default=0.0, compare=False)
    """Spent on these epochs, by all processes that took part."""


class Checkpoints:
    """The checkpoints of one run in a folder."""

    def __init__(self, folder: Path, recipe: TrainingRecipe, data: str) -> None:
        """`data` is a digest of the clicks. Raises DataError where the folder holds another run."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        recorded = folder / "recipe.json"
        description = json.dumps({"recipe": identity(recipe), "clicks": data}, indent=1)
        if not recorded.exists():
            write_whole(recorded, description)
        elif recorded.read_text("utf-8") != description:
            raise DataError(
                f"{folder} holds the run of another recipe, or of other clicks ({recorded}): "
                "use another work folder, or remove this one to start over"
            )

    def save(
        self,
        model: nn.Module,
        averaged: AveragedModel,
        optimiser: torch.optim.Optimizer,
        run: Run,
    ) -> None:
        """Writes the checkpoint of `run.epoch`, and the averaged weights if they are the best."""
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"averaged.{name}": value for name, value in averaged.state_dict().items()}
        for index, state in optimiser.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"optimiser.{index}.{name}"] = torch.as_tensor(value)
        if run.best_epoch == run.epoch:
            self.save_best(averaged.module)
        meta = {"run": json.dumps(asdict(run))}
        self._write(self.folder / f"epoch-{run.epoch:05d}.safetensors", tensors, meta)
        for old in self._files()[:-_KEPT]:
            old.unlink(missing_ok=True)

    def save_best(self, model: nn.Module) -> None:
        """Writes the weights to keep."""
        self._write(self.folder / BEST, dict(model.state_dict()), {})

    def resume(
        self, model: nn.Module, averaged: AveragedModel, optimiser: torch.optim.Optimizer
    ) -> Run:
        """Loads the newest whole checkpoint into what is trained; a fresh Run if there is none."""
        for path in reversed(self._files()):
            try:
                with safe_open(path, "pt") as file:
                    meta = file.metadata()
                    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                run = Run(**json.loads(meta["run"]))
            except (SafetensorError, OSError, ValueError, KeyError, TypeError):
                continue  # incomplete: use the one before
            model.load_state_dict(_with_prefix(tensors, "model."))
            averaged.load_state_dict(_with_prefix(tensors, "averaged."))
            _load(optimiser, _with_prefix(tensors, "optimiser."))
            return run
        return Run()

    def load_best(self, model: nn.Module) -> None:
        """Loads the weights of the best epoch."""
        with safe_open(self.folder / BEST, "pt") as file:
            model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118

    def best_at(self) -> datetime:
        """When the best weights were written."""
        return datetime.fromtimestamp((self.folder / BEST).stat().st_mtime, UTC)

    def clear(self) -> None:
        """Removes all checkpoints: the run is complete and published."""
        for path in [*self._files(), self.folder / BEST]:
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.safetensors"))

    @staticmethod
    def _write(path: Path, tensors: dict[str, torch.Tensor], meta: dict[str, str]) -> None:
        held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        try:
            with whole_path(path) as draft:
                save_file(held, draft, meta)
        except (SafetensorError, OSError) as error:
            raise DataError(f"the checkpoint {path} cannot be written: {error}") from error


def _with_prefix(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _load(optimiser: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    state = optimiser.state_dict()
    state["state"] = {}
    for name, tensor in tensors.items():
        index, name_rest = name.split(".", 1)
        state["state"].setdefault(int(index), {})[name_rest] = tensor
    optimiser.load_state_dict(state)
