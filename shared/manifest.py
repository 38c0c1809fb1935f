"""The bundle manifest: the files of a model version, and how to check them."""

from datetime import datetime
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from shared.learning import LearningSettings
from shared.model import ModelSettings

FORMAT: Final = 5
"""The bundle format that this code writes. 5: the manifest records how training ended."""

LEARNING_FORMAT: Final = 6
"""The format of bundles that say what their device learns, and the newest that this code reads."""

OLDEST: Final = 4
"""The oldest format that it reads. 4: the projections of a click are laid out by head."""

MANIFEST_NAME = "manifest.json"
VERSION_PATTERN = r"^[0-9a-f]{16}$"
ALIAS_PATTERN = r"^(?![0-9a-f]{16}$)[a-z0-9][a-z0-9._-]{0,63}$"
"""A name that points to a version: `production`, and one for each log."""

Version = Annotated[str, StringConstraints(pattern=VERSION_PATTERN)]
"""The first 16 hex digits of the sha256 of the manifest: it identifies the content."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)+$", max_length=64)]


class FileEntry(BaseModel):
    """One file of a version. Devices download `device` files, and never `cloud` files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: FileName
    size: int = Field(ge=0)
    sha256: Sha256
    role: Literal["device", "cloud"]


class TrainingData(BaseModel):
    """The training data. `synthetic`: the clicks are not those of real people."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    users: int = Field(ge=1)
    items: int = Field(ge=1)
    clicks: int = Field(ge=1)
    synthetic: bool
    preprocessing: str = Field(description="the filters and the split, in words")
    seen_left_out: bool = Field(
        False, description="rankings leave out what their user clicked before"
    )
    cautions: tuple[str, ...] = Field(
        (), description="what in the log makes figures of it doubtful, a sentence each"
    )


class TrainingEnd(BaseModel):
    """How the training of the device's network ended: at which epoch, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(ge=0)
    best_epoch: int = Field(ge=0, description="whose weights are served, by validation NDCG@10")
    limit: str = Field(
        "",
        description="the limit that ended it while validation still improved, in words; empty "
        "where it ended by itself",
    )


class Manifest(BaseModel):
    """Everything about one model version that a device or a person needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[4, 5, 6] = FORMAT
    model: ModelSettings
    items: int = Field(ge=1, description="items in the catalogue; item 0 is padding and not one")
    opset: int = Field(ge=1, description="of the ONNX graphs")
    data: TrainingData
    metrics: dict[str, float] = Field(description="on the held-out clicks, corrected and local")
    training: TrainingEnd | None = Field(None, description="None in bundles of format 4")
    learning: LearningSettings | None = Field(
        None,
        exclude_if=lambda learning: learning is None,
        description="what its device learns; only in bundles of format 6",
    )
    created: datetime
    files: tuple[FileEntry, ...]

    @model_validator(mode="after")
    def _format_of_learning(self) -> Self:
        if (self.format == LEARNING_FORMAT) != (self.learning is not None):
            raise ValueError(f"bundles that learn have format {LEARNING_FORMAT}, others do not")
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [entry.name for entry in self.files]
        if len(set(names)) != len(names) or MANIFEST_NAME in names:
            raise ValueError("file names must be unique, and none the manifest's own")
        return self

    def device_files(self) -> tuple[FileEntry, ...]:
        """The files a device downloads."""
        return tuple(entry for entry in self.files if entry.role == "device")
