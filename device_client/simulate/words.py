"""What a report says in words and cells: the same for the page and for the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.report import Interval, ProfileResult, Quality, Report, Summary


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


@dataclass(frozen=True)
class LegRow:
    """One network of Table 5: ours and the paper's, `None` where there is none. Medians, in ms."""

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
    """A time in ms to three figures or 1 ns, whichever is coarser; a dash for none."""
    if value is None:
        return "–"
    for digits, limit in ((0, 99.95), (1, 9.995), (2, 0.0995)):
        if value >= limit:
            return f"{value:,.{digits}f}"
    return f"{value:.3f}"


def percent(share: float) -> str:
    """A share as a percentage that is 0% or 100% only when it is."""
    value = 100 * share
    if 0 < value < 0.1:
        return "<0.1%"
    if 99.9 < value < 100:
        return ">99.9%"
    return f"{value:.0f}%" if value in (0, 100) else f"{value:.1f}%"


def score(value: float) -> str:
    """NDCG or HitRate."""
    return f"{value:.4f}"


def signed(value: float) -> str:
    """A difference of scores, with its sign."""
    return f"{value:+.4f}".replace("-", "−")


def interval(found: Interval) -> str:
    """A gain with its 95% interval."""
    return f"{signed(found.mean)} ({signed(found.low)} to {signed(found.high)})"


def headline(report: Report) -> str:
    """What the correction was worth and what it cost, in sentences made from the numbers."""
    # One machine is no network: it speaks for the report only where it stands alone.
    results = [each for each in report.profiles if each.name != "loopback"] or report.profiles
    measured = next((each for each in results if each.quality), None)
    if measured is None or measured.quality is None:
        said = ["What the correction was worth was not measured."]
    else:
        served = score(measured.quality.served.ndcg10)
        said = [_worth(measured.quality), f"Over {report.label(measured)}, {served} was served."]
    said.append(_cost(report, results))
    return " ".join(said)


def _worth(quality: Quality) -> str:
    corrected, local = quality.corrected.ndcg10, quality.local.ndcg10
    relative = f", {100 * (corrected / local - 1):+.1f}%".replace("-", "−") if local else ""
    values = (
        f"With the correction NDCG@10 is {score(corrected)}, without it {score(local)} "
        f"({signed(corrected - local)}{relative})"
    )
    gain = quality.gain_ndcg10
    if gain.low > 0:
        verdict = "the correction made the ranking better"
    elif gain.high < 0:
        verdict = "the correction made the ranking worse"
    elif gain.mean == gain.low == gain.high == 0:
        verdict = "the correction changed nothing"
    else:
        verdict = "no gain or loss can be told from chance"
    bounds = f"{signed(gain.low)} to {signed(gain.high)}"
    return f"{values}: {verdict} (95% interval {bounds}, {quality.requests:,} requests)."


def _cost(report: Report, results: Sequence[ProfileResult]) -> str:
    best = max(results, key=lambda each: each.share_within_budget)
    slowest = max(results, key=lambda each: _median(each.legs.total) or 0.0)
    within, budget = percent(best.share_within_budget), ms(report.settings.budget_ms)
    said = f"Over {report.label(best)}, {within} of corrections came within {budget} ms"
    if slowest.share_within_budget < best.share_within_budget:
        share = percent(slowest.share_within_budget)
        said += f"; over {report.label(slowest)}, the slowest here, {share}"
    traffic = best.traffic
    return (
        f"{said}. A rerank cost {traffic.sent_up:,.0f} bytes up and {traffic.sent_down:,.0f} "
        "bytes down, headers included."
    )


def cautions(report: Report) -> list[str]:
    """What a reader must know before believing the numbers; empty when there is nothing."""
    budget = report.settings.budget_ms
    limits = {report.label(each): each.arrivals.limit(budget) for each in report.profiles}
    slow = [name for name, limit in limits.items() if limit == "simulator"]
    few = [name for name, limit in limits.items() if limit == "devices"]
    found = []
    if slow:
        found.append(
            f"The simulator itself, or its machine, could not keep up over {', '.join(slow)}: the "
            "times there are partly its own, and say little of the cloud. Ask for a lower rate."
        )
    if few:
        found.append(
            f"Over {', '.join(few)} clicks began late because their devices still waited for the "
            "correction of the click before: there are too few devices for this rate."
        )
    partial = [
        report.label(each)
        for each in report.profiles
        if each.quality is not None and each.quality.requests < each.requests
    ]
    if partial:
        found.append(
            f"Over {', '.join(partial)} the quality is that of fewer requests than were made: "
            "those whose next click and corrected ranking are known."
        )
    return found


def bandwidth(rate: float | None) -> str:
    """A rate in MB/s, 1 MB = 10^6 bytes."""
    return "unlimited" if rate is None else f"{rate / 1e6:g} MB/s"
