"""The factorisation machine."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.recommender.models.baselines.parts import running_mean
from cloud_service.recommender.models.recommender import DotProduct, item_table, look_up


class FM(DotProduct):
    """A linear term and the product of every two features' vectors (Rendle, ICDM 2010).

    Fields: user, last click, the window's clicks (as a bag: each counts 1 / their number) and
    candidate; a feature has a vector of its own in each field, so an item has three. Only the
    terms with the candidate differ between candidates,

        w_c + v_c · (v_user + v_last + mean of v_bag),

    so this is a dot product. The terms between user and clicks do not change the ranking and are
    omitted.
    """

    def __init__(self, items: int, users: int, *, length: int, dim: int, dropout: float) -> None:
        """`dropout` acts on the sum of the vectors of user and clicks."""
        super().__init__()
        self.items, self.length, self.dropout = items, length, dropout
        self.user_embedding = item_table(users, dim)
        self.last_embedding = item_table(items, dim)
        self.bag_embedding = item_table(items, dim)
        self.item_embedding = item_table(items, dim)
        self.item_bias = nn.Parameter(torch.zeros(items + 1))

    def states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length dim1"]:
        """The sum of all vectors except the candidate's, and a 1 for its linear term."""
        last_rows = look_up(self.last_embedding, clicks)
        bag = running_mean(look_up(self.bag_embedding, clicks), clicks)
        field_sum = look_up(self.user_embedding, users)[:, None] + last_rows + bag
        field_sum = functional.dropout(field_sum, self.dropout, self.training)
        return functional.pad(field_sum, (0, 1), value=1.0)

    def item_vectors(self, items: Int[Tensor, "*n"]) -> Float[Tensor, "*n dim1"]:
        """The candidates' vectors, followed by the linear term."""
        rows = look_up(self.item_embedding, items)
        return torch.cat((rows, self.item_bias[items][..., None]), dim=-1)
