"""Where a training run is, as it is reported."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Progress(BaseModel):
    """Where a training run is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phase: Literal["data", "training", "testing", "exporting", "publishing", "done"]
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    loss: float | None = None
    ndcg: float | None = Field(None, description="validation NDCG@10, all items, corrected")
    best: float | None = None
    message: str = ""

    @property
    def share(self) -> float:
        """How much of the training is done at most, 0 to 1 (early stopping may end it sooner)."""
        if self.phase == "data" or not self.epochs:
            return 0.0
        if self.phase != "training":
            return 1.0
        return min(1.0, (self.epoch + (self.step / self.steps if self.steps else 0)) / self.epochs)
