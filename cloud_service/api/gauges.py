"""Prometheus metrics of the store, the jobs and the worker."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cloud_service.services.heartbeat import Heartbeat
from cloud_service.services.job import JobState
from cloud_service.services.models import ModelRegistry

CACHE_SECONDS: Final = 5.0
"""Counts of jobs are read again from the database when they are older."""
WAIT_SECONDS: Final = 0.5
"""Longest time that a scrape waits for the database; then it gets the previous counts."""


class JobCounts:
    """Number of jobs by state. A thread reads the database, so that a scrape never waits long."""

    def __init__(self, count: Callable[[], Counter[JobState]]) -> None:
        self._count = count
        self._counts: Counter[JobState] = Counter()
        self._read = 0.0
        self._reading: threading.Thread | None = None
        self._lock = threading.Lock()

    def read(self) -> tuple[Counter[JobState], float | None]:
        """Returns the counts and their age in seconds, or None as age if they were never read."""
        with self._lock:
            stale = time.monotonic() - self._read > CACHE_SECONDS or not self._read
            if stale and (self._reading is None or not self._reading.is_alive()):
                self._reading = threading.Thread(target=self._refresh, daemon=True)
                self._reading.start()
            reading = self._reading if stale else None
        if reading is not None:
            reading.join(WAIT_SECONDS)
        return self._counts, time.monotonic() - self._read if self._read else None

    def _refresh(self) -> None:
        try:
            counts = self._count()
        except Exception:  # `Jobs` has logged the reason; the counts stay as they are
            return
        self._counts, self._read = counts, time.monotonic()


class StoreGauges(Collector):
    """Jobs by state, the heartbeat of the worker, and the version of each alias."""

    def __init__(self, models: ModelRegistry, jobs: JobCounts, heartbeat: Heartbeat) -> None:
        self._models, self._jobs, self._heartbeat = models, jobs, heartbeat

    def collect(self) -> Iterator[Metric]:
        """Prometheus: yields the metrics."""
        counts, age = self._jobs.read()
        if age is not None:
            jobs = GaugeMetricFamily("cloud_jobs", "Training jobs by state.", labels=("state",))
            states: tuple[JobState, ...] = ("queued", "running", "succeeded", "failed", "cancelled")
            for state in states:
                jobs.add_metric((state,), counts[state])
            yield jobs
            yield GaugeMetricFamily(
                "cloud_jobs_age_seconds", "Since the jobs were counted.", value=age
            )
        worker = self._heartbeat.state()
        yield GaugeMetricFamily(
            "cloud_worker_alive", "1 where a worker gave a sign of life.", value=int(worker.alive)
        )
        if worker.seconds_ago is not None:
            yield GaugeMetricFamily(
                "cloud_worker_heartbeat_age_seconds",
                "Since the worker's last sign of life.",
                value=worker.seconds_ago,
            )
        info = GaugeMetricFamily(
            "cloud_model_info",
            "1 for the version that an alias names.",
            labels=("version", "alias", "data"),
        )
        for model in self._models.list():
            for alias in model.aliases:
                info.add_metric((model.version, alias, model.data), 1)
        yield info
