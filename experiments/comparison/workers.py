"""Processes that run tasks, one at a time each. One that is killed costs its task alone.

Not concurrent.futures: its pool breaks as a whole when the system kills one process.
"""

import multiprocessing as mp
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from cloud_service.recommender.progress import Progress
from experiments.comparison.tasks import Ended, Event, Moved, Started, Task
from shared.errors import RecommendationError

_STOP_SECONDS: Final = 5.0
_WORKER_BYTES: Final = 3 << 30
"""Memory a worker may want on a large data set; bounds how many there are by default."""
_spawn = mp.get_context("spawn")


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(device: str, tasks: int) -> int:
    """One process a GPU, else one a core, as far as there is memory and work for them."""
    slots = cores()
    if device == "cuda":
        import torch

        slots = torch.cuda.device_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(slots, tasks, memory // _WORKER_BYTES))


@dataclass
class _Worker:
    number: int
    process: SpawnProcess
    line: Connection
    task: Task | None = None


class Workers:
    """`count` processes, started as they are needed. Use it in a `with`."""

    def __init__(self, count: int, *, threads: int, device: str) -> None:
        """`threads` of each process; `device` cpu or cuda, where processes share the GPUs."""
        self._count, self._threads, self._device = count, threads, device
        self._queue: deque[Task] = deque()
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.line.close()
            if exc_type is not None:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_STOP_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def add(self, task: Task, *, at_front: bool = False) -> None:
        """Puts a task at the end of the queue, or at its head; also while `events` are read."""
        if at_front:
            self._queue.appendleft(task)
        else:
            self._queue.append(task)

    def events(self, tick: float = 1.0) -> Iterator[Event | None]:
        """What happens until nothing is queued or running; None where nothing did for a tick."""
        while True:
            yield from self._start()
            busy = [worker for worker in self._workers if worker.task]
            if not busy:
                return
            lines: dict[Any, _Worker] = {worker.line: worker for worker in busy}
            ready = wait(list(lines), tick)
            if not ready:
                yield None
            for line in ready:
                yield self._read(lines[line])

    def _start(self) -> Iterator[Event]:
        while (task := self._next()) is not None:
            worker = next((worker for worker in self._workers if worker.task is None), None)
            if worker is None:
                if len(self._workers) >= self._count:
                    return
                worker = self._spawn()
            self._queue.remove(task)
            worker.task = task
            try:
                worker.line.send(task)
            except OSError:  # it died while it waited: its end is read next
                continue
            yield Started(task)

    def _next(self) -> Task | None:
        """The first that would not wait for what another worker trains."""
        busy: set[Path] = set().union(
            *(worker.task.trains() for worker in self._workers if worker.task)
        )
        return next((task for task in self._queue if busy.isdisjoint(task.trains())), None)

    def _spawn(self) -> _Worker:
        used_numbers = {worker.number for worker in self._workers}
        worker_number = next(n for n in range(self._count) if n not in used_numbers)
        ours, theirs = _spawn.Pipe()
        process = _spawn.Process(
            target=_serve, args=(theirs, worker_number, self._threads, self._device), daemon=True
        )
        process.start()
        theirs.close()
        worker = _Worker(worker_number, process, ours)
        self._workers.append(worker)
        return worker

    def _read(self, worker: _Worker) -> Event:
        task = worker.task
        assert task is not None
        try:
            message = worker.line.recv()
        except (EOFError, OSError):
            worker.process.join()
            worker.line.close()
            self._workers.remove(worker)
            return Ended(task, "failed", _death(worker.process.exitcode))
        if isinstance(message, Progress):
            return Moved(task, message)
        status, reason = message
        worker.task = None
        return Ended(task, status, reason)


def _death(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return (
            "its process was killed, by the system if memory ran out: take fewer --workers, and "
            "run the same command to go on"
        )
    how = f"by {signal.Signals(-code).name}" if code and code < 0 else f"with exit code {code}"
    return f"its process ended {how}: run the same command to go on"


def _serve(line: Connection, worker_number: int, threads: int, device: str) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    # Before torch and polars are loaded: they read these once.
    os.environ["OMP_NUM_THREADS"] = os.environ["POLARS_MAX_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
    chosen = torch.device("cpu")
    if device == "cuda":
        chosen = torch.device("cuda", worker_number % torch.cuda.device_count())
    while True:
        try:
            task = line.recv()
            line.send(_run(task, chosen, line.send))
        except (EOFError, OSError):
            return


def _run(task: Task, device: Any, report: Any) -> tuple[str, str]:
    """The status and the reason of one task: whatever goes wrong, the next one may do better."""
    from experiments.comparison.run import perform

    try:
        trained = perform(task, device, report)
    except RecommendationError as error:
        return "failed", error.detail
    except Exception as error:
        path = task.folder.path / "error.txt"
        path.write_text(traceback.format_exc(), "utf-8")
        reason = " ".join(str(error).split())[:200]
        return "failed", f"{type(error).__name__}: {reason} (all of it in {path})"
    return trained.status, trained.reason


def _end_with_parent() -> None:
    """Ends this process when the one that started it dies, however: nobody would read it."""
    parent = mp.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
