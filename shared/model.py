"""The model settings both sides compute shapes from."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

FLOAT_BYTES = 4

GCNForm = Literal["released", "causal", "transformer", "projected"]
"""`released`: both networks read the GRU's last step (the authors' released model).
`causal`: step t emits only row t of each correction, so every position trains in one pass.
`transformer`: as `causal`, from a transformer of any width (not in the paper).
`projected`: the shift of the user state that brings the device's scores nearest to those of the
cloud's own models, its teachers, and exact scores for the best items (not in the paper)."""

Fusion = Literal["moments", "shift"]
"""`moments`: Eq. 14 and 15, both corrections inside the block with the mean and deviation of what
they correct. `shift`: `attn` is added as it is, `b` is added to the user state."""

ReadoutForm = Literal["norm", "mlp"]
"""What comes between the block's output and the user state. `norm`: a normalisation (paper).
`mlp`: the output, the last click and a convolution over the last four are added up, and an MLP
follows (not in the paper)."""

Scoring = Literal["tower", "tied"]
"""`tower`: candidates pass linear, tanh, linear (released model); `tied`: the item embedding
itself scores (CoCorrRec Eq. 12)."""

History = Literal["window", "carry"]
"""`window`: the last `length` clicks, as the papers; `carry`: every full segment leaves its
carried state to the next one, so the whole history counts at fixed memory."""


def whole(value: Any) -> Any:
    """5.0 is the integer 5, as JSON Schema has it; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class StrictModel(BaseModel):
    """A model that takes values of the types it describes and no others: "5" and true are no
    numbers."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        return whole(value)


class ModelSettings(StrictModel):
    """Shapes and forms of one SCN and its GCN.

    Shapes are the paper's by default (CoCorrRec, Table 3). The form of the GCN is the one that
    serves best (docs/results.md), and this is the only place that says which; `PAPER` has the
    paper's. `fusion` is what the form needs, where it is not given.
    """

    model_config = ConfigDict(frozen=True)

    length: Annotated[int, Field(ge=1, le=4096, description="clicks in a training window")] = 10
    dim: Annotated[int, Field(ge=4, le=1024, description="width of an item embedding")] = 64
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    segment: Annotated[int, Field(ge=1, le=256, description="K, clicks one H covers")] = 10
    scoring: Scoring = "tied"
    gcn: Annotated[
        GCNForm, Field(description="the form of the correction; causal is the paper's")
    ] = "projected"
    gcn_dim: Annotated[
        int, Field(ge=4, le=4096, description="width of a transformer GCN, or of a teacher")
    ] = 128
    gcn_layers: Annotated[
        int, Field(ge=1, le=32, description="layers of a transformer GCN, or of a teacher")
    ] = 2
    projected_items: Annotated[
        int, Field(ge=16, le=8192, description="items a projection is fitted on")
    ] = 500
    fusion: Annotated[
        Fusion,
        Field(description="how a correction is added; moments, the paper's, for any other gcn"),
    ] = "shift"
    readout: ReadoutForm = "norm"
    history: History = "window"

    @model_validator(mode="before")
    @classmethod
    def _fused_by_form(cls, given: Any) -> Any:
        """A projected GCN has one way to be fused, the others are fused as the paper does it."""
        if not isinstance(given, dict):
            return given
        form = given.get("gcn", cls.model_fields["gcn"].default)
        return {"fusion": "shift" if form == "projected" else "moments"} | given

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        if self.dim % self.heads or (self.dim // self.heads) % 2:
            raise ValueError(
                f"dim {self.dim} must split into {self.heads} heads of even size (RoPE turns pairs)"
            )
        if self.gcn in ("transformer", "projected") and self.gcn_dim % self.heads:
            raise ValueError(f"gcn_dim {self.gcn_dim} must split into {self.heads} heads")
        if self.gcn == "released" and self.fusion == "shift":
            raise ValueError("the released GCN is fused by moments: use causal or transformer")
        if self.gcn == "projected" and (self.fusion != "shift" or self.scoring != "tied"):
            raise ValueError("a projected GCN shifts the user state: fusion shift, scoring tied")
        if self.gcn == "projected" and (self.history != "window" or self.length > self.segment):
            raise ValueError(
                f"a projected GCN knows the clicks of one H, and length {self.length} with segment "
                f"{self.segment} and history {self.history} is more: use history window and a "
                "length of at most one segment, or gcn causal"
            )
        if self.length > self.segment and self.length % self.segment:
            raise ValueError(
                f"length {self.length} must be a multiple of the segment {self.segment}, or "
                "at most one segment"
            )
        return self

    @property
    def head_dim(self) -> int:
        """Width f of one head."""
        return self.dim // self.heads

    @property
    def views_width(self) -> int:
        """Numbers of a click's views: key, value and query of every head, two of them turned too,
        and a number beside each (`cloud_service/recommender/export/device_graphs.py`)."""
        return 5 * (self.dim + self.heads)

    @property
    def named_items(self) -> int:
        """How many items a projected correction has room to name: 13 at the defaults."""
        return self.heads * self.segment // 3

    @property
    def hidden_bytes(self) -> int:
        """Bytes of H on the wire: 2,560 at the defaults."""
        return self.segment * self.dim * FLOAT_BYTES

    @property
    def correction_bytes(self) -> int:
        """Bytes of a full correction on the wire: 4,160 at the defaults."""
        return self.heads * self.segment * (self.segment + self.head_dim) * FLOAT_BYTES

    @property
    def row_bytes(self) -> int:
        """Bytes of the compact correction, the last valid row alone: 416 at the defaults."""
        return self.heads * (self.segment + self.head_dim) * FLOAT_BYTES


PAPER: Final = ModelSettings(gcn="causal")
"""The paper's own form of the correction, at the paper's shapes."""
