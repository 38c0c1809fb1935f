"""Collects the times and outcome of each request and summarises them for the report.

Percentiles and histograms are exact: numpy computes them over all values, of which a run has far
fewer than a million.
"""

from collections.abc import Iterable, Sequence
from math import ceil, floor, log10
from typing import NamedTuple

import numpy as np

from experiments.simulation.measured import Arrivals, Histogram, Legs, Summary, Traffic
from experiments.simulation.network import NetworkProfile
from experiments.simulation.quality import Rank, interval, ranking, scores
from experiments.simulation.report import CASES, Case, Link, ProfileResult, Served
from shared.outcomes import Outcome
from shared.wire import Form

BUCKETS_PER_DECADE = 50
"""Buckets per factor of 10 in time: each is 4.7% wide."""

SHORTEST_S = 1e-6
CLOCK_S = 1e-6
"""Tolerated excess of the cloud's time over the device's, due to rounding to 0.5 us."""


class Rerank(NamedTuple):
    """One rerank: its outcome, the duration of the call, and the rank of the next click."""

    outcome: Outcome
    seconds: float
    rank: Rank


class Measurement(NamedTuple):
    """One click and its reranks. Times are in seconds, `None` if the request did not get that far.

    `local` is the next click's rank without a correction. `total_s` is from H to the whole
    correction on the device, even a late one; `None` if none came. `payload_*` and `sent_*` are
    bytes.
    """

    user: int
    local: Rank
    at_once: Rerank | None = None
    after_pause: Rerank | None = None
    pause_s: float | None = None
    hidden_s: float | None = None
    upload_s: float | None = None
    cloud_s: float | None = None
    download_s: float | None = None
    total_s: float | None = None
    queue_s: float | None = None
    compute_s: float | None = None
    local_s: float | None = None
    start_delay_s: float | None = None
    own_delay_s: float | None = None
    payload_up: int = 0
    payload_down: int = 0
    sent_up: int = 0
    sent_down: int = 0

    @property
    def unsplit(self) -> bool:
        """True if the legs contradict the time that the cloud reports for its own work.

        A thread without a processor reads its clock late. If that happens at the end of the
        upload, the upload includes time of the cloud.
        """
        if self.cloud_s is None:
            return False
        return self.cloud_s + CLOCK_S < (self.queue_s or 0.0) + (self.compute_s or 0.0)


class RunMeasurements(NamedTuple):
    """The measurements of one simulation over one network, with corrections in one form."""

    form: Form
    intended_per_s: float
    achieved_per_s: float
    cpu_share: float | None
    measurements: list[Measurement]


def summarise(
    profile: NetworkProfile, runs: Sequence[RunMeasurements], budget_s: float
) -> ProfileResult:
    """Summarises simultaneous runs over `profile`, all with corrections in one form.

    Percentiles are computed over all measurements together. Raises ValueError if there are none.
    """
    measurements = [measured for run in runs for measured in run.measurements]
    if not measurements:
        raise ValueError(f"nothing was measured over {profile.name}: there were no requests")
    totals = [measured.total_s for measured in measurements]
    within = sum(total is not None and total <= budget_s for total in totals)
    return ProfileResult(
        name=profile.name,
        description=profile.description,
        form=runs[0].form,
        link=_link(profile),
        requests=len(measurements),
        cases=_cases(measurements),
        legs=_legs(measurements),
        unsplit=sum(measured.unsplit for measured in measurements),
        share_within_budget=within / len(measurements),
        latency=histogram(totals),
        traffic=_traffic(measurements),
        arrivals=Arrivals(
            intended_per_s=sum(run.intended_per_s for run in runs),
            achieved_per_s=sum(run.achieved_per_s for run in runs),
            start_delay=summary(measured.start_delay_s for measured in measurements),
            own_delay=summary(measured.own_delay_s for measured in measurements),
            cpu_share=max(
                (run.cpu_share for run in runs if run.cpu_share is not None), default=None
            ),
        ),
    )


