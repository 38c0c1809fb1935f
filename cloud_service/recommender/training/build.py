"""From a recipe to the network it names, untrained, or fitted where there is nothing to train."""

from typing import TypedDict

from cloud_service.recommender.data.clicks import Split
from cloud_service.recommender.models.baselines.bert4rec import BERT4Rec
from cloud_service.recommender.models.baselines.deepfm import DeepFM
from cloud_service.recommender.models.baselines.din import DIN
from cloud_service.recommender.models.baselines.fm import FM
from cloud_service.recommender.models.baselines.gru4rec import GRU4Rec
from cloud_service.recommender.models.baselines.item_knn import ItemKNN
from cloud_service.recommender.models.baselines.mamba4rec import Mamba4Rec
from cloud_service.recommender.models.baselines.mf import MF
from cloud_service.recommender.models.baselines.neumf import NeuMF
from cloud_service.recommender.models.baselines.popularity import Popularity
from cloud_service.recommender.models.baselines.sasrec import SASRec
from cloud_service.recommender.models.cocorrrec import CoCorrRec, ProjectedCoCorrRec, SCNAndGCN
from cloud_service.recommender.models.recommender import Recommender, Tied
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.recipe import TrainingRecipe
from cloud_service.recommender.training.spectral import spectral_embedding
from cloud_service.recommender.training.stages import stages
from cloud_service.recommender.training.suited import Suited, suited
from cloud_service.recommender.training.tune_knn import tune_item_knn


def build(split: Split, recipe: TrainingRecipe, *, fit: bool = True) -> Recommender:
    """The network of a recipe for the catalogue of a split.

    Without `fit` nothing is counted or searched: what is built is for weights to be loaded into.
    """
    settings = suited(recipe, split)
    model = _built(split, recipe, settings, fit=fit)
    reader = model.scn if isinstance(model, SCNAndGCN) else model
    if fit and settings.spectral and isinstance(reader, SCN | Tied):
        table = reader.item_embedding
        table.data += spectral_embedding(split, table.shape[1])
    return model


def _built(split: Split, recipe: TrainingRecipe, trained: Suited, *, fit: bool) -> Recommender:
    items, users, settings = split.log.item_count, split.log.user_count, recipe.model
    small = _Small(length=settings.length, dim=settings.dim, dropout=trained.dropout)
    match recipe.network:
        case "scn+gcn":
            if settings.gcn == "projected":
                return ProjectedCoCorrRec(
                    items,
                    settings,
                    ablation=recipe.ablation,
                    teachers=[build(split, stage, fit=False) for stage in stages(recipe)[1:]],
                    seen_left_out=split.seen_left_out,
                )
            return CoCorrRec(
                items,
                settings,
                dropout=trained.dropout,
                drop_corrections=recipe.drop_corrections,
                ablation=recipe.ablation,
            )
        case "scn":
            return SCN(items, settings, dropout=trained.dropout)
        case "popularity":
            return Popularity(split.train_counts())
        case "item-knn":
            if not fit:
                return ItemKNN.empty(items, settings.length)
            return tune_item_knn(split, settings.length).model
        case "mf":
            return MF(items, users, **small)
        case "fm":
            return FM(items, users, **small)
        case "neumf":
            return NeuMF(items, users, layers=recipe.layers, **small)
        case "deepfm":
            return DeepFM(items, users, layers=recipe.layers, **small)
        case "din":
            return DIN(items, layers=recipe.layers, **small)
        case "gru4rec":
            return GRU4Rec(items, layers=recipe.layers, **small)
        case "mamba4rec":
            return Mamba4Rec(items, layers=recipe.layers, **small)
        case "sasrec":
            return SASRec(items, heads=settings.heads, layers=recipe.layers, **small)
        case "bert4rec":
            return BERT4Rec(items, heads=settings.heads, layers=recipe.layers, **small)


class _Small(TypedDict):
    """What every baseline that trains is told of its shape."""

    length: int
    dim: int
    dropout: float
