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
        self._clicks = {each.name: each.digest for each in facts}
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
        chosen = [place for place in self._places if place.selected]
        return sum(len(place.search) + len(place.cell.seeds) for place in chosen)

    @property
    def done(self) -> int:
        """Tasks that ended, or will never begin."""
        done = 0
        for place in (place for place in self._places if place.selected):
            done += sum(task in self._ended for task in place.search + place.finals)
            done += len(place.cell.seeds) if place.closed else 0
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
            for place in self._places:
                for task in self._next(place):
                    pool.add(task)
            self._write()
            for event in pool.events():
                if isinstance(event, Ended):
                    self._ended[event.task] = event.status, event.reason
                    new = [task for place in self._places for task in self._next(place)]
                    # First, so that one data set is finished before the next is begun.
                    for task in reversed(new):
                        pool.add(task, first=True)
                    self._write()
                yield event

    def _next(self, place: _Place) -> list[Task]:
        """The tasks of a cell that can be begun now and were not; notes those that are done."""
        new = self._new(place, place.search)
        if place.point is None and not place.closed and all(t in self._ended for t in place.search):
            self._choose(place)
        return new + self._new(place, place.finals)

    def _new(self, place: _Place, tasks: list[Task]) -> list[Task]:
        new = []
        for task in tasks:
            if task in self._asked or (task in self._undone and not place.selected):
                continue
            if task.is_done():
                trained = task.folder.trained()
                self._ended[task] = (trained.status, trained.reason) if trained else ("done", "")
            elif place.selected:
                new.append(task)
            else:
                self._undone.add(task)
                continue
            self._asked.add(task)
        return new

    def _choose(self, place: _Place) -> None:
        """The point with the best validation NDCG@10, the first of equals, goes on to all seeds."""
        cell = place.cell
        best = 0
        if place.search:
            if any(self._ended[task][0] == "failed" for task in place.search):
                place.closed = True
                return
            figures = [task.folder.trained() for task in place.search]
            scores = [each.best if each and each.best is not None else -1.0 for each in figures]
            best = max(range(len(scores)), key=scores.__getitem__)
            if scores[best] < 0:
                place.closed = True
                return
            self._drop_losers(place, best)
        place.point = cell.points[best]
        place.finals = [self._task(cell, place.point, seed, test=True) for seed in cell.seeds]

    def _drop_losers(self, place: _Place, best: int) -> None:
        """Removes the weights of points not chosen, but for those that are a run elsewhere too."""
        others = [each for each in self._places if each is not place]
        used = [task for each in others for task in each.search + each.finals]
        used += [part for task in used for part in task.stages()]
        kept = {task.folder.path for task in used}
        for index, task in enumerate(place.search):
            if index != best and task.folder.path not in kept:
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
        words = f"seed {seed}" if test else point_words(point)
        self._names.setdefault(task, f"{cell.dataset.name} / {cell.model.name} / {words}")
        return task

    def lines(self) -> Iterator[Line]:
        """Every run that has ended, in the order of the recipe."""
        for place in self._places:
            chosen = place.finals[0].folder.path if place.finals else None
            for point, task in zip(place.cell.points, place.search, strict=False):
                if task in self._ended and task.folder.path != chosen:
                    yield Line(place.cell, point, task, False, *self._ended[task])
            for task in place.finals:
                if task in self._ended:
                    yield Line(place.cell, place.point or {}, task, True, *self._ended[task])

    def problems(self) -> list[str]:
        """What did not end well and is missing in the results."""
        said = []
        for place in (place for place in self._places if place.selected):
            cell = place.cell
            where = f"{cell.model.name} on {cell.dataset.name}"
            if place.closed:
                bad = [self._ended[task] for task in place.search]
                failed = [reason for status, reason in bad if status == "failed"]
                said.append(
                    f"{where}: the search failed: {failed[0]}"
                    if failed
                    else f"{where}: every grid point diverged"
                )
            for task in place.finals:
                status, reason = self._ended.get(task, ("done", ""))
                if status != "done":
                    said.append(f"{where}, seed {task.recipe.seed}: {status}: {reason}")
        return said

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
