"""The schema of `report.json`: what a run of simulated devices measured. Times are in ms."""

from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from shared.outcomes import Outcome
from shared.wire import Form

FORMAT: Final = 2
"""The report format this code writes and reads."""

WHOLE_CORE: Final = 0.9
"""Share of a core from which on one interpreter has nothing to spare."""

Limit = Literal["simulator", "devices"]
Share = Annotated[float, Field(ge=0, le=1)]
Milliseconds = Annotated[float, Field(ge=0)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Machine(_Value):
    """Where the run took place: device and cloud shared it unless the notes say otherwise."""

    cpu: str
    cores: int = Field(ge=1)
    memory_bytes: int = Field(ge=0)
    os: str
    python: str
    onnxruntime: str
    numpy: str
    project: str = Field(description="version of this project")


class ModelFacts(_Value):
    """The model that was served. `synthetic`: no real person's clicks trained or tested it."""

    version: str
    data: str = Field(description="name of the training data")
    synthetic: bool
    metrics: dict[str, float] = Field(description="those of the manifest")


class RunSettings(_Value):
    """What was asked for."""

    devices: int = Field(ge=1)
    users: int = Field(ge=1)
    arrivals_per_s: float = Field(gt=0, description="clicks a second over all devices, intended")
    duration_s: float = Field(gt=0)
    budget_ms: float = Field(gt=0)
    candidates: int = Field(ge=1)
    think_time_ms: Milliseconds = Field(description="mean time between a click and its rerank")
    seed: int


class Link(_Value):
    """The numbers of a network profile. Bandwidth `None`: not limited."""

    up_bytes_per_s: float | None = Field(default=None, gt=0)
    down_bytes_per_s: float | None = Field(default=None, gt=0)
    rtt_ms: Milliseconds = 0
    jitter_ms: Milliseconds = 0
    loss: Share = 0


class Summary(_Value):
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


class Legs(_Value):
    """Where the time goes; `None` where no request got that far.

    `upload`: first byte of the request to its last; `cloud`: last byte sent to first byte
    received, the paper's correction time as a device sees it, so round trip, HTTP and queue
    included; `download`: first byte received to last; `total`: H to the correction at hand;
    `queue`, `compute`: from the cloud's Server-Timing, both within `cloud`; `hidden`: click to
    H; `rerank`: a whole rerank call, waiting included; `local`: ranking without a correction.
    """

    upload: Summary | None = None
    cloud: Summary | None = None
    download: Summary | None = None
    total: Summary | None = None
    queue: Summary | None = None
    compute: Summary | None = None
    hidden: Summary | None = None
    rerank: Summary | None = None
    local: Summary | None = None


class Histogram(_Value):
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
        left = self.requests
        points = []
        for edge, count in zip(self.edges_ms, (*self.counts, 0), strict=False):
            points.append((edge, left / self.requests))
            left -= count
        return points


class Ranking(_Value):
    """How well a ranking put the next click. One relevant item a request."""

    ndcg10: Share
    hitrate10: Share


class Interval(_Value):
    """A mean and its 95% interval."""

    mean: float
    low: float
    high: float


class Quality(_Value):
    """The same requests ranked three ways: with the correction, without, and as was served.

    `gain_*` are corrected minus local, paired by request. The interval takes requests as
    independent; those of one user are not, so it is somewhat narrow.
    """

    requests: int = Field(ge=1, description="whose next click and corrected ranking are known")
    recall: Share = Field(description="share of requests whose next click was a candidate")
    corrected: Ranking
    local: Ranking
    served: Ranking
    gain_ndcg10: Interval
    gain_hitrate10: Interval


class Traffic(_Value):
    """Mean bytes per rerank: the payload alone, and as sent with HTTP headers and requests that
    came to nothing."""

    payload_up: float = Field(ge=0)
    payload_down: float = Field(ge=0)
    sent_up: float = Field(ge=0)
    sent_down: float = Field(ge=0)


class Arrivals(_Value):
    """Whether the simulator kept up, and if not, what held it up.

    `start_delay`: how late open-loop clicks began. `own_delay`: the part of it that neither the
    user nor the wait for a correction explains: where a device was still at earlier clicks, their
    think times and waits (each a budget at most) are taken off. `cpu_share`: CPU time of the
    simulator by time of the run; 1 is a whole core, which is all that one interpreter has.
    """

    intended_per_s: float = Field(gt=0, description="of the moments that were drawn")
    achieved_per_s: float = Field(ge=0)
    start_delay: Summary | None = None
    own_delay: Summary | None = None
    cpu_share: float | None = Field(default=None, ge=0)

    def limit(self, budget_ms: float) -> Limit | None:
        """What kept clicks from beginning when they were due; `None` where nothing did.

        `simulator`: it used nine tenths of a core, or 1 click in 100 began later than a whole
        budget by its own doing or its machine's, whose cores it may share. Its times are partly its
        own, and say little of the cloud.
        `devices`: it had time to spare, but 1 click in 100 began that late, or under 95% of the
        rate was achieved: devices still waited for corrections, so there are too few for the rate.
        """
        busy = self.cpu_share is not None and self.cpu_share >= WHOLE_CORE
        if busy or _late(self.own_delay, budget_ms):
            return "simulator"
        slow = self.achieved_per_s < 0.95 * self.intended_per_s
        return "devices" if slow or _late(self.start_delay, budget_ms) else None


def _late(delay: Summary | None, budget_ms: float) -> bool:
    return delay is not None and delay.p99 > budget_ms


class ProfileResult(_Value):
    """All that was measured over one network profile, with corrections in one form."""

    name: Name
    description: str
    form: Form
    link: Link
    requests: int = Field(ge=0)
    outcomes: dict[Outcome, int] = Field(description="every outcome, those with none as 0")
    legs: Legs
    share_within_budget: Share = Field(
        description="of all requests, those whose whole correction was there within the budget of H"
    )
    latency: Histogram
    quality: Quality | None = None
    traffic: Traffic
    arrivals: Arrivals

    @model_validator(mode="after")
    def _every_request_is_counted(self) -> Self:
        if set(self.outcomes) != set(Outcome) or min(self.outcomes.values()) < 0:
            raise ValueError("every outcome needs a count of 0 or more")
        if sum(self.outcomes.values()) != self.requests:
            raise ValueError("the outcomes must add up to the requests")
        if self.latency.requests != self.requests:
            raise ValueError("the histogram must count every request")
        return self


class Report(_Value):
    """One run of `device-client simulate`."""

    format: Literal[2] = FORMAT
    created: AwareDatetime
    machine: Machine
    model: ModelFacts
    settings: RunSettings
    profiles: tuple[ProfileResult, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _profiles_are_unique(self) -> Self:
        names = [(result.name, result.form) for result in self.profiles]
        if len(set(names)) != len(names):
            raise ValueError("a profile may be in a report once for each form")
        return self

    @property
    def forms(self) -> tuple[Form, ...]:
        """The forms of the corrections, in their order here."""
        return tuple(dict.fromkeys(result.form for result in self.profiles))

    def label(self, result: ProfileResult) -> str:
        """What a row of `result` is called: the network, and the form where there are several."""
        return result.name if len(self.forms) == 1 else f"{result.name}, {result.form}"
