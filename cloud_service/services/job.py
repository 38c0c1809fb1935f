"""Training jobs: the request, and the state that the API shows."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from cloud_service.recommender.progress import Progress
from cloud_service.recommender.recipe import TrainingRecipe
from shared.manifest import Version
from shared.model import StrictModel

JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f-]{36}$")]

Promotion = Literal["better", "always", "never"]
"""When a new model replaces the one in production."""


class JobRequest(StrictModel):
    """A training job as submitted."""

    model_config = ConfigDict(frozen=True)

    recipe: TrainingRecipe = TrainingRecipe()
    promote: Promotion = Field(
        "better",
        description="whether `production`, and the alias of the log, point at the result: where it "
        "ranks validation clicks no worse than what they point at, always, or never",
    )


JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class Job(BaseModel):
    """A training job as the API shows it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: JobId
    state: JobState
    request: JobRequest
    progress: Progress | None = None
    version: Version | None = Field(None, description="what it published")
    outcome: str | None = Field(
        None, description="how training ended and what points at the version, in words"
    )
    error: str | None = None
    waits_for: str | None = Field(None, description="why it does not run yet, in words")
    created: datetime
    updated: datetime
