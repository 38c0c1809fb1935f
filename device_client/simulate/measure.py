"""Collects what each request took and came to, and sums it up for the report.

Percentiles and histograms are numpy over all values: exact, and a run has far fewer than a
million requests, so nothing needs an HdrHistogram.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

import numpy as np
from numpy.typing import NDArray

from device_client.simulate.network import NetworkProfile
from shared.outcomes import Outcome
from shared.report import (
    Arrivals,
    Histogram,
    Interval,
    Legs,
    Link,
    ProfileResult,
    Quality,
    Ranking,
    Summary,
    Traffic,
)
from shared.wire import Form

BUCKETS_PER_DECADE = 50
"""A bucket is 4.7% wide."""

SHORTEST_S = 1e-6
TOP = 10
NORMAL_95 = 1.96

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ranks:
    """Where the next click stood in the three rankings, 0 the first place.

    All `None` where it was not a candidate: the rankings order the same candidates.
    """

    corrected: int | None
    local: int | None
    served: int | None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One click and its rerank. Times are seconds, `None` where the request did not get so far.

    `total_s` is H to the whole correction on the device, late ones too: leave it `None` only
    where none came. `payload_*` and `sent_*` are bytes. `ranks` is `None` where the next click
    is not known, or no correction is at hand to rank with.
    """

    outcome: Outcome
    hidden_s: float | None = None
    upload_s: float | None = None
    cloud_s: float | None = None
    download_s: float | None = None
    total_s: float | None = None
    queue_s: float | None = None
    compute_s: float | None = None
    rerank_s: float | None = None
    local_s: float | None = None
    start_delay_s: float | None = None
    own_delay_s: float | None = None
    payload_up: int = 0
    payload_down: int = 0
    sent_up: int = 0
    sent_down: int = 0
    ranks: Ranks | None = None


class Recorder:
    """The measurements of one network profile. `add` is one list append, safe from any thread."""

    def __init__(self) -> None:
        self._measurements: list[Measurement] = []
        self.add = self._measurements.append

    def __len__(self) -> int:
        return len(self._measurements)

    def result(
        self,
        profile: NetworkProfile,
        form: Form,
        *,
        budget_s: float,
        intended_per_s: float,
        elapsed_s: float,
        cpu_s: float | None = None,
    ) -> ProfileResult:
        """Sums up the run over `profile`, which took `elapsed_s` and `cpu_s` of CPU time, with
        clicks meant to come at `intended_per_s`."""
        taken = tuple(self._measurements)
        totals = [each.total_s for each in taken]
        within = sum(total is not None and total <= budget_s for total in totals)
        return ProfileResult(
            name=profile.name,
            description=profile.description,
            form=form,
            link=_link(profile),
            requests=len(taken),
            outcomes={word: sum(each.outcome is word for each in taken) for word in Outcome},
            legs=_legs(taken),
            share_within_budget=within / max(len(taken), 1),
            latency=histogram(totals),
            quality=quality([each.ranks for each in taken if each.ranks is not None]),
            traffic=_traffic(taken),
            arrivals=Arrivals(
                intended_per_s=intended_per_s,
                achieved_per_s=len(taken) / elapsed_s,
                start_delay=summary(each.start_delay_s for each in taken),
                own_delay=summary(each.own_delay_s for each in taken),
                cpu_share=None if cpu_s is None else cpu_s / elapsed_s,
            ),
        )


def summary(seconds: Iterable[float | None]) -> Summary | None:
    """The distribution of `seconds`, in ms, those that are `None` left out; `None` of nothing.

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
    first = floor(log10(values.min()) * BUCKETS_PER_DECADE) - 1
    last = ceil(log10(values.max()) * BUCKETS_PER_DECADE) + 1
    edges = 10.0 ** (np.arange(first, last + 1) / BUCKETS_PER_DECADE)
    buckets = np.searchsorted(edges, values, side="left") - 1
    counts = np.bincount(buckets, minlength=len(edges) - 1)
    return Histogram(
        edges_ms=tuple(float(edge) for edge in edges),
        counts=tuple(int(count) for count in counts),
        unanswered=unanswered,
    )


def quality(ranks: Sequence[Ranks]) -> Quality | None:
    """NDCG@10 and HitRate@10 of the three rankings of the same requests; `None` of nothing."""
    if not ranks:
        return None
    corrected = _scores([each.corrected for each in ranks])
    local = _scores([each.local for each in ranks])
    served = _scores([each.served for each in ranks])
    return Quality(
        requests=len(ranks),
        recall=sum(each.local is not None for each in ranks) / len(ranks),
        corrected=_ranking(*corrected),
        local=_ranking(*local),
        served=_ranking(*served),
        gain_ndcg10=_interval(corrected[0] - local[0]),
        gain_hitrate10=_interval(corrected[1] - local[1]),
    )


def _scores(ranks: Sequence[int | None]) -> tuple[Floats, Floats]:
    """(n,) NDCG@10 and (n,) HitRate@10 of each request; no candidate counts 0."""
    places = np.array([np.inf if rank is None else rank for rank in ranks])
    hits = places < TOP
    gains = np.where(hits, 1 / np.log2(np.where(hits, places, 0) + 2), 0.0)
    return gains, hits.astype(np.float64)


def _ranking(ndcg: Floats, hits: Floats) -> Ranking:
    return Ranking(ndcg10=float(ndcg.mean()), hitrate10=float(hits.mean()))


def _interval(differences: Floats) -> Interval:
    """Mean of (n,) paired differences and its 95% interval, by the normal approximation."""
    mean = float(differences.mean())
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    half = NORMAL_95 * spread / len(differences) ** 0.5
    return Interval(mean=mean, low=mean - half, high=mean + half)


def _legs(taken: Sequence[Measurement]) -> Legs:
    return Legs(
        upload=summary(each.upload_s for each in taken),
        cloud=summary(each.cloud_s for each in taken),
        download=summary(each.download_s for each in taken),
        total=summary(each.total_s for each in taken),
        queue=summary(each.queue_s for each in taken),
        compute=summary(each.compute_s for each in taken),
        hidden=summary(each.hidden_s for each in taken),
        rerank=summary(each.rerank_s for each in taken),
        local=summary(each.local_s for each in taken),
    )


def _traffic(taken: Sequence[Measurement]) -> Traffic:
    count = max(len(taken), 1)
    return Traffic(
        payload_up=sum(each.payload_up for each in taken) / count,
        payload_down=sum(each.payload_down for each in taken) / count,
        sent_up=sum(each.sent_up for each in taken) / count,
        sent_down=sum(each.sent_down for each in taken) / count,
    )


def _link(profile: NetworkProfile) -> Link:
    return Link(
        up_bytes_per_s=profile.up_bytes_per_s,
        down_bytes_per_s=profile.down_bytes_per_s,
        rtt_ms=profile.rtt_s * 1e3,
        jitter_ms=profile.jitter_s * 1e3,
        loss=profile.loss,
    )
