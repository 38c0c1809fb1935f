"""Shows the progress of a run: bars in a terminal, else a line every few seconds."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from experiments.simulation.description import percent

EVERY_S = 3.0


class RunProgress:
    """Shows the progress of the steps of a run. A context manager."""

    def __init__(
        self,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
        every_s: float = EVERY_S,
    ) -> None:
        self._console, self._clock, self._every_s = console, clock, every_s
        self._bars = Progress(
            TextColumn("{task.description:24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            refresh_per_second=4,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def step(self, name: str, total: int | None = None) -> "Step":
        """Starts a step of `total` requests (None: not known yet)."""
        task = self._bars.add_task(name, total=total, note="")
        return Step(self, name, total, task)

    def show(self, step: "Step") -> None:
        """Shows the progress of `step`. Call it with the lock of `step` held."""
        note = step.note(self._clock())
        self._bars.update(step.task, completed=step.done, total=step.total, note=note)
        if self._console.is_terminal:
            return
        clock_s = self._clock()
        if clock_s - step.shown >= self._every_s or step.done == step.total:
            step.shown = clock_s
            of = "" if step.total is None else f" of {step.total:,}"
            text = f"{step.name}: {step.done:,}{of}" + (f" {note}" if note else "")
            self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def clock_s(self) -> float:
        """The clock, in seconds."""
        return self._clock()


class Step:
    """One step of a run. `tick` and `set` may be called from any thread."""

    def __init__(self, progress: RunProgress, name: str, total: int | None, task: TaskID) -> None:
        self.name, self.total, self.task = name, total, task
        self.done = self._corrected = 0
        self._counts_corrected = False
        self._progress = progress
        self._begun = self.shown = progress.clock_s()
        self._lock = threading.Lock()

    def set(self, done: int, total: int) -> None:
        """Sets the progress to `done` of `total`."""
        with self._lock:
            self.done, self.total = done, total
            self._progress.show(self)

    def tick(self, corrected: bool) -> None:
        """Counts one finished request; `corrected`: its last rerank was corrected."""
        with self._lock:
            self.done += 1
            self._corrected += corrected
            self._counts_corrected = True
            self._progress.show(self)

    def note(self, clock_s: float) -> str:
        """The rate and the share of corrected reranks so far; empty for steps without."""
        if not self._counts_corrected:
            return ""
        rate = self.done / max(clock_s - self._begun, 1e-9)
        return f"at {rate:,.0f}/s, {percent(self._corrected / self.done)} corrected"
