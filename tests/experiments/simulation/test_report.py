"""The report's schema, and the sums that fill it."""

import json
import math

import numpy as np
import pytest
from pydantic import ValidationError

from device_client.correction.budget import Budget
from experiments.simulation.device import Punctuality
from experiments.simulation.measure import (
    Measurement,
    Rerank,
    RunMeasurements,
    histogram,
    summarise,
    summary,
)
from experiments.simulation.measured import Arrivals, Histogram, Summary
from experiments.simulation.network import PROFILES
from experiments.simulation.report import ProfileResult, Report
from shared.outcomes import Outcome

WORDS = "applied stale late timeout refused bad_payload wrong_model offline unknown_candidates"


def _result(*measurements: Measurement, cpu_share: float | None = None) -> ProfileResult:
    run = RunMeasurements("full", 10, 10, cpu_share, list(measurements))
    return summarise(PROFILES["4g-5"], [run], budget_s=4.21e-3)


def _answered(outcome: Outcome, **times: float) -> Measurement:
    return Measurement(1, None, Rerank(outcome, 0.001, None))._replace(**times)  # type: ignore[arg-type]


def test_the_outcomes_are_the_words_agreed_on_and_each_is_explained() -> None:
    assert " ".join(Outcome) == WORDS
    assert Outcome("late") is Outcome.LATE
    assert f"{Outcome.LATE}" == "late"
    assert all(word.meaning.endswith(".") for word in Outcome)
    assert len({word.meaning for word in Outcome}) == len(Outcome)


def test_a_report_round_trips_through_json(report: Report) -> None:
    text = report.model_dump_json()
    assert Report.model_validate_json(text) == report
    assert set(json.loads(text)["profiles"][0]["cases"]["at-once"]["outcomes"]) == set(
        WORDS.split()
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 1),
        (("surprise",), 1),
        (("created",), "2030-01-02T03:04:05"),
        (("profiles", 0, "form"), "half"),
        (("settings", "budget_ms"), 0),
        (("profiles", 0, "name"), "<script>"),
        (("profiles", 0, "requests"), 1),
        (("profiles", 0, "share_within_budget"), 1.1),
        (("profiles", 0, "cases", "at-once", "outcomes", "applied"), 0),
        (("profiles", 0, "cases", "after-pause", "outcomes"), {"applied": 600}),
        (("profiles", 0, "cases"), {}),
        (("profiles", 0, "cases"), {"later": 1}),
        (("profiles", 0, "unsplit"), -1),
        (("profiles", 0, "latency", "unanswered"), 0),
        (("profiles", 0, "legs", "cloud", "p99"), 0),
        (("profiles", 0, "legs", "cloud", "mean"), "NaN"),
        (("profiles",), []),
    ],
)
def test_a_report_that_contradicts_itself_is_refused(
    report: Report, path: tuple[str | int, ...], value: object
) -> None:
    document = json.loads(report.model_dump_json())
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ValidationError):
        Report.model_validate_json(json.dumps(document))


def test_a_profile_is_in_a_report_once(report: Report) -> None:
    document = report.model_dump()
    document["profiles"] = [document["profiles"][0]] * 2
    with pytest.raises(ValidationError, match="once"):
        Report.model_validate(document)


def test_a_summary_has_the_nearest_rank_percentiles_in_ms() -> None:
    values = [float(n) / 1e3 for n in range(1_000, 0, -1)]
    assert summary([*values, None]) == Summary(
        count=1_000, mean=500.5, p50=500, p90=900, p99=990, p999=999, max=1_000
    )
    assert summary([None]) is None


def test_a_histogram_is_exact_at_its_edges_and_counts_what_never_came() -> None:
    values = np.random.default_rng(2).lognormal(-6, 2, 5_000)
    values[0] = 0.0
    found = histogram([*values, *[None] * 500])
    assert found.requests == 5_500
    assert found.unanswered == 500
    for edge, share in found.slower():
        slower = np.sum(np.maximum(values, 1e-6) * 1e3 > edge) + 500
        assert share == pytest.approx(slower / 5_500)
    assert found.slower()[0][1] == 1
    assert found.slower()[-1][1] == pytest.approx(500 / 5_500)


