"""Output of the commands: results on stdout, progress and errors on stderr."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from cloud_service.recommender.progress import Progress as TrainingProgress

out = Console()
err = Console(stderr=True)


class TrainingBar:
    """A progress bar with epoch, loss and validation metric; without a terminal, a line per epoch.

    Create it with `training_bar`.
    """

    def __init__(self, bar: Progress) -> None:
        self._bar, self._printed = bar, ("", -1)
        self._task = bar.add_task("waiting", total=1.0, figures="")

    def show(self, progress: TrainingProgress) -> None:
        """Updates the bar; without a terminal, prints a line at the end of a phase or an epoch."""
        shown = progress.phase, progress.epoch
        if not self._bar.console.is_terminal and shown != self._printed:
            self.say(f"{progress.share:4.0%}  {progress.phase}  {figures(progress)}")
            self._printed = shown
        self._bar.update(
            self._task,
            completed=progress.share,
            description=progress.phase,
            figures=figures(progress),
        )

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


def figures(progress: TrainingProgress) -> str:
    """Formats epoch, loss, validation NDCG@10 and its best value, if they are known."""
    fields = [progress.message] if progress.message else []
    fields += [f"epoch {progress.epoch}/{progress.epochs}"] if progress.epochs else []
    named = (("loss", progress.loss), ("NDCG@10", progress.ndcg), ("best", progress.best))
    fields += [f"{name} {value:.4f}" for name, value in named if value is not None]
    return "  ".join(fields)


@contextmanager
def training_bar() -> Iterator[TrainingBar]:
    """Shows a progress bar on stderr."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
    ) as bar:
        yield TrainingBar(bar)


@contextmanager
def download_bar(name: str) -> Iterator[Progress]:
    """Shows a progress bar in bytes on stderr; the caller adds its one task."""
    with Progress(
        TextColumn(name),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=err,
    ) as bar:
        yield bar
