"""Simulations that run at once share one report."""

from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import pytest

from experiments.simulation.measure import Measurement, Rerank, RunMeasurements
from experiments.simulation.quality import Compared
from experiments.simulation.report import Report
from experiments.simulation.shared_run import PartialResult, SharedRun, assemble, key_of
from shared.outcomes import Outcome
from tests.experiments.simulation.conftest import made_up_report

KEY = key_of("0123456789abcdef", {"rate": 150.0})


def part(first_user: int = 0, key: str = KEY, users: int = 30) -> PartialResult:
    """What a simulation of `users` users from `first_user` on measured over one network."""
    report = made_up_report(("4g-5",))
    measurements = [
        Measurement(
            user=user,
            local=user % 12,
            at_once=Rerank(Outcome.LATE, 0.004, user % 12),
            after_pause=Rerank(Outcome.APPLIED, 0.0002, user % 7),
            pause_s=1.5,
            total_s=0.001 * (1 + user),
        )
        for user in range(first_user, first_user + users)
    ]
    compared = [
        Compared(measured.user, 4, measured.user % 7, measured.local) for measured in measurements
    ]
    return PartialResult(
        key=key,
        created=datetime(2030, 1, 2, tzinfo=UTC),
        machine=report.machine,
        model=report.model,
        settings=report.settings,
        pauses="made-up pauses",
        compared={"full": compared},
        runs=[("4g-5", RunMeasurements("full", 150, 149, 0.2, measurements))],
    )


def finish(run: SharedRun, measured: PartialResult) -> Report:
    with run, run.finished(measured) as report:
        return report


def test_a_part_comes_back_from_its_file_as_it_was() -> None:
    whole = part()
    assert PartialResult.model_validate_json(whole.model_dump_json()) == whole


def test_three_simulations_at_once_give_one_report_of_all_their_measurements(
    tmp_path: Path,
) -> None:
    runs = [SharedRun(tmp_path, KEY) for _ in range(3)]
    assert [run.share for run in runs] == [0, 1, 2]
    reports = [finish(run, part(30 * run.share)) for run in (runs[1], runs[0], runs[2])]
    assert [report.settings.missing for report in reports] == [2, 1, 0]
    assert [report.settings.simulations for report in reports] == [1, 2, 3]
    (together,) = reports[2].profiles
    (alone,) = assemble([part(users=90)]).profiles
    assert together.requests == 90
    assert together.latency == alone.latency
    assert together.legs == alone.legs
    assert together.cases == alone.cases
    assert reports[2].quality == assemble([part(users=90)]).quality
    assert together.arrivals.intended_per_s == 3 * alone.arrivals.intended_per_s
    assert reports[2].settings.devices == 3 * part().settings.devices
    assert reports[2].settings.users == 90


def test_a_run_that_begins_when_no_other_goes_on_begins_anew(tmp_path: Path) -> None:
    finish(SharedRun(tmp_path, KEY), part())
    other = key_of("fedcba9876543210", {"rate": 150.0})
    later = SharedRun(tmp_path, other)
    assert later.share == 0
    assert finish(later, part(key=other)).settings.simulations == 1


def test_a_simulation_joins_after_another_of_its_run_has_ended(tmp_path: Path) -> None:
    first, second = SharedRun(tmp_path, KEY), SharedRun(tmp_path, KEY)
    finish(first, part())
    third = SharedRun(tmp_path, KEY)
    assert third.share == 2
    finish(second, part(30))
    assert finish(third, part(60)).profiles[0].requests == 90


def test_one_that_stopped_half_way_is_not_waited_for(tmp_path: Path) -> None:
    first, second = SharedRun(tmp_path, KEY), SharedRun(tmp_path, KEY)
    with pytest.raises(RuntimeError), second:
        raise RuntimeError("its cloud went away")
    report = finish(first, part())
    assert (report.settings.simulations, report.settings.missing) == (1, 0)


def test_one_that_has_written_its_part_and_not_yet_ended_is_not_missing(tmp_path: Path) -> None:
    first, second = SharedRun(tmp_path, KEY), SharedRun(tmp_path, KEY)
    with second:
        with second.finished(part(30)) as report:
            assert report.settings.missing == 1
        assert finish(first, part()).settings.missing == 0


def test_another_model_or_other_options_are_refused_while_a_run_goes_on(tmp_path: Path) -> None:
    with (
        SharedRun(tmp_path, KEY),
        pytest.raises(ValueError, match="another simulation, of another model or with other"),
    ):
        SharedRun(tmp_path, key_of("0123456789abcdef", {"rate": 10.0}))


def test_a_part_that_is_damaged_is_named(tmp_path: Path) -> None:
    first, second = SharedRun(tmp_path, KEY), SharedRun(tmp_path, KEY)
    (tmp_path / "parts" / "1.json").write_text('{"key": 1}')
    with second, pytest.raises(ValueError, match=r"1\.json is no part of a report"):
        finish(first, part())


def _share(folder: Path, number: int) -> None:
    with SharedRun(folder, KEY) as run:
        barrier.wait(60)
        with run.finished(part(30 * number)) as report:
            (folder / "report.json").write_text(report.model_dump_json())


def _begin(shared_barrier: object) -> None:
    global barrier
    barrier = shared_barrier


def test_processes_share_a_report_and_the_last_ones_is_of_all(tmp_path: Path) -> None:
    context = get_context("spawn")
    with context.Pool(3, _begin, (context.Barrier(3),)) as pool:
        pool.starmap(_share, [(tmp_path, number) for number in range(3)], chunksize=1)
    report = Report.model_validate_json((tmp_path / "report.json").read_bytes())
    assert report.settings.simulations == 3
    assert report.profiles[0].requests == 90
    assert report.settings.users == 90