def _cases(measurements: Sequence[Measurement]) -> dict[Case, Served]:
    reranks: dict[Case, list[Rerank | None]] = {
        "at-once": [measured.at_once for measured in measurements],
        "after-pause": [measured.after_pause for measured in measurements],
    }
    users = [measured.user for measured in measurements]
    local, _ = scores([measured.local for measured in measurements])
    cases: dict[Case, Served] = {}
    for case in CASES:
        completed = [rerank for rerank in reranks[case] if rerank is not None]
        if not completed:
            continue
        ndcg, hits = scores([rerank.rank for rerank in completed])
        cases[case] = Served(
            outcomes={
                outcome: sum(rerank.outcome is outcome for rerank in completed)
                for outcome in Outcome
            },
            ranking=ranking(ndcg, hits),
            gain_ndcg10=interval(ndcg - local, users),
            rerank=summary(rerank.seconds for rerank in completed),
        )
    return cases


def summary(seconds: Iterable[float | None]) -> Summary | None:
    """Summarises `seconds` in ms, without those that are `None`; `None` if there are none.

    A percentile is the smallest value that this share of the values does not exceed.
    """
    values = np.array([value for value in seconds if value is not None]) * 1e3
    if not values.size:
        return None
    levels = np.quantile(values, [0.5, 0.9, 0.99, 0.999, 1], method="inverted_cdf")
    p50, p90, p99, p999, largest = (float(level) for level in levels)
    return Summary(
        count=values.size,
        mean=float(values.mean()),
        p50=p50,
        p90=p90,
        p99=p99,
        p999=p999,
        max=largest,
    )


def histogram(seconds: Sequence[float | None]) -> Histogram:
    """Log-spaced buckets over all of `seconds`; `None` counts as unanswered."""
    answered = [max(value, SHORTEST_S) for value in seconds if value is not None]
    unanswered = len(seconds) - len(answered)
    if not answered:
        return Histogram(unanswered=unanswered)
    values = np.array(answered) * 1e3
    # A bucket more at each end: rounding must not push a value out.
    first_bucket = floor(log10(values.min()) * BUCKETS_PER_DECADE) - 1
    last_bucket = ceil(log10(values.max()) * BUCKETS_PER_DECADE) + 1
    edges = 10.0 ** (np.arange(first_bucket, last_bucket + 1) / BUCKETS_PER_DECADE)
    buckets = np.searchsorted(edges, values, side="left") - 1
    counts = np.bincount(buckets, minlength=len(edges) - 1)
    return Histogram(
        edges_ms=tuple(float(edge) for edge in edges),
        counts=tuple(int(count) for count in counts),
        unanswered=unanswered,
    )


def _legs(measurements: Sequence[Measurement]) -> Legs:
    split = [measured for measured in measurements if not measured.unsplit]
    return Legs(
        upload=summary(measured.upload_s for measured in split),
        cloud=summary(measured.cloud_s for measured in split),
        download=summary(measured.download_s for measured in split),
        queue=summary(measured.queue_s for measured in split),
        compute=summary(measured.compute_s for measured in split),
        total=summary(measured.total_s for measured in measurements),
        hidden=summary(measured.hidden_s for measured in measurements),
        local=summary(measured.local_s for measured in measurements),
    )


def _traffic(measurements: Sequence[Measurement]) -> Traffic:
    count = len(measurements)
    return Traffic(
        payload_up=sum(measured.payload_up for measured in measurements) / count,
        payload_down=sum(measured.payload_down for measured in measurements) / count,
        sent_up=sum(measured.sent_up for measured in measurements) / count,
        sent_down=sum(measured.sent_down for measured in measurements) / count,
    )


def _link(profile: NetworkProfile) -> Link:
    return Link(
        up_bytes_per_s=profile.up_bytes_per_s,
        down_bytes_per_s=profile.down_bytes_per_s,
        rtt_ms=profile.rtt_s * 1e3,
        jitter_ms=profile.jitter_s * 1e3,
        loss=profile.loss,
    )
