"""Several simulations that run at once share one report: each leaves what it measured, raw.

Whoever starts while another runs into the same report folder joins its run, and takes the next
share of the users. Each writes its part when it ends, and a report of all parts that are there:
the last one's report is of all. Percentiles and intervals are those of all measurements together,
since the parts keep every one of them.

    report/parts/lock      held while a part is taken or written
    report/parts/0.run     held by the simulation that has share 0, as long as it runs
    report/parts/0.json    its measurements, once it has ended
"""

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from experiments.simulation.files import write_whole
from experiments.simulation.measure import Taken, summarise, summary
from experiments.simulation.network import profile
from experiments.simulation.quality import Compared, quality
from experiments.simulation.report import Machine, ModelFacts, Pauses, Report, RunSettings
from shared.wire import Form

PART_LIMIT = 512 << 20
"""Bytes of a part that are read at most: a run of a million requests has fewer."""

MOST_PARTS = 256


class Part(BaseModel):
    """What one simulation measured. H is not in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    created: AwareDatetime
    machine: Machine
    model: ModelFacts
    settings: RunSettings
    pauses: str
    """Where they come from, in words; empty where there are none."""
    compared: dict[Form, list[Compared]]
    taken: list[tuple[str, Taken]]
    """By the name of the network, in the order of the run."""


def assemble(parts: Sequence[Part], missing: int = 0) -> Report:
    """The report of all `parts`, which share a key; `missing` others still run."""
    first = parts[0]
    budget_s = first.settings.budget_ms / 1e3
    every = [(name, taken) for part in parts for name, taken in part.taken]
    rows = dict.fromkeys((name, taken.form) for name, taken in every)
    return Report(
        created=max(part.created for part in parts),
        machine=first.machine,
        model=first.model,
        settings=_settings(parts, missing),
        pauses=_pauses(first.pauses, [taken for _, taken in every]),
        quality=tuple(
            measured
            for form in first.compared
            if (measured := quality(form, [row for part in parts for row in part.compared[form]]))
        ),
        profiles=tuple(
            summarise(
                profile(name),
                [taken for other, taken in every if (other, taken.form) == (name, form)],
                budget_s,
            )
            for name, form in rows
        ),
    )


def _settings(parts: Sequence[Part], missing: int) -> RunSettings:
    settings = [part.settings for part in parts]
    users = {row.user for part in parts for rows in part.compared.values() for row in rows}
    return settings[0].model_copy(
        update={
            "devices": sum(asked.devices for asked in settings),
            "users": len(users) or sum(asked.users for asked in settings),
            "arrivals_per_s": sum(asked.arrivals_per_s for asked in settings),
            "duration_s": max(asked.duration_s for asked in settings),
            "simulations": len(parts),
            "missing": missing,
        }
    )


def _pauses(source: str, taken: Sequence[Taken]) -> Pauses | None:
    drawn = summary(measured.pause_s for run in taken for measured in run.measurements)
    return None if drawn is None else Pauses(source=source, drawn=drawn)


class SharedRun:
    """A simulation's share of a run: `number` is 0 where it began the run.

    Use it as a context manager; the share is free again when it ends. `key` says what is measured
    and how; only runs of one key share a report. Raises ValueError where a run of another key goes
    on in `folder`, and OSError.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder / "parts", key
        self._folder.mkdir(parents=True, exist_ok=True)
        self.share, self._held = self._take()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.close()

    def _take(self) -> tuple[int, TextIO]:
        with self._locked():
            running = self._running()
            if not running:
                for old in self._folder.glob("*.json"):
                    old.unlink()
            elif set(running.values()) != {self._key}:
                raise ValueError(
                    f"another simulation, of another model or with other options, writes into "
                    f"{self._folder.parent}: wait for its end, or name another folder with --report"
                )
            share = 0
            while share in running or self._part(share).exists():
                share += 1
            if share >= MOST_PARTS:
                raise ValueError(f"{MOST_PARTS} simulations share {self._folder.parent} already")
            held = (self._folder / f"{share}.run").open("w", encoding="utf-8")
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held.write(self._key)
            held.flush()
            return share, held

    def _running(self) -> dict[int, str]:
        """The keys of the simulations that run, by their numbers. With the lock."""
        running = {}
        for path in self._folder.glob("*.run"):
            with path.open("r", encoding="utf-8") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    running[int(path.stem)] = file.read(1 << 16)
        return running

    @contextmanager
    def finished(self, part: Part) -> Iterator[Report]:
        """Writes `part`, and gives the report of all parts of the run that are there, while no
        other simulation does the same. Raises OSError."""
        with self._locked():
            write_whole(self._part(self.share), part.model_dump_json())
            # One whose part is there is not missing, though it may not have let go of its share.
            missing = sum(not self._part(share).exists() for share in self._running())
            yield assemble([*self._others(), part], missing)

    def _others(self) -> list[Part]:
        parts = []
        for path in sorted(self._folder.glob("*.json")):
            if path == self._part(self.share):
                continue
            if path.stat().st_size > PART_LIMIT:
                raise ValueError(f"{path} is larger than any part of a report: remove it")
            try:
                parts.append(Part.model_validate_json(path.read_bytes()))
            except ValidationError as error:
                raise ValueError(
                    f"{path} is no part of a report ({error.error_count()} faults): remove it"
                ) from None
        return [part for part in parts if part.key == self._key]

    def _part(self, share: int) -> Path:
        return self._folder / f"{share}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def key_of(version: str, options: dict[str, object]) -> str:
    """What must be the same for measurements to be summed up together, as a text."""
    return json.dumps({"version": version, **options}, sort_keys=True)
