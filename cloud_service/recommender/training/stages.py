"""The trainings that a projected GCN is put together of: the SCN alone, then each teacher."""

from typing import Final

from cloud_service.recommender.recipe import DATA_FIELDS, Network, TrainingRecipe
from shared.model import GCNForm, ModelSettings, ReadoutForm

UNTRAINED: Final = frozenset({"popularity", "item-knn"})
"""Networks that count instead of training: nothing to search, and every seed gives the same."""

NO_GCN: Final[GCNForm] = "causal"
"""What stands as the form of the GCN in the recipe of a network that has none. Nothing reads it;
that it is always the same makes the trainings of one network one training, whoever asks for it."""

_PLAIN = TrainingRecipe()
_NOT_ITS_OWN = (
    "drop_corrections",
    "teachers",
    "teacher_learning_rate",
    "teacher_dropout",
    "teacher_weight_decay",
    "ablation",
)


def stages(recipe: TrainingRecipe) -> tuple[TrainingRecipe, ...]:
    """The recipe of the SCN and of each teacher; none where all is trained at once.

    Each is what that network's own recipe would be, so that it can be trained once and used by
    many.
    """
    if recipe.network != "scn+gcn" or recipe.model.gcn != "projected":
        return ()
    names: list[Network] = recipe.teachers.split(",")  # type: ignore[assignment]
    return _scn(recipe), *(_teacher(recipe, name) for name in names)


def _scn(recipe: TrainingRecipe) -> TrainingRecipe:
    """The SCN trained alone: the same to the last bit as a recipe of network `scn`."""
    shape = _window(recipe.model, recipe.model.dim, readout=recipe.model.readout)
    return recipe.model_copy(update={"network": "scn", "model": shape, **_plain(*_NOT_ITS_OWN)})


def _teacher(recipe: TrainingRecipe, name: Network) -> TrainingRecipe:
    model, is_scn = recipe.model, name == "scn"
    readout = model.readout if is_scn else "norm"
    teacher = recipe.model_copy(
        update={
            **_plain(*_NOT_ITS_OWN),
            "network": name,
            "model": _window(model, model.gcn_dim, readout=readout),
            "layers": _PLAIN.layers if is_scn else model.gcn_layers,
            "learning_rate": recipe.teacher_learning_rate,
            "dropout": recipe.teacher_dropout,
            "weight_decay": recipe.teacher_weight_decay,
        }
    )
    return untrained(teacher) if name in UNTRAINED else teacher


def untrained(recipe: TrainingRecipe) -> TrainingRecipe:
    """What a network that counts instead of training reads of a recipe; the rest as by default."""
    model = recipe.model
    data_fields = {field: getattr(recipe, field) for field in DATA_FIELDS}
    shape = ModelSettings(length=model.length, segment=model.segment, gcn=NO_GCN)
    return TrainingRecipe(network=recipe.network, model=shape, **data_fields)


def _window(model: ModelSettings, dim: int, *, readout: ReadoutForm = "norm") -> ModelSettings:
    return ModelSettings(
        length=model.length,
        dim=dim,
        heads=model.heads,
        segment=model.segment,
        readout=readout,
        gcn=NO_GCN,
    )


def _plain(*names: str) -> dict[str, object]:
    return {name: getattr(_PLAIN, name) for name in names}
