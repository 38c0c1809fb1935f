"""Describes a report in sentences and formatted numbers, for the page and the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.simulation.measured import Interval, Limit, Summary
from experiments.simulation.report import CASES, ProfileResult, Report
from shared.outcomes import Outcome


@dataclass(frozen=True)
class PaperLegs:
    """One column of CoCorrRec's Table 5, in ms: computed from bandwidth, for Beauty."""

    upload: float
    cloud: float
    download: float
    total: float


PAPER_LEGS = {
    "4g-5": PaperLegs(0.51, 1.18, 0.83, 2.52),
    "4g-15": PaperLegs(0.17, 1.18, 0.28, 1.63),
    "5g-50": PaperLegs(0.051, 1.18, 0.083, 1.32),
    "5g-100": PaperLegs(0.026, 1.18, 0.042, 1.25),
}
PAPER_BUDGET_MS = 4.21

MANY_UNSPLIT = 0.01
"""Share of requests without legs from which a caution is shown."""


@dataclass(frozen=True)
class LegRow:
    """One network of Table 5: our medians and the paper's, in ms; `None` if missing."""

    profile: str
    ours: tuple[float | None, float | None, float | None, float | None]
    paper: tuple[float | None, float | None, float | None, float | None]
    within: float


def leg_rows(report: Report) -> list[LegRow]:
    """Upload, correction time, download and the whole, for every network of the report."""
    rows = []
    for result in report.profiles:
        legs, paper = result.legs, PAPER_LEGS.get(result.name)
        rows.append(
            LegRow(
                profile=report.label(result),
                ours=(
                    _median(legs.upload),
                    _median(legs.cloud),
                    _median(legs.download),
                    _median(legs.total),
                ),
                paper=(paper.upload, paper.cloud, paper.download, paper.total)
                if paper
                else (None, None, None, None),
                within=result.share_within_budget,
            )
        )
    return rows


def _median(summary: Summary | None) -> float | None:
    return None if summary is None else summary.p50


def ms(value: float | None) -> str:
    """Formats a time in ms: three significant figures, at most to 1 ns; a dash for None."""
    if value is None:
        return "–"
    for digits, limit in ((0, 99.95), (1, 9.995), (2, 0.0995)):
        if value >= limit:
            return f"{value:,.{digits}f}"
    return f"{value:.3f}"


def percent(share: float) -> str:
    """A share as a percentage; shown as 0% or 100% only if exact."""
    value = 100 * share
    if 0 < value < 0.1:
        return "<0.1%"
    if 99.9 < value < 100:
        return ">99.9%"
    return f"{value:.0f}%" if value in (0, 100) else f"{value:.1f}%"


def score(value: float) -> str:
    """Formats NDCG or HitRate."""
    return f"{value:.4f}"


def signed(value: float) -> str:
    """Formats a difference of scores with its sign."""
    return f"{value:+.4f}".replace("-", "−")


def bounds(gain: Interval) -> str:
    """Formats the 95% interval of a gain."""
    return f"{signed(gain.low)} to {signed(gain.high)}"


def interval(gain: Interval) -> str:
    """Formats a gain with its 95% interval."""
    return f"{signed(gain.mean)} ({bounds(gain)})"


def occurred(report: Report) -> list[Outcome]:
    """The outcomes that occurred in any case over any network."""
    every = [served for result in report.profiles for served in result.cases.values()]
    return [outcome for outcome in Outcome if any(served.outcomes[outcome] for served in every)]


def relative(difference: float, base: float) -> float:
    """`difference` / `base`; 0 if `base` is 0."""
    return difference / base if base else 0.0


def signed_percent(share: float) -> str:
    """Formats a relative difference with its sign; 0% has none."""
    return "0%" if share == 0 else f"{100 * share:+.1f}%".replace("-", "−")


def percent_span(shares: Sequence[float]) -> str:
    """The smallest and largest relative difference, or one if they are equal."""
    low, high = signed_percent(min(shares)), signed_percent(max(shares))
    return low if low == high else f"{low} to {high}"


def seconds(value_ms: float) -> str:
    """Formats a time in ms in a suitable unit."""
    return f"{value_ms / 1e3:,.3g} s" if value_ms >= 1000 else f"{ms(value_ms)} ms"


def headline(report: Report) -> str:
    """Sentences on the share of corrected reranks, the share of corrections within the budget,
    and the bytes of one correction."""
    results = real_networks(report)
    sentences = []
    for case in report.cases:
        shares = [result.cases[case].corrected_share for result in results]
        sentences.append(f"{share_span(shares)} {CASES[case]}")
    within = share_span([result.share_within_budget for result in results])
    budget = ms(report.settings.budget_ms)
    traffic = results[0].traffic
    names = results[0].name if len(results) == 1 else f"{len(results)} networks"
    return (
        f"Over {names}, so many reranks were served corrected: {', '.join(sentences)}. {within} of "
        f"corrections came within {budget} ms of H, the budget of a rerank at once. One cost "
        f"{traffic.sent_up:,.0f} bytes up and {traffic.sent_down:,.0f} bytes down with "
        "headers."
    )


def share_span(shares: Sequence[float]) -> str:
    """The smallest and largest share, or one if they are equal."""
    low, high = percent(min(shares)), percent(max(shares))
    return low if low == high else f"{low} to {high}"


def real_networks(report: Report) -> list[ProfileResult]:
    """The results that sentences describe: those of the first form, without `loopback` unless
    it is the only network."""
    first_form_results = [result for result in report.profiles if result.form == report.forms[0]]
    return [
        result for result in first_form_results if result.name != "loopback"
    ] or first_form_results


_LIMITS: dict[Limit, str] = {
    "simulator": "The simulator had no processor time to spare over {}: its times are partly its "
    "own, and say little of the cloud. Ask for a lower --rate.",
    "machine": "The machine was busy with other things over {}: 1 click in 10 or more began over "
    "{} ms late though the simulator itself had time to spare. Times there, and what "
    "was in time, are partly the machine's.",
    "devices": "Over {} clicks began late because their devices still waited for the click "
    "before: there are too few --devices for this rate.",
}


def cautions(report: Report) -> list[str]:
    """Sentences on why the numbers may be unreliable; empty if there is no reason."""
    budget, settings = report.settings.budget_ms, report.settings
    sentences = [f"The log is doubtful: {text}" for text in report.model.cautions]
    if settings.missing:
        sentences.append(
            f"{settings.missing} of {settings.missing + settings.simulations} simulations that "
            "share this report had not ended when it was written: look again when they have."
        )
    limits = {report.label(result): result.arrivals.limit(budget) for result in report.profiles}
    for limit, text in _LIMITS.items():
        if held_up := [name for name, held in limits.items() if held == limit]:
            sentences.append(text.format("; ".join(held_up), ms(budget)))
    unsplit = [
        result for result in report.profiles if result.unsplit > MANY_UNSPLIT * result.requests
    ]
    if unsplit:
        names = "; ".join(
            f"{report.label(result)} ({percent(result.unsplit / result.requests)})"
            for result in unsplit
        )
        sentences.append(
            f"Some corrections could not be split into their legs, over {names}: the machine was "
            "too busy to read the device's clock in time. Their totals count, their legs do not."
        )
    return sentences


def bandwidth(rate: float | None) -> str:
    """A rate in MB/s, 1 MB = 10^6 bytes."""
    return "unlimited" if rate is None else f"{rate / 1e6:g} MB/s"
