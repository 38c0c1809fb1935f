"""The schema of `report.json`: what a run of simulated devices measured. Times are in ms."""

from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from experiments.simulation.measured import (
    Arrivals,
    Histogram,
    Interval,
    Legs,
    Milliseconds,
    Ranking,
    Share,
    Summary,
    Traffic,
    Value,
)
from shared.outcomes import Outcome
from shared.wire import Form

FORMAT: Final = 3
"""The report format this code writes and reads: 3 since users pause before a rerank."""

Case = Literal["at-once", "after-pause"]
"""When a list is reranked: right at the click, or when its user comes back to it."""

CASES: Final[dict[Case, str]] = {"at-once": "at once", "after-pause": "after a pause"}
"""The cases in words, in the order of the report."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


class Machine(Value):
    """Where the run took place: device and cloud shared it unless the notes say otherwise."""

    cpu: str
    cores: int = Field(ge=1)
    memory_bytes: int = Field(ge=0)
    os: str
    python: str
    onnxruntime: str
    numpy: str
    project: str = Field(description="version of this project")


class ModelFacts(Value):
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


class RunSettings(Value):
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


class Link(Value):
    """The numbers of a network profile. Bandwidth `None`: not limited."""

    up_bytes_per_s: float | None = Field(default=None, gt=0)
    down_bytes_per_s: float | None = Field(default=None, gt=0)
    rtt_ms: Milliseconds = 0
    jitter_ms: Milliseconds = 0
    loss: Share = 0


class Pauses(Value):
    """How long users pause between a click and the rerank after it.

    `drawn`: as drawn. A simulated pause ends early once its correction has come, for nothing can
    change after that.
    """

    source: str = Field(description="where they come from, in words")
    drawn: Summary


class Quality(Value):
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


class Served(Value):
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


class ProfileResult(Value):
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


class Report(Value):
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
