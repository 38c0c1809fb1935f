"""The statistics of a report: distributions, legs, traffic, arrivals. Times are in ms."""

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

WHOLE_CORE: Final = 0.9
"""From this share of a core on, a Python process counts as saturated."""

IN_TIME: Final = 0.95
"""From this share of the intended rate on, the simulator kept up."""

Limit = Literal["simulator", "machine", "devices"]
Share = Annotated[float, Field(ge=0, le=1)]
Milliseconds = Annotated[float, Field(ge=0)]


class Value(BaseModel):
    """Base class of all parts of a report: immutable, no unknown fields, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Summary(Value):
    """A distribution of times in ms. Percentiles are observed times (nearest rank)."""

    count: int = Field(ge=1)
    mean: Milliseconds
    p50: Milliseconds
    p90: Milliseconds
    p99: Milliseconds
    p999: Milliseconds
    max: Milliseconds

    @model_validator(mode="after")
    def _percentiles_rise(self) -> Self:
        rising = [self.p50, self.p90, self.p99, self.p999, self.max]
        if rising != sorted(rising):
            raise ValueError("percentiles must not fall")
        return self


class Legs(Value):
    """Times of the parts of a correction; `None` if no request got that far.

    Attributes:
        upload: first to last byte of the request.
        cloud: last byte sent to first byte received. This is the paper's correction time as a
            device sees it, with round trip, HTTP and queue.
        download: first to last byte of the response.
        queue, compute: parts of `cloud`, from the response's Server-Timing.
        total: from H to the decoded correction, of all answered requests.
        hidden: from the click to H.
        local: a ranking without a correction.

    The first five cover the same requests: those whose `cloud` is at least `queue` + `compute`.
    """

    upload: Summary | None = None
    cloud: Summary | None = None
    download: Summary | None = None
    total: Summary | None = None
    queue: Summary | None = None
    compute: Summary | None = None
    hidden: Summary | None = None
    local: Summary | None = None


class Histogram(Value):
    """Times of `total` in log-spaced buckets: `counts[i]` are in (`edges_ms[i]`, `edges_ms[i+1]`].

    `unanswered` requests got no correction and count as slower than every edge.
    """

    edges_ms: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    unanswered: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.edges_ms) != (len(self.counts) + 1 if self.counts else 0):
            raise ValueError("n counts need n + 1 edges")
        if any(low >= high for low, high in zip(self.edges_ms, self.edges_ms[1:], strict=False)):
            raise ValueError("edges must rise")
        if min((*self.counts, 0)) < 0:
            raise ValueError("counts must not be negative")
        return self

    @property
    def requests(self) -> int:
        """Number of requests, with the unanswered."""
        return sum(self.counts) + self.unanswered

    def slower(self) -> list[tuple[float, float]]:
        """(ms, share of requests that took longer) at every edge, exact. Empty without edges."""
        slower_count = self.requests
        points = []
        for edge, count in zip(self.edges_ms, (*self.counts, 0), strict=False):
            points.append((edge, slower_count / self.requests))
            slower_count -= count
        return points


class Ranking(Value):
    """Mean NDCG@10 and HitRate@10 of the next click, one relevant item per request."""

    ndcg10: Share
    hitrate10: Share


class Interval(Value):
    """A mean and its 95% interval. All requests of one user count as one observation."""

    mean: float
    low: float
    high: float


class Traffic(Value):
    """Mean bytes per rerank. `payload_*`: H and correction alone; `sent_*`: with HTTP headers and
    requests that failed."""

    payload_up: float = Field(ge=0)
    payload_down: float = Field(ge=0)
    sent_up: float = Field(ge=0)
    sent_down: float = Field(ge=0)


class Arrivals(Value):
    """Whether the simulator kept up with the intended clicks.

    Attributes:
        start_delay: how late the open-loop clicks began.
        own_delay: `start_delay` minus the pauses and waits (each a budget at most) of the device's
            earlier clicks: what neither users nor corrections explain.
        cpu_share: CPU time of the simulator divided by the duration of the run; of the busiest
            simulator if several share a report. 1 is a whole core, the maximum of one interpreter.
    """

    intended_per_s: float = Field(gt=0, description="of the moments that were drawn")
    achieved_per_s: float = Field(ge=0, description="until the last click began")
    start_delay: Summary | None = None
    own_delay: Summary | None = None
    cpu_share: float | None = Field(default=None, ge=0)

    def limit(self, budget_ms: float) -> Limit | None:
        """Returns what made clicks late; `None` if the simulator kept up.

        It kept up if it had CPU to spare, reached the rate, and began 9 of 10 clicks within a
        budget of their due time: a thread that wakes late now and then is no limit.

        `simulator`: it used nine tenths of a core, so it cannot play this rate.
        `machine`: it had CPU to spare, but its own delay exceeded a budget for 1 click in 10:
        other programs had the cores.
        `devices`: devices were still waiting for a correction or a user: there are too few.
        """
        if self.cpu_share is not None and self.cpu_share >= WHOLE_CORE:
            return "simulator"
        if _late(self.own_delay, budget_ms):
            return "machine"
        slow = self.achieved_per_s < IN_TIME * self.intended_per_s
        return "devices" if slow or _late(self.start_delay, budget_ms) else None


def _late(delay: Summary | None, budget_ms: float) -> bool:
    return delay is not None and delay.p90 > budget_ms
