"""The report's schema, and the sums that fill it."""

import json
import math

import numpy as np
import pytest
from pydantic import ValidationError

from device_client.budget import Budget
from device_client.simulate.measure import (
    Measurement,
    Ranks,
    Recorder,
    histogram,
    quality,
    summary,
)
from device_client.simulate.network import PROFILES
from device_client.simulate.runner import Load, Punctuality
from shared.outcomes import Outcome
from shared.report import Arrivals, Histogram, ProfileResult, Report, Summary

WORDS = "applied stale late timeout refused bad_payload wrong_model offline unknown_candidates"


def _result(*measurements: Measurement) -> ProfileResult:
    recorder = Recorder()
    for each in measurements:
        recorder.add(each)
    return recorder.result(
        PROFILES["4g-5"],
        "full",
        budget_s=4.21e-3,
        intended_per_s=10,
        elapsed_s=len(measurements) / 10,
    )


def test_the_outcomes_are_the_words_agreed_on_and_each_is_explained() -> None:
    assert " ".join(Outcome) == WORDS
    assert Outcome("late") is Outcome.LATE
    assert f"{Outcome.LATE}" == "late"
    assert all(word.meaning.endswith(".") for word in Outcome)
    assert len({word.meaning for word in Outcome}) == len(Outcome)


def test_a_report_round_trips_through_json(report: Report) -> None:
    text = report.model_dump_json()
    assert Report.model_validate_json(text) == report
    assert set(json.loads(text)["profiles"][0]["outcomes"]) == set(WORDS.split())


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
        (("profiles", 0, "outcomes", "applied"), 0),
        (("profiles", 0, "outcomes"), {"applied": 600}),
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


def test_quality_is_the_textbook_ndcg_and_hitrate() -> None:
    found = quality([Ranks(0, 1, 0), Ranks(9, 10, 10), Ranks(None, None, None), Ranks(2, 2, 2)])
    assert found is not None
    assert found.requests == 4
    assert found.recall == 0.75
    assert found.corrected.hitrate10 == 0.75
    assert found.local.hitrate10 == found.served.hitrate10 == 0.5
    gains = [1.0, 1 / math.log2(11), 0.0, 0.5]
    assert found.corrected.ndcg10 == pytest.approx(sum(gains) / 4)
    assert found.local.ndcg10 == pytest.approx((1 / math.log2(3) + 0.5) / 4)
    assert found.gain_ndcg10.mean == pytest.approx(found.corrected.ndcg10 - found.local.ndcg10)


def test_the_interval_of_the_gain_is_of_paired_differences() -> None:
    found = quality([Ranks(0, 0, 0), Ranks(0, 99, 0)] * 50)
    assert found is not None
    half = 1.96 * math.sqrt(0.25 * 100 / 99) / 10
    assert found.gain_ndcg10.low == pytest.approx(0.5 - half)
    assert found.gain_ndcg10.high == pytest.approx(0.5 + half)
    assert quality([]) is None


def test_the_share_within_the_budget_is_of_all_requests() -> None:
    result = _result(
        Measurement(Outcome.APPLIED, total_s=4.21e-3, sent_up=300, payload_up=200),
        Measurement(Outcome.LATE, total_s=4.22e-3, sent_up=300, payload_up=200),
        Measurement(Outcome.TIMEOUT),
        Measurement(Outcome.OFFLINE),
    )
    assert result.share_within_budget == 0.25
    assert result.outcomes[Outcome.TIMEOUT] == 1
    assert result.outcomes[Outcome.STALE] == 0
    assert result.latency.unanswered == 2
    assert result.legs.total is not None
    assert result.legs.total.count == 2
    assert result.legs.upload is None
    assert result.quality is None
    assert (result.traffic.payload_up, result.traffic.sent_up) == (100, 150)
    assert result.arrivals.achieved_per_s == pytest.approx(10)


def test_no_request_at_all_is_still_a_result() -> None:
    recorder = Recorder()
    result = recorder.result(
        PROFILES["loopback"], "full", budget_s=4.21e-3, intended_per_s=1, elapsed_s=1.0
    )
    assert result.requests == 0
    assert result.share_within_budget == 0


def _arrivals(**found: object) -> Arrivals:
    return Arrivals.model_validate({"intended_per_s": 100, "achieved_per_s": 100} | found)


def test_a_simulator_is_the_limit_where_it_is_late_by_itself_or_has_no_cpu_to_spare() -> None:
    prompt, late = summary([0.004]), summary([0.005])
    assert _arrivals(start_delay=prompt, own_delay=prompt, cpu_share=0.5).limit(4.21) is None
    assert _arrivals(start_delay=late, own_delay=late).limit(4.21) == "simulator"
    assert _arrivals(start_delay=prompt, own_delay=prompt, cpu_share=0.9).limit(4.21) == "simulator"
    assert _arrivals(achieved_per_s=50, cpu_share=0.95).limit(4.21) == "simulator"


def test_devices_that_wait_for_corrections_are_the_limit_and_not_the_simulator() -> None:
    prompt, late = summary([0.001]), summary([0.02])
    assert _arrivals(start_delay=late, own_delay=prompt, cpu_share=0.3).limit(4.21) == "devices"
    assert _arrivals(achieved_per_s=94, own_delay=prompt, cpu_share=0.3).limit(4.21) == "devices"
    assert _arrivals(achieved_per_s=96, own_delay=prompt, cpu_share=0.3).limit(4.21) is None


def test_a_click_that_waited_for_its_devices_correction_is_not_late_by_the_simulators_doing() -> (
    None
):
    load = Load(1, 100.0, 0.002, Budget(tolerance_ms=4.0), "row", 0)
    found = Punctuality(load)
    assert found.own(0.0001, was_free=True) == 0.0001
    found.waited(0.003)
    assert found.own(0.005, was_free=False) == 0
    found.waited(0.5)  # longer than the budget: nobody waits for the cloud so long
    assert found.own(0.012, was_free=False) == pytest.approx(0.001)
    assert found.own(0.001, was_free=True) == 0.001
    found.waited(-0.1)
    assert found.own(0.003, was_free=False) == pytest.approx(0.001)


def test_cpu_time_and_own_delays_reach_the_report() -> None:
    recorder = Recorder()
    recorder.add(Measurement(Outcome.OFFLINE, start_delay_s=0.02, own_delay_s=0.01))
    result = recorder.result(
        PROFILES["loopback"], "full", budget_s=4.21e-3, intended_per_s=1, elapsed_s=2.0, cpu_s=0.5
    )
    assert result.arrivals.cpu_share == 0.25
    assert result.arrivals.own_delay is not None
    assert result.arrivals.own_delay.p99 == pytest.approx(10)
    assert result.arrivals.limit(4.21) == "simulator"
