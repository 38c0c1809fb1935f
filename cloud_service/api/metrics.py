"""What Prometheus reads at /metrics.

The buckets are fine enough to see a tolerance budget of 4.21 ms: it is an edge of its own.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

BUDGET_MS = 4.21
BUCKETS_MS = (
    0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, BUDGET_MS, 6, 8, 10, 15, 20, 30, 50,
    75, 100, 200, 500, 1000,
)  # fmt: skip
MEDIA_TYPE = CONTENT_TYPE_LATEST

_OTHER_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """Counts and times of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._corrections = Counter(
            "cloud_corrections_total",
            "Answers to requests for a correction: the form served, or the code of a problem.",
            ("outcome",),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "cloud_correction_seconds",
            "From the request's head to its answer; outcome as in cloud_corrections_total.",
            ("outcome",),
            buckets=[ms / 1000 for ms in BUCKETS_MS],
            registry=self.registry,
        )
        self._of: dict[str, tuple[Counter, Histogram]] = {}
        """Both by outcome: looking labels up costs more than counting."""
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
        """Counts the answer to a request for a correction: a form, or a problem's code."""
        found = self._of.get(outcome)
        if found is None:
            found = self._of[outcome] = (
                self._corrections.labels(outcome),
                self._seconds.labels(outcome),
            )
        found[0].inc()
        found[1].observe(seconds)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts any other request by its route's template, never by its path."""
        self._requests.labels(route, method, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def loaded(self, versions: int) -> None:
        """Says how many model versions are open."""
        self._loaded.set(versions)

    def page(self) -> bytes:
        """Everything, in Prometheus' text format (`MEDIA_TYPE`)."""
        return generate_latest(self.registry)
