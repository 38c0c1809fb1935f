"""Default hyperparameters of a click log, by its number of training clicks per item.

There are two sets of defaults, both chosen by validation on the logs of docs/results.md. Few
clicks per item: a small learning rate, strong regularisation, item embeddings from the spectral
embedding. Many clicks: a larger learning rate, weak regularisation, random item embeddings. Widths
and numbers of layers are not chosen here.
"""

from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from cloud_service.recommender.data.clicks import Split
from cloud_service.recommender.recipe import Network, TrainingRecipe
from shared.model import ModelSettings

FEW_CLICKS: Final = 70
"""A log has few clicks if it has fewer training clicks per item than this. MovieLens 100K (58) is
better with the defaults for few, the synthetic log (75) with those for many."""
FEW_REPEATED: Final = 30
"""The same limit for logs with repeated clicks: the first half year of Online Retail (46) is as
good with both, but trains three times as slowly with the defaults for few."""

MOST_OF_A_USER: Final = 50
"""Of one user at most this many times the median user's clicks are counted."""

Value = TypeVar("Value")

_DECAY_OF_FEW: Final[dict[Network, float]] = {"scn": 0.3, "scn+gcn": 0.3}
_DECAY_OF_MANY: Final[dict[Network, float]] = {"gru4rec": 0.1, "mamba4rec": 0.1}
_DECAY_OF_WIDE: Final = 0.1
"""Of an SCN wider than the paper's, with many clicks an item (a teacher: `gcn_dim`)."""


@dataclass(frozen=True)
class ResolvedHyperparameters:
    """The recipe's hyperparameters; where the recipe has None, the default for the log."""

    batch_size: int
    learning_rate: float
    weight_decay: float
    dropout: float
    spectral: bool
    """Whether item embeddings begin from the spectral embedding."""

    @property
    def description(self) -> str:
        """The line in the log of a training."""
        return (
            f"{self.batch_size} windows a step, learning rate {self.learning_rate:g}, "
            f"weight decay {self.weight_decay:g}, dropout {self.dropout:g}, item embeddings from "
            + ("items clicked near each other" if self.spectral else "noise")
        )


def resolve_hyperparameters(recipe: TrainingRecipe, split: Split) -> ResolvedHyperparameters:
    """The hyperparameters that a recipe trains with on a log."""
    limit = FEW_CLICKS if split.nobody_clicks_twice else FEW_REPEATED
    few = _clicks(split) < limit * split.log.item_count
    network, optimisation = recipe.network.kind, recipe.optimisation
    if few:
        log = ResolvedHyperparameters(64, 0.001, _DECAY_OF_FEW.get(network, 0.03), 0.3, True)
    else:
        wide = network == "scn" and recipe.network.model.dim > ModelSettings().dim
        decay = _DECAY_OF_WIDE if wide else _DECAY_OF_MANY.get(network, 0.01)
        log = ResolvedHyperparameters(256, 0.002, decay, 0.1, False)
    return ResolvedHyperparameters(
        batch_size=_or(optimisation.batch_size, log.batch_size),
        learning_rate=_or(optimisation.learning_rate, log.learning_rate),
        weight_decay=_or(optimisation.weight_decay, log.weight_decay),
        dropout=_or(optimisation.dropout, log.dropout),
        spectral=log.spectral
        if optimisation.item_init == "auto"
        else optimisation.item_init == "spectral",
    )


def _clicks(split: Split) -> int:
    """Training clicks; each user's are capped, so that a bot does not decide the defaults."""
    counts = split.stops - split.starts
    return int(np.minimum(counts, MOST_OF_A_USER * np.median(counts)).sum())


def _or(value: Value | None, otherwise: Value) -> Value:
    return otherwise if value is None else value
