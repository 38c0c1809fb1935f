"""What a bundle says about learning on the device: which parts there are, and their numbers."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from shared.model import StrictModel

Junction = Literal["hidden", "output", "state"]
"""Where a metapatch acts: on H, on the block's output, on the user state (DCCL's 1, 2 and 3)."""
JUNCTIONS: Final[tuple[Junction, ...]] = ("hidden", "output", "state")

PatchForm = Literal["shift", "metapatch"]
BETAS: Final = (0.9, 0.999)
"""Decay of Adam's two moments."""
EPSILON: Final = 1e-8
HALF_LIVES: Final = (10, 50, 300)
"""Clicks after which an item counts half in each of the sums that an amortised patch reads."""


def adam_factors(step: int, learning_rate: float) -> tuple[float, float]:
    """Adam's rate and epsilon at a step (from 1), with the corrections of the first steps."""
    beta1, beta2 = BETAS
    correction = (1 - beta2**step) ** 0.5
    return learning_rate * correction / (1 - beta1**step), EPSILON * correction


class PatchSettings(StrictModel):
    """The patch and how a round of learning trains it."""

    model_config = ConfigDict(frozen=True)

    form: PatchForm = "shift"
    size: Annotated[int, Field(ge=1, le=4096, description="numbers that the device learns")] = 64
    junctions: tuple[Junction, ...] = ("state",)
    start: Annotated[
        Literal["zero", "amortised"],
        Field(description="what a round begins from: no patch, or what a network of the cloud "
              "makes of the history"),
    ] = "zero"  # fmt: skip
    window: Annotated[int, Field(ge=1, le=1024, description="own clicks a round learns from")] = 60
    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    negatives: Annotated[int, Field(ge=1, le=10_000)] = 500
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.03
    decay: Annotated[float, Field(ge=0, description="pull towards the start (L2)")] = 0.1

    @field_validator("junctions", mode="before")
    @classmethod
    def _tuple_from_list(cls, junctions: Any) -> Any:
        """JSON has lists only."""
        return tuple(junctions) if isinstance(junctions, list) else junctions

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.form == "shift" and self.junctions != ("state",):
            raise ValueError("a shift acts on the user state")
        if not self.junctions or len(set(self.junctions)) < len(self.junctions):
            raise ValueError("a patch acts at one junction or several, each named once")
        return self


class MemorySettings(StrictModel):
    """What is added to the score of an item that the user clicked before.

    base + count * log(1 + clicks on it) - age * log(1 + clicks since the last of them)
    """

    model_config = ConfigDict(frozen=True)

    base: float
    count: float
    age: float


class RecallSettings(StrictModel):
    """How the cloud's samples count: the share that they get of the device's distribution.

    Sample j is weighted by the softmax of -sharpness * (d_j - d_min) / (d_100 - d_min), d the
    squared distance of its state from the user's.
    """

    model_config = ConfigDict(frozen=True)

    sharpness: Annotated[float, Field(gt=0, le=100)] = 3.0
    share: Annotated[float, Field(ge=0, lt=1)] = 0.25
    kept: Annotated[int, Field(ge=1, le=10_000, description="samples a device keeps")] = 1000
    fetched: Annotated[int, Field(ge=1, le=10_000, description="samples of one answer")] = 200
    every: Annotated[int, Field(ge=1, description="clicks from one request to the next")] = 3


class LearningSettings(StrictModel):
    """What a device of this version learns; a part that is None is not there."""

    model_config = ConfigDict(frozen=True)

    patch: PatchSettings | None = None
    memory: MemorySettings | None = None
    recall: RecallSettings | None = None
    corrected_share: Annotated[
        float,
        Field(ge=0, le=1, description="how much of the patch counts where a correction came too"),
    ] = 1.0
