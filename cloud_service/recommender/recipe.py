"""A training recipe: everything that decides the outcome of a training run."""

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, field_validator

from cloud_service.recommender.data.column_names import parse_columns
from shared.errors import DataError
from shared.model import ModelSettings, StrictModel

Ablation = Literal["none", "only-attn", "only-bias", "shuffled-users"]
"""What is left of a correction: all of it, one of its two arrays, or that of another user."""

Network = Literal[
    "scn+gcn",
    "scn",
    "popularity",
    "item-knn",
    "mf",
    "fm",
    "neumf",
    "deepfm",
    "din",
    "gru4rec",
    "sasrec",
    "bert4rec",
    "mamba4rec",
]
"""What is trained: the device's and the cloud's networks, the device's alone, or a baseline."""


TEACHERS: Final[tuple[Network, ...]] = ("item-knn", "scn", "gru4rec", "sasrec", "mamba4rec")
"""What the scores of a projected GCN can come from: `scn` is the device's network again, wider."""

Seen = Literal["auto", "ranked", "left-out"]
"""Whether a ranking of all items holds what its user clicked before."""


Ties = Literal["auto", "shuffled", "file"]
"""How the clicks of one user at one time are ordered."""

Repeats = Literal["once", "all"]
"""Whether rows with the same user, item and time count once, or each."""


class TrainingRecipe(StrictModel):
    """Everything that decides the outcome of a training run, and nothing that does not.

    A setting of the training that is None is the log's: `training/suited.py`.
    """

    model_config = ConfigDict(frozen=True)

    data: str = Field("synthetic", min_length=1, description="a named set or a click log")
    items: str | None = Field(None, description="an item file with titles")
    columns: str | None = Field(
        None,
        description="names of the log's columns where they are not user_id, item_id and "
        "timestamp: user=NAME,item=NAME,time=NAME",
    )
    ties: Ties = Field(
        "auto",
        description="order of one user's clicks that share a time: shuffled, so that nothing can "
        "be learned from it, or the file's; auto is the file's for named sets that are known to "
        "be in the order of the clicks",
    )
    repeats: Repeats = Field(
        "once", description="whether rows with the same user, item and time count once, or each"
    )
    max_user_clicks: Annotated[
        int | None, Field(ge=3, description="of each user only so many clicks, the newest, count")
    ] = None
    max_clicks: Annotated[
        int | None,
        Field(
            ge=1000,
            description="of a larger log only random users count, with about so many clicks in all",
        ),
    ] = None
    min_item: Annotated[int, Field(ge=1)] = 1
    min_user: Annotated[int, Field(ge=3)] = 3
    iterate_filters: bool = Field(False, description="repeat both filters until nothing goes")
    holdout_users: Annotated[
        float, Field(ge=0, lt=1, description="share of users kept out, for simulated devices")
    ] = 0.0
    seen: Seen = Field(
        "auto",
        description="whether items clicked before are ranked; auto leaves them out where "
        "nobody clicks twice",
    )
    network: Network = Field("scn+gcn", description="what is trained; baselines for comparison")
    model: ModelSettings = ModelSettings()
    layers: Annotated[
        int, Field(ge=1, le=16, description="layers of a baseline's encoder or MLP")
    ] = 2
    item_init: Literal["auto", "random", "spectral"] = Field(
        "auto",
        description="what item embeddings begin from: noise, or items clicked near each other lie "
        "near each other (networks that read clicks and score by their item embedding); auto is "
        "spectral where items have few clicks",
    )
    loss: Literal["softmax", "sampled_softmax", "sampled_bce"] = Field(
        "softmax",
        description="softmax over all items (paper), over sampled negatives, or binary "
        "cross-entropy at 1:4 (released)",
    )
    negatives: Annotated[
        int, Field(ge=1, le=10_000, description="sampled negatives a positive")
    ] = 4
    learning_rate: Annotated[float | None, Field(gt=0, le=1)] = None
    weight_decay: Annotated[float | None, Field(ge=0, le=1)] = None
    ema: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="how much of their moving average the weights keep at a step; the average "
            "is validated and kept, 0 for none",
        ),
    ] = 0.999
    dropout: Annotated[
        float | None, Field(ge=0, lt=1, description="on H, or within a baseline")
    ] = None
    drop_corrections: Annotated[
        float, Field(ge=0, le=1, description="share of sequences trained without a correction")
    ] = 0.3
    teachers: str = Field(
        "item-knn",
        description="models that a projected GCN follows, commas between: " + ", ".join(TEACHERS),
    )
    teacher_learning_rate: Annotated[float | None, Field(gt=0, le=1)] = None
    teacher_dropout: Annotated[float | None, Field(ge=0, lt=1)] = None
    teacher_weight_decay: Annotated[float | None, Field(ge=0, le=1)] = None
    ablation: Ablation = Field("none", description="what is left out of the correction")
    batch_size: Annotated[int | None, Field(ge=1, le=65536, description="sequences a step")] = None
    epochs: Annotated[
        int, Field(ge=1, le=10_000, description="of a network at most; patience ends it sooner")
    ] = 200
    patience: Annotated[
        int, Field(ge=1, description="epochs without a better validation NDCG@10")
    ] = 4
    minutes: Annotated[
        float | None,
        Field(
            gt=0,
            description="a network trains so many minutes at most, though validation still "
            "improves: the outcome then depends on the machine",
        ),
    ] = None
    matmul: Literal["fast", "exact"] = Field(
        "fast",
        description="products of matrices while training: PyTorch's default, or the faster ones "
        "it keeps for those who allow them to round factors to bfloat16, as processors with AMX "
        "and GPUs do; validation and test are always exact",
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @field_validator("columns")
    @classmethod
    def _names(cls, columns: str | None) -> str | None:
        try:
            return columns if columns is None or parse_columns(columns) else None
        except DataError as error:
            raise ValueError(error.detail.removeprefix("columns: ")) from error

    @field_validator("teachers")
    @classmethod
    def _known(cls, teachers: str) -> str:
        names = teachers.split(",")
        for name in names:
            if name not in TEACHERS:
                raise ValueError(f"{name!r} is no teacher: one or more of {', '.join(TEACHERS)}")
        if len(set(names)) < len(names):
            raise ValueError("a teacher is named twice")
        return teachers


TREATMENT_FIELDS: Final = (
    "columns",
    "ties",
    "repeats",
    "max_user_clicks",
    "min_item",
    "min_user",
    "iterate_filters",
)
"""The fields of a recipe that say how a log is read, ordered and filtered: a `Treatment`."""
DATA_FIELDS: Final = ("data", "items", *TREATMENT_FIELDS, "max_clicks", "holdout_users", "seen")
"""The fields of a recipe that say which clicks are trained on, and how they are split."""
_ELSEWHERE = frozenset({*DATA_FIELDS, "network", "model", "seed"})
TRAINING_FIELDS: Final = (
    *(name for name in TrainingRecipe.model_fields if name not in _ELSEWHERE),
    *ModelSettings.model_fields,
)
"""The fields of a recipe that say how a network is trained, its shape included."""
