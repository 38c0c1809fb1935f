"""Builds the network of a recipe, untrained; a network that only counts is fitted."""

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
from cloud_service.recommender.recipe import (
    CoCorrRecNetwork,
    CountingNetwork,
    FactorNetwork,
    LayeredNetwork,
    SCNNetwork,
    TrainingRecipe,
)
from cloud_service.recommender.training.defaults import (
    resolve_hyperparameters,
)
from cloud_service.recommender.training.spectral import spectral_embedding
from cloud_service.recommender.training.stages import stages
from cloud_service.recommender.training.tune_knn import tune_item_knn


def build(split: Split, recipe: TrainingRecipe, *, fit: bool = True) -> Recommender:
    """The network of a recipe for the catalogue of a split.

    With `fit=False` nothing is counted or searched: use it to load weights into the network.
    """
    resolved = resolve_hyperparameters(recipe, split)
    model = _untrained(split, recipe, resolved.dropout, fit=fit)
    reader = model.scn if isinstance(model, SCNAndGCN) else model
    if fit and resolved.spectral and isinstance(reader, SCN | Tied):
        table = reader.item_embedding
        table.data += spectral_embedding(split, table.shape[1])
    return model


def _untrained(split: Split, recipe: TrainingRecipe, dropout: float, *, fit: bool) -> Recommender:
    items, users, network = split.log.item_count, split.log.user_count, recipe.network
    model = network.model
    match network:
        case CoCorrRecNetwork():
            return _cocorrrec(split, recipe, network, dropout)
        case SCNNetwork():
            return SCN(items, model, dropout=dropout)
        case CountingNetwork(kind="popularity"):
            return Popularity(split.train_counts())
        case CountingNetwork():
            if not fit:
                return ItemKNN.empty(items, model.length)
            return tune_item_knn(split, model.length).model
        case FactorNetwork(kind=kind):
            factors = MF if kind == "mf" else FM
            return factors(items, users, length=model.length, dim=model.dim, dropout=dropout)
        case LayeredNetwork():
            return _layered(split, network, dropout)


def _cocorrrec(
    split: Split, recipe: TrainingRecipe, network: CoCorrRecNetwork, dropout: float
) -> SCNAndGCN:
    items, model = split.log.item_count, network.model
    if model.gcn == "projected":
        return ProjectedCoCorrRec(
            items,
            model,
            ablation=network.ablation,
            teachers=[build(split, stage, fit=False) for stage in stages(recipe)[1:]],
            seen_left_out=split.seen_left_out,
        )
    return CoCorrRec(
        items,
        model,
        dropout=dropout,
        drop_corrections=network.drop_corrections,
        ablation=network.ablation,
    )


def _layered(split: Split, network: LayeredNetwork, dropout: float) -> Recommender:
    items, heads = split.log.item_count, network.model.heads
    shape = _Shape(
        length=network.model.length, dim=network.model.dim, dropout=dropout, layers=network.layers
    )
    match network.kind:
        case "neumf":
            return NeuMF(items, split.log.user_count, **shape)
        case "deepfm":
            return DeepFM(items, split.log.user_count, **shape)
        case "din":
            return DIN(items, **shape)
        case "gru4rec":
            return GRU4Rec(items, **shape)
        case "mamba4rec":
            return Mamba4Rec(items, **shape)
        case "sasrec":
            return SASRec(items, heads=heads, **shape)
        case "bert4rec":
            return BERT4Rec(items, heads=heads, **shape)


class _Shape(TypedDict):
    """The arguments that every baseline with layers has."""

    length: int
    dim: int
    dropout: float
    layers: int
