"""A run that several simulations share: each writes its raw measurements as a partial result.

A simulation that starts while another writes into the same report folder joins its run and takes
the next share of the users. When it ends, it writes its partial result and a report of all partial
results that exist; the last simulation's report covers all. Partial results hold every single
measurement, so percentiles and intervals are computed over all of them together.

    report/parts/lock      locked while a share is claimed or a partial result is written
    report/parts/0.run     locked by the simulation of share 0 while it runs
    report/parts/0.json    its partial result, after it has ended
"""

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from experiments.simulation.measure import RunMeasurements, summarise, summary
from experiments.simulation.network import profile
from experiments.simulation.quality import Compared, quality
from experiments.simulation.report import Machine, ModelFacts, Pauses, Report, RunSettings
from shared.whole_file import write_whole
from shared.wire import Form

PART_LIMIT = 512 << 20
"""Largest partial result that is read, in bytes: a run of a million requests is smaller."""

MOST_PARTS = 256


class PartialResult(BaseModel):
    """The measurements of one simulation, without H."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    created: AwareDatetime
    machine: Machine
    model: ModelFacts
    settings: RunSettings
    pauses: str
    """Source of the pauses, in words; empty without pauses."""
    compared: dict[Form, list[Compared]]
    runs: list[tuple[str, RunMeasurements]]
    """(name of the network, its measurements), in the order of the run."""


def assemble(results: Sequence[PartialResult], missing: int = 0) -> Report:
    """The report of all `results`, which have one key; `missing` other simulations still run."""
    first_result = results[0]
    budget_s = first_result.settings.budget_ms / 1e3
    every = [(name, measurements) for result in results for name, measurements in result.runs]
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


def _settings(results: Sequence[PartialResult], missing: int) -> RunSettings:
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


def _pauses(source: str, measurements: Sequence[RunMeasurements]) -> Pauses | None:
    drawn = summary(measured.pause_s for run in measurements for measured in run.measurements)
    return None if drawn is None else Pauses(source=source, drawn=drawn)


class SharedRun:
    """A simulation's share of a run; `share` is 0 for the simulation that started the run.

    A context manager that releases the share at its end. `key` identifies what is measured and
    how: only simulations with the same key share a report. Raises ValueError if a simulation with
    another key is running in `folder`, or OSError.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder / "parts", key
        self._folder.mkdir(parents=True, exist_ok=True)
        self.share, self._lock_file = self._claim_share()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock_file.close()

    def _claim_share(self) -> tuple[int, TextIO]:
        with self._locked():
            running = self._running()
            if not running:
                for stale_path in self._folder.glob("*.json"):
                    stale_path.unlink()
            elif set(running.values()) != {self._key}:
                raise ValueError(
                    f"another simulation, of another model or with other options, writes into "
                    f"{self._folder.parent}: wait for its end, or name another folder with --report"
                )
            share = 0
            while share in running or self._result_path(share).exists():
                share += 1
            if share >= MOST_PARTS:
                raise ValueError(f"{MOST_PARTS} simulations share {self._folder.parent} already")
            lock_file = (self._folder / f"{share}.run").open("w", encoding="utf-8")
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock_file.write(self._key)
            lock_file.flush()
            return share, lock_file

    def _running(self) -> dict[int, str]:
        """Keys of the running simulations, by share. Call it with the lock held."""
        running = {}
        for path in self._folder.glob("*.run"):
            with path.open("r", encoding="utf-8") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    running[int(path.stem)] = file.read(1 << 16)
        return running

    @contextmanager
    def finished(self, result: PartialResult) -> Iterator[Report]:
        """Writes `result` and yields the report of all partial results, with the lock held.
        Raises OSError."""
        with self._locked():
            write_whole(self._result_path(self.share), result.model_dump_json())
            # A simulation with a result is not missing, even if it still holds its share.
            missing = sum(not self._result_path(share).exists() for share in self._running())
            yield assemble([*self._other_results(), result], missing)

    def _other_results(self) -> list[PartialResult]:
        results = []
        for path in sorted(self._folder.glob("*.json")):
            if path == self._result_path(self.share):
                continue
            if path.stat().st_size > PART_LIMIT:
                raise ValueError(f"{path} is larger than any part of a report: remove it")
            try:
                results.append(PartialResult.model_validate_json(path.read_bytes()))
            except ValidationError as error:
                raise ValueError(
                    f"{path} is no part of a report ({error.error_count()} faults): remove it"
                ) from None
        return [result for result in results if result.key == self._key]

    def _result_path(self, share: int) -> Path:
        return self._folder / f"{share}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def key_of(version: str, options: dict[str, object]) -> str:
    """A text that is equal for simulations whose measurements may be summarised together."""
    return json.dumps({"version": version, **options}, sort_keys=True)
