"""Ranking by popularity: the same list for every user."""

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from cloud_service.recommender.models.recommender import Recommender


class Popularity(Recommender):
    """Scores an item by the number of its training clicks. Nothing is learned.

    The model reads neither clicks nor users: its states are empty.
    """

    counts: Tensor
    length = 1

    def __init__(self, counts: NDArray[np.int64]) -> None:
        """`counts` are the training clicks of every item, (items + 1,); entry 0 is padding's."""
        super().__init__()
        self.items = len(counts) - 1
        # Exact up to 16 million clicks of one item.
        self.register_buffer("counts", torch.from_numpy(counts[1:].astype(np.float32)))

    def states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length 0"]:
        """An empty state for every click."""
        return self.counts.new_zeros(*clicks.shape, 0)

    def score(
        self, states: Float[Tensor, "n 0"], candidates: Int[Tensor, "n count"]
    ) -> Float[Tensor, "n count"]:
        """The number of training clicks of each candidate."""
        return self.counts[candidates - 1]

    def score_all(self, states: Float[Tensor, "n 0"]) -> Float[Tensor, "n items"]:
        """The number of training clicks of each item; column i is item i + 1."""
        return self.counts.expand(len(states), -1)
