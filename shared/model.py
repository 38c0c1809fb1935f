"""The model settings, from which both sides compute every shape."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

FLOAT_BYTES = 4

GCNForm = Literal["released", "causal", "transformer", "projected"]
"""`released`: both networks read the last step of the GRU (the authors' released model).
`causal`: step t computes only row t of each correction, so one pass trains every position.
`transformer`: as `causal`, with a transformer of any width (not in the paper).
`projected`: a shift of the user state, fitted so that the device's scores come as near as possible
to those of larger models in the cloud (its teachers), and exact scores for the best items (not in
the paper)."""

Fusion = Literal["moments", "shift"]
"""`moments`: Eq. 14 and 15; both corrections act inside the block, with the mean and the deviation
of the values that they correct. `shift`: `attn` is added unchanged, `b` is added to the user
state."""

ReadoutForm = Literal["norm", "mlp"]
"""What stands between the block's output and the user state. `norm`: a normalisation (paper).
`mlp`: the sum of the output, the last click and a convolution over the last four clicks, and then
an MLP (not in the paper)."""

Scoring = Literal["tower", "tied"]
"""`tower`: candidates pass through linear, tanh, linear (released model). `tied`: the item
embedding itself is the candidate's vector (CoCorrRec Eq. 12)."""

History = Literal["window", "carry"]
"""`window`: only the last `length` clicks count, as in the papers. `carry`: every full segment
hands its inner state to the next one, so the whole history counts, in constant memory."""


def as_integer(value: Any) -> Any:
    """Turns 5.0 into 5, as JSON Schema defines integers; returns any other value unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class StrictModel(BaseModel):
    """Accepts values of the declared types only: "5" and true are not numbers."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _integers_from_floats(cls, value: Any) -> Any:
        return as_integer(value)


class ModelSettings(StrictModel):
    """Shapes and forms of one SCN and its GCN.

    The default shapes are the paper's (CoCorrRec, Table 3). The default form of the GCN is the one
    with the best ranking (docs/results.md), and is set only here; `PAPER` has the paper's form.
    `fusion` follows from the form if it is not given.
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
    inner_step: Annotated[
        int | None,
        Field(
            ge=1,
            exclude_if=lambda inner_step: inner_step is None,
            description="b, clicks that one update of the inner model takes; a divisor of the "
            "segment, by default all of it",
        ),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _default_fusion(cls, fields: Any) -> Any:
        """`shift` for a projected GCN, otherwise the paper's `moments`."""
        if not isinstance(fields, dict):
            return fields
        form = fields.get("gcn", cls.model_fields["gcn"].default)
        return {"fusion": "shift" if form == "projected" else "moments"} | fields

    @model_validator(mode="before")
    @classmethod
    def _whole_segment(cls, fields: Any) -> Any:
        """An inner step of a whole segment is written as None, as it was before the option."""
        if not isinstance(fields, dict) or fields.get("inner_step") is None:
            return fields
        segment = fields.get("segment", cls.model_fields["segment"].default)
        return fields | {"inner_step": None} if fields["inner_step"] == segment else fields

    @model_validator(mode="after")
    def _inner_steps_divide_segment(self) -> Self:
        if self.segment % self.clicks_per_update:
            raise ValueError(f"inner_step {self.inner_step} must divide the segment {self.segment}")
        if self.inner_step is not None and self.gcn == "released":
            raise ValueError(
                "the released GCN corrects clicks that are not there yet, and with inner_step "
                f"{self.inner_step} these have no inner state: use causal, transformer or projected"
            )
        return self

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
    def clicks_per_update(self) -> int:
        """b, clicks that one update of the inner model takes: `inner_step`, or the segment."""
        return self.segment if self.inner_step is None else self.inner_step

    @property
    def keeps_windows(self) -> bool:
        """Whether a device keeps the inner state of every window that has begun.

        See "Inner steps" in shared/GRAPHS.md. A projected GCN has a sliding window.
        """
        return self.inner_step is not None and self.gcn == "projected"

    @property
    def window_rounds(self) -> int:
        """Rounds of b windows that a device keeps, one window for each click of the longest."""
        return -(-self.length // self.clicks_per_update)

    @property
    def head_dim(self) -> int:
        """Width f of one head."""
        return self.dim // self.heads

    @property
    def projections_width(self) -> int:
        """Numbers of one click's projections, 5h (f + 1): see `views` in shared/GRAPHS.md."""
        return 5 * (self.dim + self.heads)

    @property
    def boosted_items(self) -> int:
        """Items that a projected correction can address one by one: 13 at the defaults."""
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
        """Bytes of the compact correction, the last click's row only: 416 at the defaults."""
        return self.heads * (self.segment + self.head_dim) * FLOAT_BYTES


PAPER: Final = ModelSettings(gcn="causal")
"""The paper's form of the correction, with the paper's shapes."""
