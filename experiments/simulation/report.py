"""The schema of `report.json`: the measurements of a run of simulated devices. Times are in ms."""

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
"""Format that this code writes and reads. 3 added pauses before a rerank."""

Case = Literal["at-once", "after-pause"]
"""When a list is reranked: at the click, or when the user comes back to the list."""

CASES: Final[dict[Case, str]] = {"at-once": "at once", "after-pause": "after a pause"}
"""How the report names the cases, in its order."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


class Machine(Value):
    """The machine of the simulated devices, and usually of the cloud."""

    cpu: str
    cores: int = Field(ge=1)
    memory_bytes: int = Field(ge=0)
    os: str
    python: str
    onnxruntime: str
    numpy: str
    project: str = Field(description="version of this project")


class ModelFacts(Value):
    """The model that was served. `synthetic`: its clicks were generated, in training and test."""

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
    """The requested settings: of all simulations together, if several share the report."""

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
    """The parameters of a network profile. A bandwidth of `None` is unlimited."""

    up_bytes_per_s: float | None = Field(default=None, gt=0)
    down_bytes_per_s: float | None = Field(default=None, gt=0)
    rtt_ms: Milliseconds = 0
    jitter_ms: Milliseconds = 0
    loss: Share = 0


class Pauses(Value):
    """How long users pause between a click and the rerank after it.

    `drawn` describes the pauses as drawn. The simulator ends a pause as soon as the correction
    has arrived, because nothing can change after that.
    """

    source: str = Field(description="where they come from, in words")
    drawn: Summary


class Quality(Value):
    """Ranking quality of the same requests with and without the correction, in one wire form.

    It does not depend on the network. `gain_*` is corrected minus local, paired by request.
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
    """What users got in one case: the corrected ranking if the correction was in time, else local.

    `gain_ndcg10` is served minus local, paired by request. `rerank` is the duration of the whole
    call, including the wait for the correction.
    """

    outcomes: dict[Outcome, int] = Field(description="every outcome, those with none as 0")
    ranking: Ranking
    gain_ndcg10: Interval
    rerank: Summary | None = None

    @property
    def requests(self) -> int:
        """Number of reranks of the case."""
        return sum(self.outcomes.values())

    @property
    def corrected_share(self) -> float:
        """Share of reranks that used the correction."""
        return self.outcomes[Outcome.APPLIED] / self.requests

    @model_validator(mode="after")
    def _every_outcome_is_counted(self) -> Self:
        if set(self.outcomes) != set(Outcome) or min(self.outcomes.values()) < 0:
            raise ValueError("every outcome needs a count of 0 or more")
        return self


class ProfileResult(Value):
    """The measurements over one network profile, with corrections in one wire form.

    `unsplit` counts answered requests whose total is known but whose legs are not: between request
    and response the device measured less time than the cloud reports for its work. This happens
    when a busy machine reads the device's clock late.
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
    """One run of `device-client simulate`, or several runs that share a report."""

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
        """The wire forms of the corrections, in the order of the profiles."""
        return tuple(dict.fromkeys(result.form for result in self.profiles))

    @property
    def cases(self) -> tuple[Case, ...]:
        """The cases of every profile, in the order of `CASES`."""
        return tuple(case for case in CASES if case in self.profiles[0].cases)

    def label(self, result: ProfileResult) -> str:
        """Name of the row of `result`: the network, and the wire form if the report has several."""
        return result.name if len(self.forms) == 1 else f"{result.name}, {result.form}"
