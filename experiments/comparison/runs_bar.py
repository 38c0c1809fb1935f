"""How an evaluation's progress looks on stderr: a bar over all runs and a line for each at work."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cloud_service.commands.output import err, figures
from experiments.comparison.datasets import DataFacts
from experiments.comparison.grid import Evaluation
from experiments.comparison.tasks import Ended, Event, Moved, Started, Task

QUIET_SECONDS: Final = 60.0
"""Without a terminal, a line is said of all running ones at least this often."""

_ENOUGH: Final = 0.05
"""Runs, or shares of them, from which the time left can be told."""


class RunsBar:
    """Shows events; without a terminal as plain lines. Make it with `runs_bar`."""

    def __init__(self, bar: Progress, evaluation: Evaluation, workers: int) -> None:
        self._bar, self._evaluation, self._workers = bar, evaluation, workers
        self._overall = bar.add_task("runs", total=evaluation.total, figures="")
        self._running: dict[Task, TaskID] = {}
        self._moved: dict[Task, Moved] = {}
        self._began: dict[Task, float] = {}
        self._took: list[float] = []
        self._said = time.monotonic()

    def show(self, event: Event | None) -> None:
        """Moves the bar, says what began and ended."""
        if isinstance(event, Started):
            self._start(event.task)
        elif isinstance(event, Moved):
            self._moved[event.task] = event
            self._bar.update(
                self._running[event.task],
                completed=event.progress.share,
                figures=figures(event.progress),
            )
        elif isinstance(event, Ended):
            self._end(event)
        done, total = self._evaluation.done, self._evaluation.total
        self._bar.update(
            self._overall,
            completed=done + self._shares(),
            description=f"{done}/{total} runs",
            figures=self._left(),
        )
        if not err.is_terminal and time.monotonic() - self._said > QUIET_SECONDS:
            for moved in self._moved.values():
                self.say(f"{self._name(moved.task)}: {figures(moved.progress)}")

    def say(self, line: str) -> None:
        """Prints a line above the bars."""
        self._said = time.monotonic()
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _start(self, task: Task) -> None:
        self._began[task] = time.monotonic()
        self._running[task] = self._bar.add_task(self._name(task), total=1.0, figures="")
        if not err.is_terminal:
            self.say(f"begins: {self._name(task)}")

    def _end(self, event: Ended) -> None:
        task = event.task
        took = time.monotonic() - self._began.pop(task)
        self._took.append(took)
        self._moved.pop(task, None)
        self._bar.remove_task(self._running.pop(task))
        progress_text = f"{self._evaluation.done}/{self._evaluation.total}"
        text = f"{event.status}: {event.reason}" if event.reason else event.status
        trained = task.folder.trained()
        if event.status == "done" and trained and trained.best is not None:
            epochs = f"{trained.epochs} epoch" + "s" * (trained.epochs != 1)
            text = f"validation NDCG@10 {trained.best:.4f} after {epochs}"
        remaining = self._left()
        self.say(
            f"{progress_text}  {self._name(task)}: {text}, {took:.0f} s"
            + f"  ({remaining})" * bool(remaining)
        )

    def _shares(self) -> float:
        """How much of the running ones is done, in runs."""
        return sum(event.progress.share for event in self._moved.values())

    def _left(self) -> str:
        """How long it may still take, from what was done so far and how long that took."""
        clock_s = time.monotonic()
        worked = sum(self._took) + sum(clock_s - began for began in self._began.values())
        finished = len(self._took) + self._shares()
        remaining = self._evaluation.total - self._evaluation.done - self._shares()
        if finished < _ENOUGH or remaining <= 0:
            return ""
        at_once = min(self._workers, self._evaluation.total - self._evaluation.done)
        seconds = worked / finished * remaining / at_once
        if seconds < 60:
            return "under a minute left"
        hours, minutes = divmod(round(seconds / 60), 60)
        return "about " + f"{hours} h " * bool(hours) + f"{minutes} min left"

    def _name(self, task: Task) -> str:
        return self._evaluation.name(task)


@contextmanager
def runs_bar(evaluation: Evaluation, facts: list[DataFacts], workers: int) -> Iterator[RunsBar]:
    """Live bars on stderr, after a line of what is to be done."""
    for log in facts:
        text = (
            f"{log.name}: {log.users:,} users, {log.items:,} items, {log.clicks:,} clicks; "
            f"{log.preprocessing}"
        )
        err.print(text, markup=False, highlight=False, soft_wrap=True)
        for caution in log.cautions:
            text = f"doubtful: {log.name}: {caution}"
            err.print(text, markup=False, highlight=False, soft_wrap=True)
    count = f"{evaluation.total} run" + "s" * (evaluation.total != 1)
    text = f"{count}, {workers} at a time; kept in {evaluation.out}"
    err.print(text, markup=False, highlight=False, soft_wrap=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        console=err,
        disable=not err.is_terminal,
    ) as bar:
        yield RunsBar(bar, evaluation, workers)