def test_a_value_on_an_edge_falls_into_a_bucket() -> None:
    for exponent in range(-5, 4):
        assert sum(histogram([10.0**exponent]).counts) == 1
    assert histogram([None, None]) == Histogram(unanswered=2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"edges_ms": (1, 2), "counts": (1, 2)},
        {"edges_ms": (2, 1), "counts": (1,)},
        {"edges_ms": (1, 2), "counts": (-1,)},
        {"edges_ms": (1, 2)},
    ],
)
def test_a_histogram_refuses_edges_and_counts_that_do_not_fit(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Histogram.model_validate(wrong)


def test_the_share_within_the_budget_is_of_all_requests() -> None:
    result = _result(
        _answered(Outcome.APPLIED, total_s=4.21e-3, sent_up=300, payload_up=200),
        _answered(Outcome.LATE, total_s=4.22e-3, sent_up=300, payload_up=200),
        _answered(Outcome.TIMEOUT),
        _answered(Outcome.OFFLINE),
    )
    assert result.share_within_budget == 0.25
    assert set(result.cases) == {"at-once"}
    served = result.cases["at-once"]
    assert served.corrected_share == 0.25
    assert served.outcomes[Outcome.TIMEOUT] == 1
    assert served.outcomes[Outcome.STALE] == 0
    assert result.latency.unanswered == 2
    assert result.legs.total is not None
    assert result.legs.total.count == 2
    assert result.legs.upload is None
    assert (result.traffic.payload_up, result.traffic.sent_up) == (100, 150)


def test_a_correction_that_is_late_at_once_is_there_after_the_pause() -> None:
    late = Measurement(
        user=1,
        local=5,
        at_once=Rerank(Outcome.LATE, 0.004, 5),
        after_pause=Rerank(Outcome.APPLIED, 0.0002, 0),
        pause_s=3.0,
        total_s=0.08,
    )
    result = _result(late, late._replace(user=2))
    assert result.share_within_budget == 0
    at_once, after = result.cases["at-once"], result.cases["after-pause"]
    assert (at_once.corrected_share, after.corrected_share) == (0, 1)
    assert at_once.gain_ndcg10.mean == 0
    assert after.gain_ndcg10.mean == pytest.approx(1 - 1 / math.log2(7))
    assert after.ranking.hitrate10 == 1


def test_a_run_without_a_request_is_no_result() -> None:
    with pytest.raises(ValueError, match="nothing was measured over 4g-5"):
        _result()


def test_legs_that_contradict_the_clouds_own_account_are_counted_and_left_out() -> None:
    legs = {"upload_s": 0.002, "download_s": 0.0005, "queue_s": 0.0002, "compute_s": 0.00087}
    right = _answered(Outcome.APPLIED, cloud_s=0.0013, total_s=0.004, **legs)
    wrong = _answered(Outcome.APPLIED, cloud_s=0.000018, total_s=0.003, **legs)
    result = _result(*[right] * 3, *[wrong] * 5)
    assert wrong.unsplit
    assert not right.unsplit
    assert result.unsplit == 5
    for leg in ("upload", "cloud", "download", "queue", "compute"):
        assert getattr(result.legs, leg).count == 3
    assert result.legs.total is not None
    assert result.legs.total.count == 8
    assert result.legs.cloud is not None
    assert result.legs.cloud.p50 == pytest.approx(1.3)


def test_rounding_in_the_clouds_account_is_no_contradiction() -> None:
    exact = _answered(Outcome.APPLIED, cloud_s=0.0012, queue_s=0.0002, compute_s=0.0010005)
    assert not exact.unsplit
    assert not _answered(Outcome.OFFLINE).unsplit


def test_runs_of_several_simulations_sum_up_as_one_run_of_all_their_measurements() -> None:
    rng = np.random.default_rng(3)
    every = [
        Measurement(
            user=index % 17,
            local=int(rng.integers(0, 30)),
            at_once=Rerank(Outcome.APPLIED, float(rng.exponential(0.004)), int(rng.integers(30))),
            total_s=float(rng.exponential(0.01)),
        )
        for index in range(300)
    ]
    whole = summarise(PROFILES["3g"], [RunMeasurements("row", 30, 27, 0.5, every)], 0.004)
    pieces = [
        RunMeasurements("row", 10, 9, share, every[n::3]) for n, share in enumerate((0.5, 0.2, 0.3))
    ]
    together = summarise(PROFILES["3g"], pieces, 0.004)
    assert together.latency == whole.latency
    assert together.legs.total is not None
    assert whole.legs.total is not None
    assert together.legs.total.p99 == whole.legs.total.p99
    assert together.arrivals == whole.arrivals
    ours, theirs = (each.cases["at-once"].gain_ndcg10 for each in (together, whole))
    assert (ours.mean, ours.low, ours.high) == pytest.approx((theirs.mean, theirs.low, theirs.high))


def _arrivals(**found: object) -> Arrivals:
    return Arrivals.model_validate({"intended_per_s": 100, "achieved_per_s": 100} | found)


def _delays(late_share: float, late_s: float = 0.05) -> Summary | None:
    late = int(1000 * late_share)
    return summary([late_s] * late + [0.0002] * (1000 - late))


def test_a_simulator_without_cpu_to_spare_is_the_limit() -> None:
    prompt = _delays(0)
    assert _arrivals(start_delay=prompt, own_delay=prompt, cpu_share=0.5).limit(4.21) is None
    assert _arrivals(start_delay=prompt, own_delay=prompt, cpu_share=0.9).limit(4.21) == "simulator"
    assert _arrivals(achieved_per_s=50, cpu_share=0.95).limit(4.21) == "simulator"


def test_a_few_threads_that_woke_late_limit_nothing() -> None:
    some = _delays(0.05)
    slow = {"intended_per_s": 10, "achieved_per_s": 10, "cpu_share": 0.05}
    assert _arrivals(start_delay=some, own_delay=some, **slow).limit(4.21) is None


def test_a_busy_machine_is_the_limit_where_many_clicks_begin_late_with_cpu_to_spare() -> None:
    many = _delays(0.2)
    assert _arrivals(start_delay=many, own_delay=many, cpu_share=0.05).limit(4.21) == "machine"


def test_devices_that_wait_for_corrections_are_the_limit_and_not_the_simulator() -> None:
    prompt, late = _delays(0), _delays(0.2)
    assert _arrivals(start_delay=late, own_delay=prompt, cpu_share=0.3).limit(4.21) == "devices"
    assert _arrivals(achieved_per_s=94, own_delay=prompt, cpu_share=0.3).limit(4.21) == "devices"
    assert _arrivals(achieved_per_s=96, own_delay=prompt, cpu_share=0.3).limit(4.21) is None


def test_a_click_that_waited_for_its_devices_correction_is_not_late_by_the_simulators_doing() -> (
    None
):
    lateness = Punctuality(Budget(tolerance_ms=4.0))
    assert lateness.simulator_delay(0.0001, was_free=True) == 0.0001
    lateness.waited(0.003)
    lateness.paused(0.002)
    assert lateness.simulator_delay(0.005, was_free=False) == 0
    lateness.waited(0.5)  # longer than the budget: nobody waits for the cloud so long
    lateness.paused(0.002)
    assert lateness.simulator_delay(0.012, was_free=False) == pytest.approx(0.001)
    assert lateness.simulator_delay(0.001, was_free=True) == 0.001
    lateness.waited(-0.1)
    assert lateness.simulator_delay(0.003, was_free=False) == pytest.approx(0.003)


def test_cpu_time_and_own_delays_reach_the_report() -> None:
    slow = _answered(Outcome.OFFLINE, start_delay_s=0.02, own_delay_s=0.01)
    arrivals = _result(slow, cpu_share=0.25).arrivals
    assert arrivals.cpu_share == 0.25
    assert arrivals.own_delay is not None
    assert arrivals.own_delay.p99 == pytest.approx(10)
    assert arrivals.limit(4.21) == "machine"
