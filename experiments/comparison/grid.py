"""Runs an evaluation: searches each model's grid with the first seed, then takes the seeds.

Nothing is kept here that is not in files too: killed at any moment, the same evaluation goes on
where it was.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from experiments.comparison.datasets import DataFacts
from experiments.comparison.plan import Cell, point_words
from experiments.comparison.recipe import Recipe
from experiments.comparison.results import About, Line, write_about, write_results
from experiments.comparison.tasks import Ended, Event, Status, Task
from experiments.comparison.workers import Workers, cores
from shared.errors import InvalidRequest

RUNS_FOLDER: Final = "runs"


@dataclass
class _Place:
    """Where one cell is. One that is not selected shows what was done of it before."""

    cell: Cell
    selected: bool
    search: list[Task]
    finals: list[Task] = field(default_factory=list)
    point: dict[str, Any] | None = None
    """The chosen one."""
    closed: bool = False
    """No point can be chosen: each diverged, or one failed."""


class Evaluation:
    """All cells of a recipe, and the folder their runs and results are in."""

    def __init__(
        self,
        recipe: Recipe,
        cells: tuple[Cell, ...],
        facts: list[DataFacts],
        out: Path,
        data_folder: Path,
        *,
        selected: Callable[[Cell], bool] = lambda cell: True,
    ) -> None:
        """`facts` of the data sets that could be opened; cells not `selected` are not run."""
        self.out, self._data_folder = out, data_folder
        self._clicks = {candidate.name: candidate.digest for candidate in facts}
        self._ended: dict[Task, tuple[Status, str]] = {}
        self._asked: set[Task] = set()
        self._undone: set[Task] = set()
        self._names: dict[Task, str] = {}
        self._places = []
        for cell in cells:
            if cell.dataset.name in self._clicks:
                points = cell.points if len(cell.points) > 1 else ()
                search = [self._task(cell, point, cell.seeds[0], test=False) for point in points]
                self._places.append(_Place(cell, selected(cell), search))
        self._about = About(
            datasets=facts,
            models=recipe.row_names(),
            seeds=list(recipe.seeds),
            reference=recipe.reference,
        )

    @property
    def total(self) -> int:
        """Tasks to be done: points of searches, and seeds."""
        chosen = [cell_run for cell_run in self._places if cell_run.selected]
        return sum(len(cell_run.search) + len(cell_run.cell.seeds) for cell_run in chosen)

    @property
    def done(self) -> int:
        """Tasks that ended, or will never begin."""
        done = 0
        for cell_run in (cell_run for cell_run in self._places if cell_run.selected):
            done += sum(task in self._ended for task in cell_run.search + cell_run.finals)
            done += len(cell_run.cell.seeds) if cell_run.closed else 0
        return done

    def run(
        self, workers: int, *, device: str, pool: type[Workers] = Workers
    ) -> Iterator[Event | None]:
        """Does what is not done yet; gives what happens, None where nothing did for a second.

        Raises InvalidRequest where another evaluation runs in the folder.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, cores() // workers))
        with _alone(self.out):
            write_about(self.out, self._about)
            yield from self._run(pool(workers, threads=threads, device=device))

    def _run(self, workers: Workers) -> Iterator[Event | None]:
        with workers as pool:
            for cell_run in self._places:
                for task in self._next(cell_run):
                    pool.add(task)
            self._write()
            for event in pool.events():
                if isinstance(event, Ended):
                    self._ended[event.task] = event.status, event.reason
                    new = [task for cell_run in self._places for task in self._next(cell_run)]
                    # First, so that one data set is finished before the next is begun.
                    for task in reversed(new):
                        pool.add(task, at_front=True)
                    self._write()
                yield event

    def _next(self, cell_run: _Place) -> list[Task]:
        """The tasks of a cell that can be begun now and were not; notes those that are done."""
        new = self._new(cell_run, cell_run.search)
        if (
            cell_run.point is None
            and not cell_run.closed
            and all(t in self._ended for t in cell_run.search)
        ):
            self._choose(cell_run)
        return new + self._new(cell_run, cell_run.finals)

    def _new(self, cell_run: _Place, tasks: list[Task]) -> list[Task]:
        new = []
        for task in tasks:
            if task in self._asked or (task in self._undone and not cell_run.selected):
                continue
            if task.is_done():
                trained = task.folder.trained()
                self._ended[task] = (trained.status, trained.reason) if trained else ("done", "")
            elif cell_run.selected:
                new.append(task)
            else:
                self._undone.add(task)
                continue
            self._asked.add(task)
        return new

    def _choose(self, cell_run: _Place) -> None:
        """The point with the best validation NDCG@10, the first of equals, goes on to all seeds."""
        cell = cell_run.cell
        best = 0
        if cell_run.search:
            if any(self._ended[task][0] == "failed" for task in cell_run.search):
                cell_run.closed = True
                return
            figures = [task.folder.trained() for task in cell_run.search]
            scores = [
                candidate.best if candidate and candidate.best is not None else -1.0
                for candidate in figures
            ]
            best = max(range(len(scores)), key=scores.__getitem__)
            if scores[best] < 0:
                cell_run.closed = True
                return
            self._drop_losers(cell_run, best)
        cell_run.point = cell.points[best]
        cell_run.finals = [self._task(cell, cell_run.point, seed, test=True) for seed in cell.seeds]

    def _drop_losers(self, cell_run: _Place, best: int) -> None:
        """Removes the weights of points not chosen, but for those that are a run elsewhere too."""
        other_runs = [candidate for candidate in self._places if candidate is not cell_run]
        used = [task for candidate in other_runs for task in candidate.search + candidate.finals]
        used += [stage for task in used for stage in task.stages()]
        used_folders = {task.folder.path for task in used}
        for index, task in enumerate(cell_run.search):
            if index != best and task.folder.path not in used_folders:
                task.folder.drop_checkpoints(weights=True)

    def name(self, task: Task) -> str:
        """A run in words."""
        return self._names[task]

    def _task(self, cell: Cell, point: dict[str, Any], seed: int, *, test: bool) -> Task:
        task = Task(
            recipe=cell.training(point, seed),
            data=cell.dataset.data,
            data_folder=self._data_folder,
            clicks=self._clicks[cell.dataset.name],
            runs=self.out / RUNS_FOLDER,
            test=test,
        )
        label = f"seed {seed}" if test else point_words(point)
        self._names.setdefault(task, f"{cell.dataset.name} / {cell.model.name} / {label}")
        return task

    def lines(self) -> Iterator[Line]:
        """Every run that has ended, in the order of the recipe."""
        for cell_run in self._places:
            chosen = cell_run.finals[0].folder.path if cell_run.finals else None
            for point, task in zip(cell_run.cell.points, cell_run.search, strict=False):
                if task in self._ended and task.folder.path != chosen:
                    yield Line(cell_run.cell, point, task, False, *self._ended[task])
            for task in cell_run.finals:
                if task in self._ended:
                    yield Line(cell_run.cell, cell_run.point or {}, task, True, *self._ended[task])

    def problems(self) -> list[str]:
        """What did not end well and is missing in the results."""
        lines = []
        for cell_run in (cell_run for cell_run in self._places if cell_run.selected):
            cell = cell_run.cell
            where = f"{cell.model.name} on {cell.dataset.name}"
            if cell_run.closed:
                bad = [self._ended[task] for task in cell_run.search]
                failed = [reason for status, reason in bad if status == "failed"]
                lines.append(
                    f"{where}: the search failed: {failed[0]}"
                    if failed
                    else f"{where}: every grid point diverged"
                )
            for task in cell_run.finals:
                status, reason = self._ended.get(task, ("done", ""))
                if status != "done":
                    lines.append(f"{where}, seed {task.recipe.seed}: {status}: {reason}")
        return lines

    def _write(self) -> None:
        write_results(self.out, self.lines())


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidRequest(
                f"another evaluation runs in {out}: wait for it, or name another --out"
            ) from None
        yield
