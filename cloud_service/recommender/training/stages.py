"""The separate trainings of a teacher-fitted GCN: the SCN alone, then each teacher."""

from typing import Final

from cloud_service.recommender.recipe import CoCorrRecNetwork, Network, TrainingRecipe
from shared.model import GCNForm, ModelSettings

UNTRAINED: Final = frozenset({"popularity", "item-knn"})
"""Networks that count instead of training: nothing to search, and every seed gives the same."""

NO_GCN: Final[GCNForm] = "causal"
"""The form of the GCN in the recipe of a network without one. Nothing reads it; it is always the
same, so that equal trainings have equal recipes."""


def stages(recipe: TrainingRecipe) -> tuple[TrainingRecipe, ...]:
    """The recipes of the SCN and of each teacher; empty if one training trains everything.

    Each is equal to the recipe of that network alone, so that it is trained once and its run is
    used by every model that contains it.
    """
    network = recipe.network
    if not isinstance(network, CoCorrRecNetwork) or network.model.gcn != "projected":
        return ()
    names: list[Network] = network.teachers.names.split(",")  # type: ignore[assignment]
    return _scn(recipe), *(_teacher(recipe, network, name) for name in names)


def _scn(recipe: TrainingRecipe) -> TrainingRecipe:
    """The SCN trained alone: identical to a recipe of network `scn`."""
    model = recipe.network.model
    return recipe.changed(network="scn", model=_scn_window(model, model.dim))


def _teacher(recipe: TrainingRecipe, network: CoCorrRecNetwork, name: Network) -> TrainingRecipe:
    model, teachers = network.model, network.teachers
    window = _scn_window if name == "scn" else _window
    teacher = recipe.changed(
        network=name,
        model=window(model, model.gcn_dim),
        layers=model.gcn_layers,
        learning_rate=teachers.learning_rate,
        dropout=teachers.dropout,
        weight_decay=teachers.weight_decay,
    )
    return untrained(teacher) if name in UNTRAINED else teacher


def untrained(recipe: TrainingRecipe) -> TrainingRecipe:
    """The recipe of a network that counts instead of training: all it does not read is default."""
    model = recipe.network.model
    shape = ModelSettings(length=model.length, segment=model.segment, gcn=NO_GCN)
    return TrainingRecipe(
        data=recipe.data, network=recipe.network.model_copy(update={"model": shape})
    )


def _scn_window(model: ModelSettings, dim: int) -> ModelSettings:
    of_scn = {"readout": model.readout, "inner_step": model.inner_step}
    return ModelSettings.model_validate(_window(model, dim).model_dump() | of_scn)


def _window(model: ModelSettings, dim: int) -> ModelSettings:
    return ModelSettings(
        length=model.length,
        dim=dim,
        heads=model.heads,
        segment=model.segment,
        gcn=NO_GCN,
    )
