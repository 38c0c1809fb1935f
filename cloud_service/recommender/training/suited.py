"""How a network trains where its recipe leaves that to the log: by how many clicks an item has.

Two ways, each what validation preferred on the logs of docs/results.md: with few clicks an item
small steps, held back hard, from the spectral embedding; with many larger ones, hardly held back,
from noise. Widths and layers are never chosen here.
"""

from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from cloud_service.recommender.data.clicks import Split
from cloud_service.recommender.recipe import Network, TrainingRecipe
from shared.model import ModelSettings

FEW_CLICKS: Final = 70
"""Training clicks an item below which a log has few. MovieLens 100K (58) is better off with the
settings for few, the synthetic world (75) with those for many."""
FEW_REPEATED: Final = 30
"""The same where people click items again: the first half year of Online Retail (46) comes as far
with both, but three times as slowly with the settings for few."""

MOST_OF_A_USER: Final = 50
"""How many times the median user's clicks count of one user."""

Value = TypeVar("Value")

_DECAY_OF_FEW: Final[dict[Network, float]] = {"scn": 0.3, "scn+gcn": 0.3}
_DECAY_OF_MANY: Final[dict[Network, float]] = {"gru4rec": 0.1, "mamba4rec": 0.1}
_DECAY_OF_WIDE: Final = 0.1
"""Of an SCN wider than the paper's, with many clicks an item (a teacher: `gcn_dim`)."""


@dataclass(frozen=True)
class Suited:
    """What a recipe says, and the log where it says nothing."""

    batch_size: int
    learning_rate: float
    weight_decay: float
    dropout: float
    spectral: bool
    """Whether item embeddings begin from the spectral embedding."""

    @property
    def words(self) -> str:
        """As it stands in a training's log."""
        return (
            f"{self.batch_size} windows a step, learning rate {self.learning_rate:g}, "
            f"weight decay {self.weight_decay:g}, dropout {self.dropout:g}, item embeddings from "
            + ("items clicked near each other" if self.spectral else "noise")
        )


def suited(recipe: TrainingRecipe, split: Split) -> Suited:
    """The settings that a recipe trains with on a log."""
    limit = FEW_CLICKS if split.nobody_clicks_twice else FEW_REPEATED
    few = _clicks(split) < limit * split.log.item_count
    network = recipe.network
    if few:
        log = Suited(64, 0.001, _DECAY_OF_FEW.get(network, 0.03), 0.3, True)
    else:
        wide = network == "scn" and recipe.model.dim > ModelSettings().dim
        decay = _DECAY_OF_WIDE if wide else _DECAY_OF_MANY.get(network, 0.01)
        log = Suited(256, 0.002, decay, 0.1, False)
    return Suited(
        batch_size=_or(recipe.batch_size, log.batch_size),
        learning_rate=_or(recipe.learning_rate, log.learning_rate),
        weight_decay=_or(recipe.weight_decay, log.weight_decay),
        dropout=_or(recipe.dropout, log.dropout),
        spectral=log.spectral if recipe.item_init == "auto" else recipe.item_init == "spectral",
    )


def _clicks(split: Split) -> int:
    """Training clicks, of no user more than so many times the median user's: no bot decides."""
    counts = split.stops - split.starts
    return int(np.minimum(counts, MOST_OF_A_USER * np.median(counts)).sum())


def _or(value: Value | None, otherwise: Value) -> Value:
    return otherwise if value is None else value
