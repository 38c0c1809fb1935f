"""From a recipe to the network it names, untrained, or fitted where there is nothing to train."""

from cloud_service.data.clicks import Split
from cloud_service.models.cocorrrec import CoCorrRec
from cloud_service.models.recommender import Recommender
from cloud_service.models.scn import SCN
from shared.errors import DataError
from shared.jobs import TrainingRecipe


def build(split: Split, recipe: TrainingRecipe) -> Recommender:
    """The network of a recipe for the catalogue of a split. Raises DataError."""
    items, settings = split.log.item_count, recipe.model
    if recipe.network == "scn+gcn":
        return CoCorrRec(
            items, settings, dropout=recipe.dropout, drop_corrections=recipe.drop_corrections
        )
    if recipe.network == "scn":
        return SCN(items, settings, dropout=recipe.dropout)
    raise DataError(f"the network {recipe.network} cannot be trained yet")
