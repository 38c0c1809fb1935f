"""The files of an evaluation, written atomically, and the folder of one run."""

import csv
import fcntl
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from cloud_service.recommender.ranking.metrics import Ranks
from cloud_service.recommender.recipe import TrainingRecipe, identity
from cloud_service.recommender.training.checkpoint import BEST
from shared.errors import InvalidRequest
from shared.whole_file import write_whole

TRAINED: Final = "trained.json"
RESULT: Final = "result.json"
_SECONDS: Final = "seconds.jsonl"

Int64 = NDArray[np.int64]
Model = TypeVar("Model", bound=BaseModel)


class Trained(BaseModel):
    """How a training ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Literal["done", "diverged"]
    reason: str = ""
    best: float | None = None
    """Validation NDCG@10 over all items, at its best."""
    best_local: float | None = None
    """The same with every correction lost, where the device's network was trained alone."""
    best_epoch: int = 0
    epochs: int = 0
    limit: str = ""
    """What ended it while validation still improved, in words."""
    metrics: list[float] = []
    seconds: list[float | None] = []
    """Wall time of each epoch, its validation and checkpoint included; None where it was lost."""
    fitting: float = 0.0
    """Seconds it took to fit a network that has no epochs."""
    parameters: int = 0
    loss: str = ""
    """What was minimised: a network that cannot train by the recipe's loss takes another."""
    device: str = ""


class Result(BaseModel):
    """Test figures of a run: `rows` by what ends the row's name, "" or "/local"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: int
    rows: dict[str, dict[str, float]]


class RunFolder:
    """The folder of a run: checkpoints, training outcome, test figures and ranks of every user."""

    def __init__(self, runs: Path, recipe: TrainingRecipe, clicks: str) -> None:
        """`clicks` is the digest of the click log; the name ends with that of recipe and clicks."""
        content = json.dumps({"recipe": identity(recipe), "clicks": clicks})
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        data = re.sub(r"(\.csv|\.gz|\.parquet)+$", "", recipe.data.data)
        plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", f"{data[:40]}-{recipe.network.kind}")
        self.path = runs / f"{plain}-seed{recipe.optimisation.seed}-{digest}"

    def trained(self) -> Trained | None:
        """How its training ended, or None before that."""
        return _read(self.path / TRAINED, Trained)

    def result(self) -> Result | None:
        """Its test figures, or None before they and all ranks are there."""
        result = _read(self.path / RESULT, Result)
        if result and not all(self.ranks_file(row).is_file() for row in result.rows):
            return None
        return result

    def ranks_file(self, row: str) -> Path:
        """Where the ranks of a row lie."""
        return self.path / f"ranks{row.replace('/', '-')}.npz"

    def has_weights(self) -> bool:
        """Whether the weights of the best epoch are there."""
        return (self.path / BEST).is_file()

    def drop_checkpoints(self, *, weights: bool) -> None:
        """Removes what only a training that goes on needs, and the best weights if `weights`."""
        for path in [*self.path.glob("epoch-*.safetensors"), *self.path.glob("*.draft")]:
            path.unlink(missing_ok=True)
        if weights:
            (self.path / BEST).unlink(missing_ok=True)

    def add_seconds(self, epoch: int, seconds: float) -> None:
        """Notes how long an epoch took."""
        with (self.path / _SECONDS).open("a") as file:
            file.write(json.dumps({"epoch": epoch, "seconds": round(seconds, 4)}) + "\n")

    def seconds(self, epochs: int) -> list[float | None]:
        """How long each epoch took; None for one that was cut off before it was noted."""
        seconds_by_epoch: dict[int, float] = {}
        path = self.path / _SECONDS
        for line in path.read_text("ascii").splitlines() if path.is_file() else ():
            try:
                noted = json.loads(line)
                seconds_by_epoch[int(noted["epoch"])] = float(noted["seconds"])
            except (ValueError, KeyError, TypeError):
                continue  # cut off while it was written
        return [seconds_by_epoch.get(epoch) for epoch in range(1, epochs + 1)]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the lock of this run; waits for a process that has not exited yet."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            yield


def write_model(path: Path, content: BaseModel) -> None:
    """Writes a model as JSON, whole or not at all."""
    write_whole(path, content.model_dump_json(indent=1).encode())


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as CSV, whole or not at all; floats to the last digit, None as nothing."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())


def read_trained(folder: Path) -> Trained | None:
    """How the training in a run's folder ended, or None where it did not yet."""
    return _read(folder / TRAINED, Trained)


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV that must have these columns. Raises InvalidRequest."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if tuple(reader.fieldnames or ()) != tuple(columns):
                raise InvalidRequest(f"{path} has not the columns {','.join(columns)}")
            return list(reader)
    except OSError as error:
        raise InvalidRequest(
            f"{path} cannot be read ({error.strerror}): name the --out folder of "
            "`cloud-service evaluate`"
        ) from error
    except (ValueError, csv.Error) as error:
        raise InvalidRequest(f"{path} is not a CSV of an evaluation: {error}") from error


def write_ranks(path: Path, everyone: Ranks, sampled: Ranks, sampled_users: Int64) -> None:
    """Writes the ranks of one model and seed; users in the order of the split."""
    content = io.BytesIO()
    np.savez_compressed(
        content,
        all_greater=everyone.greater.astype(np.int32),
        all_equal=everyone.equal.astype(np.int32),
        sampled100_greater=sampled.greater.astype(np.int32),
        sampled100_equal=sampled.equal.astype(np.int32),
        sampled100_users=sampled_users.astype(np.int32),
    )
    write_whole(path, content.getvalue())


def read_ranks(path: Path) -> dict[str, tuple[Ranks, Int64]]:
    """Ranks and their users by protocol. Raises OSError, ValueError, KeyError."""
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        arrays = {name: file[name].astype(np.int64) for name in file.files}
    everyone = Ranks(arrays["all_greater"], arrays["all_equal"])
    sampled = Ranks(arrays["sampled100_greater"], arrays["sampled100_equal"])
    return {
        "all": (everyone, np.arange(len(everyone.greater), dtype=np.int64)),
        "sampled100": (sampled, arrays["sampled100_users"]),
    }


def _read(path: Path, model_type: type[Model]) -> Model | None:
    try:
        return model_type.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
