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

from experiments.simulation.measure import Taken, summarise, summary
from experiments.simulation.network import profile
from experiments.simulation.quality import Compared, quality
from experiments.simulation.report import Machine, ModelFacts, Pauses, Report, RunSettings
from shared.whole_file import write_whole
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


def assemble(results: Sequence[Part], missing: int = 0) -> Report:
    """The report of all `parts`, which share a key; `missing` others still run."""
    first_result = results[0]
    budget_s = first_result.settings.budget_ms / 1e3
    every = [(name, measurements) for result in results for name, measurements in result.taken]
    rows = dict.fromkeys((name, measurements.form) for name, measurements in every)
    return Report(
        created=max(result.created for result in results),
        machine=first_result.machine,
        model=first_result.model,
        settings=_settings(results, missing),
        pauses=_pauses(first_result.pauses, [measurements for _, measurements in every]),
        quality=tuple(
            measured
            for form in first_result.compared
            if (
                measured := quality(
                    form, [row for result in results for row in result.compared[form]]
                )
            )
        ),
        profiles=tuple(
            summarise(
                profile(name),
                [
                    measurements
                    for network_name, measurements in every
                    if (network_name, measurements.form) == (name, form)
                ],
                budget_s,
            )
            for name, form in rows
        ),
    )


def _settings(results: Sequence[Part], missing: int) -> RunSettings:
    settings = [result.settings for result in results]
    users = {row.user for result in results for rows in result.compared.values() for row in rows}
    return settings[0].model_copy(
        update={
            "devices": sum(settings_of_share.devices for settings_of_share in settings),
            "users": len(users) or sum(settings_of_share.users for settings_of_share in settings),
            "arrivals_per_s": sum(
                settings_of_share.arrivals_per_s for settings_of_share in settings
            ),
            "duration_s": max(settings_of_share.duration_s for settings_of_share in settings),
            "simulations": len(results),
            "missing": missing,
        }
    )


def _pauses(source: str, measurements: Sequence[Taken]) -> Pauses | None:
    drawn = summary(measured.pause_s for run in measurements for measured in run.measurements)
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
        exc_type: type[BaseException] | None,
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
    def finished(self, result: Part) -> Iterator[Report]:
        """Writes `part`, and gives the report of all parts of the run that are there, while no
        other simulation does the same. Raises OSError."""
        with self._locked():
            write_whole(self._part(self.share), result.model_dump_json())
            # One whose part is there is not missing, though it may not have let go of its share.
            missing = sum(not self._part(share).exists() for share in self._running())
            yield assemble([*self._others(), result], missing)

    def _others(self) -> list[Part]:
        results = []
        for path in sorted(self._folder.glob("*.json")):
            if path == self._part(self.share):
                continue
            if path.stat().st_size > PART_LIMIT:
                raise ValueError(f"{path} is larger than any part of a report: remove it")
            try:
                results.append(Part.model_validate_json(path.read_bytes()))
            except ValidationError as error:
                raise ValueError(
                    f"{path} is no part of a report ({error.error_count()} faults): remove it"
                ) from None
        return [result for result in results if result.key == self._key]

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
