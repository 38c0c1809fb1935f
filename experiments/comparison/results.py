"""The files an evaluation leaves: results.csv, runs.csv and evaluation.json."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from experiments.comparison.datasets import DataFacts
from experiments.comparison.files import read_csv, write_csv, write_model
from experiments.comparison.plan import Cell, point_words
from experiments.comparison.tasks import Status, Task
from shared.errors import InvalidRequest

RESULTS: Final = "results.csv"
RUNS: Final = "runs.csv"
ABOUT: Final = "evaluation.json"
RESULT_COLUMNS: Final = ("dataset", "model", "seed", "protocol", "metric", "value")
RUN_COLUMNS: Final = (
    "dataset",
    "model",
    "network",
    "seed",
    "point",
    "points",
    "chosen",
    "status",
    "validation_ndcg@10",
    "validation_ndcg@10/local",
    "best_epoch",
    "epochs",
    "limit",
    "seconds",
    "parameters",
    "loss",
    "device",
    "test_users",
    "sampled_users",
    "folder",
    "reason",
)


class About(BaseModel):
    """What an evaluation is: enough to make its tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    datasets: list[DataFacts]
    models: list[str]
    seeds: list[int]
    reference: str | None


@dataclass(frozen=True)
class Line:
    """A run as it is listed: a point that was searched, or a seed of the chosen point."""

    cell: Cell
    point: Mapping[str, Any]
    task: Task
    chosen: bool
    status: Status
    reason: str = ""


def write_about(out: Path, about: About) -> None:
    """Writes evaluation.json."""
    write_model(out / ABOUT, about)


def read_about(out: Path) -> About:
    """Reads evaluation.json. Raises InvalidRequest."""
    try:
        return About.model_validate_json((out / ABOUT).read_bytes())
    except OSError as error:
        raise InvalidRequest(
            f"{out / ABOUT} cannot be read ({error.strerror}): name the --out folder of "
            "`cloud-service evaluate`"
        ) from error
    except ValidationError as error:
        raise InvalidRequest(f"{out / ABOUT} is not of this version: evaluate again") from error


def write_results(out: Path, lines: Iterable[Line]) -> None:
    """Writes results.csv and runs.csv of the runs that have ended."""
    lines = list(lines)
    write_csv(out / RUNS, RUN_COLUMNS, [_run_row(line, out) for line in lines])
    write_csv(out / RESULTS, RESULT_COLUMNS, [row for line in lines for row in _result_rows(line)])


def read_results(out: Path) -> dict[tuple[str, str, str, str], dict[int, float]]:
    """Values by seed of (dataset, model, protocol, metric). Raises InvalidRequest."""
    values: dict[tuple[str, str, str, str], dict[int, float]] = {}
    for row in read_csv(out / RESULTS, RESULT_COLUMNS):
        key = row["dataset"], row["model"], row["protocol"], row["metric"]
        values.setdefault(key, {})[int(row["seed"])] = float(row["value"])
    return values


def read_runs(out: Path) -> list[dict[str, str]]:
    """The rows of runs.csv. Raises InvalidRequest."""
    return read_csv(out / RUNS, RUN_COLUMNS)


def _result_rows(line: Line) -> list[dict[str, Any]]:
    result = line.task.folder.result() if line.chosen and line.status == "done" else None
    if result is None:
        return []
    rows = []
    for ending, figures in result.rows.items():
        for name, value in figures.items():
            protocol, metric = name.split("/")
            if metric != "users":
                rows.append(
                    {
                        "dataset": line.cell.dataset.name,
                        "model": line.cell.model.name + ending,
                        "seed": line.task.recipe.seed,
                        "protocol": protocol,
                        "metric": metric,
                        "value": repr(value),
                    }
                )
    return rows


def _run_row(line: Line, out: Path) -> dict[str, Any]:
    folder, cell = line.task.folder, line.cell
    row: dict[str, Any] = {
        "dataset": cell.dataset.name,
        "model": cell.model.name,
        "network": cell.model.network,
        "seed": line.task.recipe.seed,
        "point": point_words(line.point),
        "points": len(cell.points),
        "chosen": "yes" if line.chosen else "no",
        "status": line.status,
        "folder": folder.path.relative_to(out).as_posix(),
        "reason": line.reason,
    }
    trained = folder.trained()
    if trained is None:
        return row
    row["device"] = trained.device
    if trained.status == "diverged":
        return row | {"reason": trained.reason}
    known_seconds = [seconds for seconds in trained.seconds if seconds is not None]
    # An epoch whose time was lost with its process counts as the others' mean.
    seconds = (
        sum(known_seconds) / len(known_seconds) * trained.epochs
        if known_seconds
        else trained.fitting
    )
    row |= {
        "validation_ndcg@10": trained.best,
        "validation_ndcg@10/local": trained.best_local,
        "best_epoch": trained.best_epoch,
        "epochs": trained.epochs,
        "limit": trained.limit,
        "seconds": round(seconds, 2),
        "parameters": trained.parameters,
        "loss": trained.loss,
    }
    result = folder.result() if line.chosen else None
    if result is not None:
        row["sampled_users"] = int(result.rows[""]["sampled100/users"])
        row["test_users"] = result.users
    return row
