"""What a report comes to for a reader who decides."""

from typing import Any

import pytest

from experiments.simulation.measured import Interval
from experiments.simulation.page import html
from experiments.simulation.report import Report
from experiments.simulation.verdict import verdict
from tests.experiments.simulation.conftest import made_up_report


def _with_gain(report: Report, mean: float, low: float, high: float, **update: Any) -> Report:
    gain = Interval(mean=mean, low=low, high=high)
    quality = report.quality[0].model_copy(update={"gain_ndcg10": gain, **update})
    return report.model_copy(update={"quality": (quality,)})


def _served(report: Report, **gains: tuple[float, float]) -> Report:
    """`at_once` and `after_pause` gained so much (mean, low) over every network."""
    profiles = []
    for result in report.profiles:
        cases = {
            case: served.model_copy(
                update={
                    "gain_ndcg10": Interval(
                        mean=gains[case.replace("-", "_")][0],
                        low=gains[case.replace("-", "_")][1],
                        high=1,
                    )
                }
            )
            for case, served in result.cases.items()
        }
        profiles.append(result.model_copy(update={"cases": cases}))
    return report.model_copy(update={"profiles": tuple(profiles)})


@pytest.fixture
def real() -> Report:
    return made_up_report(("loopback", "wifi-home", "lte-typical"), synthetic=False)


def test_a_gain_after_the_pause_alone_is_worth_that_much_there(real: Report) -> None:
    local = real.quality[0].local.ndcg10
    report = _served(
        _with_gain(real, 0.1 * local, 0.05 * local, 0.15 * local),
        at_once=(0.0001, -0.001),
        after_pause=(0.08 * local, 0.03 * local),
    )
    judged = verdict(report)
    assert judged.worth is True
    assert judged.title == (
        "Worth in NDCG@10: +8.0% for lists reranked after a pause, 0% for lists reranked at once"
    )
    assert "no gain over any network. After a pause (median 14 s)" in judged.reason
    assert "over 600 requests of 100 users" in judged.reason


def test_a_correction_that_comes_too_late_everywhere_is_not_worth_it(real: Report) -> None:
    report = _served(
        _with_gain(real, 0.01, 0.005, 0.015), at_once=(0, -0.001), after_pause=(0.0001, -0.001)
    )
    judged = verdict(report)
    assert judged.worth is False
    assert judged.title == "Not worth it on these networks: corrections come too late"


def test_an_interval_that_holds_0_is_no_verdict(real: Report) -> None:
    judged = verdict(_with_gain(real, 0.004, -0.001, 0.009))
    assert judged.worth is None
    assert judged.title == "Cannot be told from chance with 600 requests of 100 users"
    assert "+0.0040, 95% interval by user −0.0010 to +0.0090" in judged.reason


def test_a_correction_that_harms_or_changes_nothing_is_not_worth_it(
    real: Report, worse_report: Report
) -> None:
    assert verdict(worse_report).title == "Not worth it: it makes rankings worse"
    judged = verdict(_with_gain(real, 0, 0, 0))
    assert (judged.worth, judged.title) == (False, "Not worth it: it changes no ranking")


def test_too_few_users_are_no_verdict_however_clear_their_interval(real: Report) -> None:
    judged = verdict(_with_gain(real, 0.1, 0.05, 0.15, users=19))
    assert judged.worth is None
    assert "600 requests of 19 users are too few" in judged.reason


@pytest.mark.slow
def test_a_training_cut_by_a_limit_is_said_first_and_allows_no_verdict(real: Report) -> None:
    model = real.model.model_copy(update={"training_limit": "12 epochs"})
    report = _with_gain(real, 0.1, 0.05, 0.15).model_copy(update={"model": model})
    judged = verdict(report)
    assert judged.worth is None
    assert judged.title == "No verdict: the model was not trained to its end"
    assert "stopped at a limit (12 epochs)" in judged.reason
    assert "worth +" not in judged.title + judged.reason
    page = html(report)
    assert page.index("No verdict") < page.index("NDCG@10")


def test_a_verdict_on_a_doubtful_log_is_doubtful(real: Report) -> None:
    model = real.model.model_copy(update={"cautions": ("40% of rows repeat.",)})
    report = _with_gain(real, 0.1, 0.05, 0.15).model_copy(update={"model": model})
    assert verdict(report).reason.startswith("The log is doubtful, as said below, and so is this.")
    assert "doubtful" not in verdict(_with_gain(real, 0.1, 0.05, 0.15)).reason


def test_a_verdict_on_made_up_clicks_says_so() -> None:
    assert verdict(made_up_report(("4g-5",))).title.startswith("On made-up clicks: ")


def test_the_machine_itself_is_no_network_unless_it_stands_alone(real: Report) -> None:
    alone = made_up_report(("loopback",), synthetic=False)
    assert "wifi-home" in verdict(real).reason or "network" in verdict(real).reason
    gains = {"at_once": (0.01, 0.005), "after_pause": (0.01, 0.005)}
    assert verdict(_served(_with_gain(alone, 0.01, 0.005, 0.02), **gains)).worth is True
