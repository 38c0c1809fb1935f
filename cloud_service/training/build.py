"""From a recipe to the network it names, untrained, or fitted where there is nothing to train."""

from typing import TypedDict

from cloud_service.data.clicks import Split
from cloud_service.models.baselines.bert4rec import BERT4Rec
from cloud_service.models.baselines.gru4rec import GRU4Rec
from cloud_service.models.baselines.mamba4rec import Mamba4Rec
from cloud_service.models.baselines.sasrec import SASRec
from cloud_service.models.cocorrrec import CoCorrRec
from cloud_service.models.recommender import Recommender
from cloud_service.models.scn import SCN
from shared.errors import DataError
from shared.jobs import TrainingRecipe

_RECURRENT: dict[str, type[GRU4Rec | Mamba4Rec]] = {"gru4rec": GRU4Rec, "mamba4rec": Mamba4Rec}
_ATTENTIVE: dict[str, type[SASRec | BERT4Rec]] = {"sasrec": SASRec, "bert4rec": BERT4Rec}


def build(split: Split, recipe: TrainingRecipe) -> Recommender:
    """The network of a recipe for the catalogue of a split. Raises DataError."""
    items, settings = split.log.item_count, recipe.model
    if recipe.network == "scn+gcn":
        return CoCorrRec(
            items, settings, dropout=recipe.dropout, drop_corrections=recipe.drop_corrections
        )
    if recipe.network == "scn":
        return SCN(items, settings, dropout=recipe.dropout)
    if recipe.network in _RECURRENT:
        return _RECURRENT[recipe.network](items, **_shape(recipe))
    if recipe.network in _ATTENTIVE:
        return _ATTENTIVE[recipe.network](items, heads=settings.heads, **_shape(recipe))
    raise DataError(f"the network {recipe.network} cannot be trained yet")


class _Shape(TypedDict):
    length: int
    dim: int
    layers: int
    dropout: float


def _shape(recipe: TrainingRecipe) -> _Shape:
    """What every sequence model is told of its shape."""
    model = recipe.model
    return _Shape(length=model.length, dim=model.dim, layers=recipe.layers, dropout=recipe.dropout)
