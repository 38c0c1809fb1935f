"""What can be measured of many requests, as a report holds it. Times are in ms."""

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

WHOLE_CORE: Final = 0.9
"""Share of a core from which on one interpreter has nothing to spare."""

IN_TIME: Final = 0.95
"""Share of the intended rate from which on a run counts as one that kept up."""

Limit = Literal["simulator", "machine", "devices"]
Share = Annotated[float, Field(ge=0, le=1)]
Milliseconds = Annotated[float, Field(ge=0)]


class Value(BaseModel):
    """Base of all values in a report: nothing unknown, infinite or changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Summary(Value):
    """A distribution of times in ms. A percentile is a time that did occur (nearest rank)."""

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
    """Where the time goes; `None` where no request got that far.

    `upload`: first byte of the request to its last; `cloud`: last byte sent to first byte
    received, the paper's correction time as a device sees it, so round trip, HTTP and queue
    included; `download`: first byte received to last; `queue`, `compute`: from the cloud's
    Server-Timing, both within `cloud`. These five are of the same requests: those whose `cloud` is
    at least `queue` and `compute` together. `total`: H to the correction at hand, of all answered
    requests; `hidden`: click to H; `local`: ranking without waiting.
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

    `unanswered` requests got no correction at all: their time is beyond every edge.
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
        """All requests, answered or not."""
        return sum(self.counts) + self.unanswered

    def slower(self) -> list[tuple[float, float]]:
        """(ms, share of requests that took longer) at every edge: exact there. Empty: none."""
        slower_count = self.requests
        points = []
        for edge, count in zip(self.edges_ms, (*self.counts, 0), strict=False):
            points.append((edge, slower_count / self.requests))
            slower_count -= count
        return points


class Ranking(Value):
    """How well a ranking put the next click. One relevant item a request."""

    ndcg10: Share
    hitrate10: Share


class Interval(Value):
    """A mean and its 95% interval. Requests of one user count as one observation of it."""

    mean: float
    low: float
    high: float


class Traffic(Value):
    """Mean bytes per rerank: the payload alone, and as sent with HTTP headers and requests that
    came to nothing."""

    payload_up: float = Field(ge=0)
    payload_down: float = Field(ge=0)
    sent_up: float = Field(ge=0)
    sent_down: float = Field(ge=0)


class Arrivals(Value):
    """Whether the simulator kept up, and if not, what held it up.

    `start_delay`: how late open-loop clicks began. `own_delay`: the part of it that neither the
    user nor the wait for a correction explains: where a device was still at earlier clicks, their
    pauses and waits (each a budget at most) are taken off. `cpu_share`: CPU time of the simulator
    by time of the run, of the busiest where several share a report; 1 is a whole core, which is
    all that one interpreter has.
    """

    intended_per_s: float = Field(gt=0, description="of the moments that were drawn")
    achieved_per_s: float = Field(ge=0, description="until the last click began")
    start_delay: Summary | None = None
    own_delay: Summary | None = None
    cpu_share: float | None = Field(default=None, ge=0)

    def limit(self, budget_ms: float) -> Limit | None:
        """What kept clicks from beginning when they were due; `None` where nothing did.

        Nothing did where the simulator had CPU to spare, the rate was achieved, and 9 of 10 clicks
        began within a budget of their moment: a thread that woke late now and then limits nothing.

        `simulator`: it used nine tenths of a core, so the rate is more than it can play.
        `machine`: it had CPU to spare, yet 1 click in 10 began over a budget late by no doing of
        its devices: other programs had the cores.
        `devices`: devices still waited, for a correction or a user, so there are too few of them.
        """
        if self.cpu_share is not None and self.cpu_share >= WHOLE_CORE:
            return "simulator"
        if _late(self.own_delay, budget_ms):
            return "machine"
        slow = self.achieved_per_s < IN_TIME * self.intended_per_s
        return "devices" if slow or _late(self.start_delay, budget_ms) else None


def _late(delay: Summary | None, budget_ms: float) -> bool:
    return delay is not None and delay.p90 > budget_ms
