"""Item-kNN: what else was clicked near the last clicks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from cloud_service.recommender.models.baselines.parts import prefixes
from cloud_service.recommender.models.recommender import Recommender

_SCORES = 1 << 22
"""Scores held at once where only some of a row are asked for."""


class ItemKNN(Recommender):
    """Adds up the neighbours of the last clicks (Sarwar et al., WWW 2001, on sequences).

    An item's neighbours are those clicked soon before or after it, the nearer the more, as in the
    sequential rules of Ludewig and Jannach (UMUAI 2018), not those the same users clicked at any
    time; an older click counts less. Items that are nobody's neighbour stand behind, by
    popularity. Nothing is learned by gradients: `training/tune_knn.py` searches its settings.
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
        """`decay` is what a click counts against the one after it.

        `exclude` puts clicked items last. Not by default: where people buy again, that is wrong.
        `counts` are the training clicks of every item, (items + 1,); entry 0 is padding's.
        """
        super().__init__()
        self.items, self.length = len(ids) - 1, length
        self.register_buffer("ids", torch.from_numpy(ids))
        self.register_buffer("weights", torch.from_numpy(weights))
        self.register_buffer("decay", torch.tensor(decay))
        self.register_buffer("exclude", torch.tensor(exclude))
        # Below the least that a neighbour of any click can add (and above float32's least).
        smallest = max(1e-30, float(weights[weights > 0].min(initial=1.0)) * decay**length)
        share = counts / (1 + counts.max())
        self.register_buffer("behind", torch.from_numpy((share * smallest).astype(np.float32)))

    @classmethod
    def empty(cls, items: int, length: int) -> "ItemKNN":
        """One that knows nothing yet and takes whatever tables are loaded into it."""
        ids, weights = np.zeros((items + 1, 1), np.int32), np.zeros((items + 1, 1), np.float32)
        return cls(ids, weights, np.zeros(items + 1, np.int64), length)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any
    ) -> None:
        """As of any module, but tables of any number of neighbours are taken."""
        for name in ("ids", "weights"):
            loaded = state_dict.get(prefix + name)
            if isinstance(loaded, Tensor) and loaded.ndim == 2 and len(loaded) == self.items + 1:
                setattr(self, name, torch.zeros_like(loaded, device=self.ids.device))
        super()._load_from_state_dict(state_dict, prefix, *arguments)  # type: ignore[no-untyped-call]

    def states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Int[Tensor, "batch length length"]:
        """The clicks so far, at every click. `users` is not read."""
        return prefixes(clicks)

    def last_states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Int[Tensor, "batch length"]:
        """The clicks themselves: the last of their prefixes."""
        return clicks

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
        # Neighbours of padding weigh 0, whatever a negative age makes of the decay.
        share = self.decay ** age.clamp_min(0)
        weights = self.weights[states] * share.unsqueeze(-1)
        scores = scores.scatter_add(1, self.ids[states].long().flatten(1), weights.flatten(1))
        scores = torch.where(self.exclude, scores.scatter(1, states, -1.0), scores)
        return scores[:, 1:]
