"""Matrix factorisation."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.recommender.models.baselines.parts import every_click
from cloud_service.recommender.models.recommender import DotProduct, item_table, look_up


class MF(DotProduct):
    """User vector · item vector + item bias (Koren, Bell and Volinsky, Computer 2009).

    Fields: user and item. A click log has no ratings, so the model is trained by the same losses as
    the others in place of squared errors. User biases and the global mean do not change a ranking
    and are omitted. The model reads no clicks: for an unknown user (0) it ranks by item bias.
    """

    def __init__(self, items: int, users: int, *, length: int, dim: int, dropout: float) -> None:
        """`dropout` acts on user vectors."""
        super().__init__()
        self.items, self.length, self.dropout = items, length, dropout
        self.user_embedding = item_table(users, dim)
        self.item_embedding = item_table(items, dim)
        self.item_bias = nn.Parameter(torch.zeros(items + 1))

    def states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length dim1"]:
        """The user's vector, followed by a 1 for the item's bias, at every click."""
        user = functional.dropout(look_up(self.user_embedding, users), self.dropout, self.training)
        return functional.pad(user, (0, 1), value=1.0)[:, None].expand(-1, clicks.shape[1], -1)

    def item_vectors(self, items: Int[Tensor, "*n"]) -> Float[Tensor, "*n dim1"]:
        """Item vectors, followed by the bias."""
        rows = look_up(self.item_embedding, items)
        return torch.cat((rows, self.item_bias[items][..., None]), dim=-1)

    def examples(
        self, clicks: Int[Tensor, "batch length"], targets: Int[Tensor, "batch length"]
    ) -> tuple[Int[Tensor, "batch longer"], Int[Tensor, "batch longer"]]:
        """Every click of a window is a target, including the first."""
        return every_click(clicks, targets)
