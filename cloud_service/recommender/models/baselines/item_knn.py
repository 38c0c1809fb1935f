"""Item-kNN: scores items by how often they were clicked near the last clicks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from cloud_service.recommender.models.baselines.parts import PrefixRecommender

_SCORES = 1 << 22
"""Scores in memory at once when only some candidates are scored."""


class ItemKNN(PrefixRecommender):
    """Sums the weights of the last clicks' neighbours (Sarwar et al., WWW 2001, on sequences).

    An item's neighbours are the items clicked soon before or after it, weighted by proximity, as
    in the sequential rules of Ludewig and Jannach (UMUAI 2018), not all items that the same users
    clicked. Older clicks count less. Items that are not a neighbour of any click are ranked after
    all others, by popularity. There are no gradients: `training/tune_knn.py` searches settings.
    """

    ids: Tensor
    weights: Tensor
    decay: Tensor
    exclude: Tensor
    behind: Tensor

    def __init__(
        self,
        ids: NDArray[np.int32],
        weights: NDArray[np.float32],
        counts: NDArray[np.int64],
        length: int,
        *,
        decay: float = 0.8,
        exclude: bool = False,
    ) -> None:
        """`decay` is the weight of a click relative to the next one.

        `exclude` ranks clicked items last. Off by default: it is wrong where people buy again.
        `counts` are the training clicks of every item, (items + 1,); entry 0 is padding's.
        """
        super().__init__()
        self.items, self.length = len(ids) - 1, length
        self.register_buffer("ids", torch.from_numpy(ids))
        self.register_buffer("weights", torch.from_numpy(weights))
        self.register_buffer("decay", torch.tensor(decay))
        self.register_buffer("exclude", torch.tensor(exclude))
        # Smaller than any contribution of a neighbour, and larger than the smallest float32.
        smallest = max(1e-30, float(weights[weights > 0].min(initial=1.0)) * decay**length)
        share = counts / (1 + counts.max())
        self.register_buffer("behind", torch.from_numpy((share * smallest).astype(np.float32)))

    @classmethod
    def empty(cls, items: int, length: int) -> "ItemKNN":
        """A model without data, into which tables of any size can be loaded."""
        ids, weights = np.zeros((items + 1, 1), np.int32), np.zeros((items + 1, 1), np.float32)
        return cls(ids, weights, np.zeros(items + 1, np.int64), length)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any
    ) -> None:
        """Loads tables with any number of neighbours."""
        for name in ("ids", "weights"):
            loaded = state_dict.get(prefix + name)
            if isinstance(loaded, Tensor) and loaded.ndim == 2 and len(loaded) == self.items + 1:
                setattr(self, name, torch.zeros_like(loaded, device=self.ids.device))
        super()._load_from_state_dict(state_dict, prefix, *arguments)  # type: ignore[no-untyped-call]

    def score(
        self, states: Int[Tensor, "n length"], candidates: Int[Tensor, "n count"]
    ) -> Float[Tensor, "n count"]:
        """The score of each candidate, picked from those of all items."""
        rows = max(1, _SCORES // self.items)
        chunks = zip(states.split(rows), candidates.split(rows), strict=True)
        return torch.cat(
            [
                self.score_all(chunk).gather(1, chunk_candidates - 1)
                for chunk, chunk_candidates in chunks
            ]
        )

    def score_all(self, states: Int[Tensor, "n length"]) -> Float[Tensor, "n items"]:
        """A score for every item of the catalogue; column i is item i + 1."""
        scores = self.behind.expand(states.shape[0], -1)
        age = (
            (states > 0).sum(1, keepdim=True)
            - 1
            - torch.arange(states.shape[1], device=states.device)
        )
        # Neighbours of padding have weight 0, so a negative age does no harm.
        share = self.decay ** age.clamp_min(0)
        weights = self.weights[states] * share.unsqueeze(-1)
        scores = scores.scatter_add(1, self.ids[states].long().flatten(1), weights.flatten(1))
        scores = torch.where(self.exclude, scores.scatter(1, states, -1.0), scores)
        return scores[:, 1:]
