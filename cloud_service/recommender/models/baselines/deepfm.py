"""DeepFM."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cloud_service.recommender.models.baselines.parts import PairMLP, projected, running_mean
from cloud_service.recommender.models.recommender import Recommender, item_table, look_up


class DeepFM(Recommender):
    """A factorisation machine and an MLP over the same field embeddings (Guo et al., IJCAI 2017).

    Fields: user, last click, mean of the window's clicks and candidate, each with a table of its
    own, as in `FM`. As in `FM`, terms without the candidate are omitted. The model is trained to
    rank the next click by the recipe's loss, not to predict clicks on displayed items, because a
    click log does not contain what was displayed.
    """

    def __init__(
        self, items: int, users: int, *, length: int, dim: int, layers: int, dropout: float
    ) -> None:
        """`dropout` acts after each layer of the MLP."""
        super().__init__()
        self.items, self.length = items, length
        self.user_embedding = item_table(users, dim)
        self.last_embedding = item_table(items, dim)
        self.bag_embedding = item_table(items, dim)
        self.item_embedding = item_table(items, dim)
        self.item_bias = nn.Parameter(torch.zeros(items + 1))
        self.mlp = PairMLP(3 * dim, dim, dim, layers, dropout)
        self.of_mlp = nn.Parameter(torch.randn(self.mlp.out) * self.mlp.out**-0.5)

    def states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length state"]:
        """The sum of the fields' vectors, and their contribution to the MLP's first layer."""
        last_rows = look_up(self.last_embedding, clicks)
        bag = running_mean(look_up(self.bag_embedding, clicks), clicks)
        user = look_up(self.user_embedding, users)[:, None].expand_as(last_rows)
        first_layer = self.mlp.of_state(torch.cat((user, last_rows, bag), dim=-1))
        return torch.cat((user + last_rows + bag, first_layer), dim=-1)

    def score(
        self, states: Float[Tensor, "n state"], candidates: Int[Tensor, "n count"]
    ) -> Float[Tensor, "n count"]:
        """The sum of factorisation machine and MLP."""
        field_sum, first_layer = states.tensor_split((self.item_embedding.shape[1],), dim=-1)
        pairs = (look_up(self.item_embedding, candidates) @ field_sum.unsqueeze(-1)).squeeze(-1)
        items = projected(self.mlp.of_item, self.item_embedding, candidates, self.training)
        deep = self.mlp(items + first_layer[:, None]) @ self.of_mlp
        return self.item_bias[candidates] + pairs + deep

    def score_all(self, states: Float[Tensor, "n state"]) -> Float[Tensor, "n items"]:
        """A score for every item of the catalogue; column i is item i + 1."""
        field_sum, first_layer = states.tensor_split((self.item_embedding.shape[1],), dim=-1)
        table = self.item_embedding[1:]
        pairs = torch.addmm(self.item_bias[1:], field_sum, table.T)
        return pairs + self.mlp.logits(first_layer, self.mlp.of_item(table), self.of_mlp)
