"""The sections of a training recipe: the data, the network and the optimisation.

A network is a union by `kind`: each member has the options that this network reads, so an option
without an effect cannot be set. Field names are also the names of command-line options.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cloud_service.recommender.data.column_names import parse_columns
from shared.errors import DataError
from shared.model import ModelSettings, as_integer

Ablation = Literal["none", "only-attn", "only-bias", "shuffled-users"]
"""Which part of a correction is used: all, one of its two arrays, or that of another user."""

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
"""Models that a teacher-fitted GCN can follow: `scn` is the device's network again, wider."""

Seen = Literal["auto", "ranked", "left-out"]
"""Whether a ranking of all items includes the items that its user clicked before."""

Ties = Literal["auto", "shuffled", "file"]
"""How the clicks of one user at one time are ordered."""

Repeats = Literal["once", "all"]
"""Whether rows with the same user, item and time count once, or each."""


def _valid_columns(columns: str | None) -> str | None:
    try:
        return columns if columns is None or parse_columns(columns) else None
    except DataError as error:
        raise ValueError(error.detail.removeprefix("columns: ")) from error


def _valid_teachers(teachers: str) -> str:
    names = teachers.split(",")
    for name in names:
        if name not in TEACHERS:
            raise ValueError(f"{name!r} is no teacher: one or more of {', '.join(TEACHERS)}")
    if len(set(names)) < len(names):
        raise ValueError("a teacher is named twice")
    return teachers


class Section(BaseModel):
    """A frozen part of a recipe, as strict as a `StrictModel`.

    It does not inherit from it: Pydantic allows no field validator on the discriminator of a
    union, so whole numbers are converted on the model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: as_integer(value) for name, value in values.items()}


class DataRecipe(Section):
    """Which clicks are trained on, and how they are read, filtered and split."""

    data: str = Field("synthetic", min_length=1, description="a named set or a click log")
    items: str | None = Field(None, description="an item file with titles")
    columns: Annotated[str | None, AfterValidator(_valid_columns)] = Field(
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


class TeacherRecipe(Section):
    """The models that a teacher-fitted GCN follows, and how they train."""

    names: Annotated[str, AfterValidator(_valid_teachers)] = Field(
        "item-knn",
        description="models that a projected GCN follows, commas between: " + ", ".join(TEACHERS),
    )
    learning_rate: Annotated[float | None, Field(gt=0, le=1)] = None
    dropout: Annotated[float | None, Field(ge=0, lt=1)] = None
    weight_decay: Annotated[float | None, Field(ge=0, le=1)] = None


class CoCorrRecNetwork(Section):
    """The device's network (SCN) and the cloud's (GCN) that corrects it."""

    kind: Literal["scn+gcn"] = "scn+gcn"
    model: ModelSettings = ModelSettings()
    drop_corrections: Annotated[
        float, Field(ge=0, le=1, description="share of sequences trained without a correction")
    ] = 0.3
    teachers: TeacherRecipe = TeacherRecipe()
    ablation: Ablation = Field("none", description="what is left out of the correction")


class SCNNetwork(Section):
    """The device's network alone."""

    kind: Literal["scn"] = "scn"
    model: ModelSettings = ModelSettings()


class CountingNetwork(Section):
    """A baseline that counts clicks instead of training."""

    kind: Literal["popularity", "item-knn"]
    model: ModelSettings = ModelSettings()


class FactorNetwork(Section):
    """A factorisation baseline, which has no layers."""

    kind: Literal["mf", "fm"]
    model: ModelSettings = ModelSettings()


class LayeredNetwork(Section):
    """A baseline with an encoder or an MLP of several layers."""

    kind: Literal["neumf", "deepfm", "din", "gru4rec", "sasrec", "bert4rec", "mamba4rec"]
    model: ModelSettings = ModelSettings()
    layers: Annotated[
        int, Field(ge=1, le=16, description="layers of a baseline's encoder or MLP")
    ] = 2


NetworkRecipe = Annotated[
    CoCorrRecNetwork | SCNNetwork | CountingNetwork | FactorNetwork | LayeredNetwork,
    Field(discriminator="kind"),
]


class Optimisation(Section):
    """How the weights are fitted. None: `training/defaults.py` chooses by the click log."""

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


class PoolRecipe(Section):
    """What devices that learn get: parts of the bundle, and samples of the log (the pool)."""

    pool: Literal["agreed", "all", "none"] = Field(
        "agreed",
        description="whose clicks become samples for devices: of users who agreed by the log's "
        "column of consent, of all users, or of none",
    )
    pool_users: Annotated[
        int, Field(ge=1, le=1000, description="least users of one item behind a sample")
    ] = 10
    pool_states: Literal["mean", "own"] = Field(
        "mean",
        description="the state of a sample: the mean of its users, or of one of them, which gives "
        "away what that user clicked",
    )
    pool_limit: Annotated[
        int, Field(ge=1, le=100_000_000, description="clicks that become samples, at most")
    ] = 1_000_000
    learning: Literal["off", "on"] = Field(
        "off",
        description="whether devices learn: the bundle gets the parts (memory, patch) with which "
        "validation is better",
    )


OPTION_PATHS: Final[dict[str, tuple[str, ...]]] = {
    **{name: ("data", name) for name in DataRecipe.model_fields},
    "network": ("network", "kind"),
    "model": ("network", "model"),
    "layers": ("network", "layers"),
    **{
        name: ("optimisation", name)
        for name in ("item_init", "loss", "negatives", "learning_rate", "weight_decay", "ema")
    },
    "dropout": ("optimisation", "dropout"),
    "drop_corrections": ("network", "drop_corrections"),
    "teachers": ("network", "teachers", "names"),
    "teacher_learning_rate": ("network", "teachers", "learning_rate"),
    "teacher_dropout": ("network", "teachers", "dropout"),
    "teacher_weight_decay": ("network", "teachers", "weight_decay"),
    "ablation": ("network", "ablation"),
    **{
        name: ("optimisation", name)
        for name in ("batch_size", "epochs", "patience", "minutes", "matmul", "seed")
    },
    **{name: ("samples", name) for name in PoolRecipe.model_fields},
}
"""Where each option of the flat form stands. The order is that of the flat form, on which the
digests of runs depend: a new option comes last."""
