"""The schema of `report.json`: what a run of simulated devices measured. Times are in ms."""

from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from shared.outcomes import Outcome
from shared.wire import Form

FORMAT: Final = 3
"""The report format this code writes and reads: 3 since users pause before a rerank."""

WHOLE_CORE: Final = 0.9
"""Share of a core from which on one interpreter has nothing to spare."""

IN_TIME: Final = 0.95
"""Share of the intended rate from which on a run counts as one that kept up."""

Limit = Literal["simulator", "machine", "devices"]
Case = Literal["at-once", "after-pause"]
"""When a list is reranked: right at the click, or when its user comes back to it."""

CASES: Final[dict[Case, str]] = {"at-once": "at once", "after-pause": "after a pause"}
"""The cases in words, in the order of the report."""

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
    name: str = Field(description="what was asked for: `production`, an alias or the version")
    data: str = Field(description="name of the training data")
    synthetic: bool
    metrics: dict[str, float] = Field(description="those of the manifest")
    training_limit: str = Field(
        "",
        description="the limit that ended training while validation still improved, in words; "
        "empty where it ended by itself",
    )
    cautions: tuple[str, ...] = Field(
        (), description="what in the log makes figures of it doubtful, a sentence each"
    )


class RunSettings(_Value):
    """What was asked for, of all simulations that share the report together."""

    devices: int = Field(ge=1)
    users: int = Field(ge=1)
    arrivals_per_s: float = Field(gt=0, description="clicks a second over all devices, intended")
    duration_s: float = Field(gt=0)
    budget_ms: float = Field(gt=0)
    candidates: int = Field(ge=1)
    think: str = Field(description="`both`, `none`, `human`, or ms from a click to its rerank")
    seed: int
    simulations: int = Field(default=1, ge=1, description="whose measurements are in the report")
    missing: int = Field(default=0, ge=0, description="simulations that had not ended yet")


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


class Pauses(_Value):
    """How long users pause between a click and the rerank after it.

    `drawn`: as drawn. A simulated pause ends early once its correction has come, for nothing can
    change after that.
    """

    source: str = Field(description="where they come from, in words")
    drawn: Summary


class Legs(_Value):
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
    """A mean and its 95% interval. Requests of one user count as one observation of it."""

    mean: float
    low: float
    high: float


class Quality(_Value):
    """The same requests ranked with the correction, in one form, and without: over any network.

    `gain_*` are corrected minus local, paired by request.
    """

    form: Form
    requests: int = Field(ge=1)
    users: int = Field(ge=1)
    recall: Share = Field(description="share of requests whose next click was a candidate")
    corrected: Ranking
    local: Ranking
    gain_ndcg10: Interval
    gain_hitrate10: Interval


class Served(_Value):
    """What users got in one case: corrected where the correction was there in time, else local.

    `gain_ndcg10` is served minus local, paired by request; `rerank` is the whole call, waiting
    included.
    """

    outcomes: dict[Outcome, int] = Field(description="every outcome, those with none as 0")
    ranking: Ranking
    gain_ndcg10: Interval
    rerank: Summary | None = None

    @property
    def requests(self) -> int:
        """All reranks of the case."""
        return sum(self.outcomes.values())

    @property
    def corrected_share(self) -> float:
        """The share of reranks that were served corrected."""
        return self.outcomes[Outcome.APPLIED] / self.requests

    @model_validator(mode="after")
    def _every_outcome_is_counted(self) -> Self:
        if set(self.outcomes) != set(Outcome) or min(self.outcomes.values()) < 0:
            raise ValueError("every outcome needs a count of 0 or more")
        return self


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


class ProfileResult(_Value):
    """All that was measured over one network profile, with corrections in one form.

    `unsplit`: answered requests whose total is known but not its legs, since the device saw less
    time pass between sending and answer than the cloud by its own account needed: the device's
    clock was read late, as on a busy machine.
    """

    name: Name
    description: str
    form: Form
    link: Link
    requests: int = Field(ge=1)
    cases: dict[Case, Served] = Field(min_length=1)
    legs: Legs
    unsplit: int = Field(default=0, ge=0)
    share_within_budget: Share = Field(
        description="of all requests, those whose whole correction was there within the budget of H"
    )
    latency: Histogram
    traffic: Traffic
    arrivals: Arrivals

    @model_validator(mode="after")
    def _every_request_is_counted(self) -> Self:
        if any(served.requests != self.requests for served in self.cases.values()):
            raise ValueError("the outcomes of a case must add up to the requests")
        if self.latency.requests != self.requests:
            raise ValueError("the histogram must count every request")
        return self


class Report(_Value):
    """One run of `device-client simulate`, or of several that share a report."""

    format: Literal[3] = FORMAT
    created: AwareDatetime
    machine: Machine
    model: ModelFacts
    settings: RunSettings
    pauses: Pauses | None = Field(None, description="None where every rerank was at once")
    quality: tuple[Quality, ...] = Field((), description="one for each form")
    profiles: tuple[ProfileResult, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _profiles_are_unique(self) -> Self:
        names = [(result.name, result.form) for result in self.profiles]
        if len(set(names)) != len(names):
            raise ValueError("a profile may be in a report once for each form")
        if len({tuple(sorted(result.cases)) for result in self.profiles}) != 1:
            raise ValueError("every profile must have the same cases")
        return self

    @property
    def forms(self) -> tuple[Form, ...]:
        """The forms of the corrections, in their order here."""
        return tuple(dict.fromkeys(result.form for result in self.profiles))

    @property
    def cases(self) -> tuple[Case, ...]:
        """The cases of every profile, in the order of `CASES`."""
        return tuple(case for case in CASES if case in self.profiles[0].cases)

    def label(self, result: ProfileResult) -> str:
        """What a row of `result` is called: the network, and the form where there are several."""
        return result.name if len(self.forms) == 1 else f"{result.name}, {result.form}"
