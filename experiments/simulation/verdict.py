"""The verdict of a report: the correction is worth it, not worth it, or unknown.

It depends on one test: the same requests with and without the correction. The text then adds how
much of the gain each network delivered.
"""

from dataclasses import dataclass

from experiments.simulation.description import (
    percent_span,
    real_networks,
    relative,
    score,
    seconds,
    share_span,
    signed,
)
from experiments.simulation.report import CASES, Case, ProfileResult, Quality, Report

FEWEST_USERS = 20
"""Fewest users for a reliable interval."""


@dataclass(frozen=True)
class Verdict:
    """A short `title`, and a `reason` of some sentences. `worth` is None if it is unknown."""

    title: str
    reason: str
    worth: bool | None


def verdict(report: Report) -> Verdict:
    """Judges `report`."""
    model = report.model
    if model.training_limit:
        return Verdict(
            "No verdict: the model was not trained to its end",
            f"Training stopped at a limit ({model.training_limit}) while validation still "
            "improved: train longer first. An under-trained device makes any correction look "
            "good, so the gains below say little.",
            None,
        )
    if not report.quality:
        return Verdict(
            "No verdict: quality was not measured",
            "No request was ranked both with a correction and without.",
            None,
        )
    quality = report.quality[0]
    where = "On made-up clicks: " if model.synthetic else ""
    if quality.users < FEWEST_USERS:
        return _verdict(
            where,
            "cannot be told from chance",
            f"{quality.requests:,} requests of {quality.users:,} users are too few for a verdict, "
            f"which takes {FEWEST_USERS} users at least: raise --requests, or hold out more users.",
            None,
        )
    return _judged(report, quality, where)


def _judged(report: Report, quality: Quality, where: str) -> Verdict:
    gain, local = quality.gain_ndcg10, quality.local.ndcg10
    form = f"With corrections in the form {quality.form}, " if len(report.quality) > 1 else ""
    doubt = "The log is doubtful, as said below, and so is this. " if report.model.cautions else ""
    tested = (
        f"{doubt}{form}NDCG@10 is {score(quality.corrected.ndcg10)} with the correction and "
        f"{score(local)} without: {signed(gain.mean)}, 95% interval by user {signed(gain.low)} to "
        f"{signed(gain.high)}, over {quality.requests:,} requests of {quality.users:,} users."
    )
    if gain.mean == gain.low == gain.high == 0:
        return _verdict(where, "not worth it: it changes no ranking", tested, False)
    if gain.low <= 0 <= gain.high:
        return _verdict(
            where,
            f"cannot be told from chance with {quality.requests:,} requests of "
            f"{quality.users:,} users",
            tested + " An interval that holds 0 is no gain and no loss. More --requests, or more "
            "held-out users, would narrow it.",
            None,
        )
    if gain.high < 0:
        return _verdict(where, "not worth it: it makes rankings worse", tested, False)
    spans = {case: _span(report, case) for case in report.cases}
    sentences = [f"{span} for lists reranked {CASES[case]}" for case, span in spans.items()]
    worth = any(_gained(report, case) for case in report.cases)
    if not worth:
        title = "not worth it on these networks: corrections come too late"
    else:
        title = "worth in NDCG@10: " + ", ".join(reversed(sentences))
    reasons = [tested, *(_networks(report, case) for case in report.cases)]
    return _verdict(where, title, " ".join(reasons), worth)


def _verdict(where: str, title: str, reason: str, worth: bool | None) -> Verdict:
    full_title = where + title
    return Verdict(full_title[0].upper() + full_title[1:], reason, worth)


def _gained(report: Report, case: Case) -> list[ProfileResult]:
    """The networks over which the served rankings were significantly better than local ones."""
    return [result for result in real_networks(report) if result.cases[case].gain_ndcg10.low > 0]


def _span(report: Report, case: Case) -> str:
    """Range of the relative gain over local, of all networks: `+1.2%` or `0% to +8.4%`."""
    local = report.quality[0].local.ndcg10
    gains = []
    for result in real_networks(report):
        gain = result.cases[case].gain_ndcg10
        gains.append(gain.mean if gain.low > 0 or gain.high < 0 else 0.0)
    return percent_span([relative(gain, local) for gain in gains])


def _networks(report: Report, case: Case) -> str:
    """A sentence: the share of corrected reranks, and the networks without a gain."""
    networks, gained = real_networks(report), _gained(report, case)
    case_text = CASES[case].capitalize()
    if case == "after-pause" and report.pauses is not None:
        case_text += f" (median {seconds(report.pauses.drawn.p50)})"
    share = share_span([result.cases[case].corrected_share for result in networks])
    sentences = f"{case_text}, {share} of reranks were served corrected"
    other_names = [result.name for result in networks if result not in gained]
    if not gained:
        return f"{sentences}: no gain over any network."
    if other_names:
        return f"{sentences}: no gain over {', '.join(other_names)}."
    return f"{sentences}: a gain over every network."
