"""Prometheus metrics of this process, for /metrics.

The tolerance budget of 4.21 ms is the edge of a bucket.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

BUDGET_MS = 4.21
BUCKETS_MS = (
    0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, BUDGET_MS, 6, 8, 10, 15, 20, 30, 50,
    75, 100, 200, 500, 1000,
)  # fmt: skip
BUCKETS_S: Final = tuple(ms / 1000 for ms in BUCKETS_MS)
MEDIA_TYPE = CONTENT_TYPE_LATEST

_OTHER_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class _Tally:
    """A histogram of the times of all corrections with one outcome."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.seconds = 0.0


class _Corrections(Collector):
    """Counter and histogram of corrections, updated by one thread only.

    The classes of prometheus_client take locks and search the buckets one by one, which costs 3 µs
    per correction.
    """

    def __init__(self) -> None:
        self.of: dict[str, _Tally] = {}

    def collect(self) -> Iterator[Metric]:
        """Prometheus: yields the metrics."""
        total = CounterMetricFamily(
            "cloud_corrections",
            "Answers to requests for a correction: the form served, or the code of a problem.",
            labels=("outcome",),
        )
        seconds = HistogramMetricFamily(
            "cloud_correction_seconds",
            "From the request's head to its answer; outcome as in cloud_corrections_total.",
            labels=("outcome",),
        )
        edges = [*map(str, BUCKETS_S), "+Inf"]
        for outcome, tally in list(self.of.items()):
            below = list(accumulate(tally.counts))
            total.add_metric((outcome,), below[-1])
            buckets = [(edge, float(count)) for edge, count in zip(edges, below, strict=True)]
            seconds.add_metric((outcome,), buckets, tally.seconds)
        yield total
        yield seconds


class Metrics:
    """Counts and times of one process, in a separate registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._corrections = _Corrections()
        self.registry.register(self._corrections)
        self._requests = Counter(
            "cloud_requests_total",
            "Answers to every other request.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "cloud_request_seconds",
            "Time to the end of every other answer.",
            ("route",),
            buckets=_OTHER_BUCKETS,
            registry=self.registry,
        )
        self._loaded = Gauge(
            "cloud_loaded_versions",
            "Model versions that are open and answer corrections.",
            registry=self.registry,
        )

    def correction(self, outcome: str, seconds: float) -> None:
        """Counts one correction request. `outcome` is the form sent, or the code of a problem."""
        tally = self._corrections.of.get(outcome)
        if tally is None:
            tally = self._corrections.of[outcome] = _Tally()
        tally.counts[bisect_left(BUCKETS_S, seconds)] += 1
        tally.seconds += seconds

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts any other request by the template of its route, not by its path."""
        self._requests.labels(route, method, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def loaded(self, versions: int) -> None:
        """Sets the number of open model versions."""
        self._loaded.set(versions)

    def page(self) -> bytes:
        """Returns all metrics in the text format of Prometheus (`MEDIA_TYPE`)."""
        return generate_latest(self.registry)
