"""Neural matrix factorisation."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cloud_service.recommender.models.baselines.parts import PairMLP, every_click, projected
from cloud_service.recommender.models.recommender import Recommender, item_table, look_up


class NeuMF(Recommender):
    """A weighted product of user and item beside an MLP over both (He et al., WWW 2017).

    Fields: user and item, each with one vector for the product (GMF) and one for the MLP. Both
    parts are trained together from random weights, without the paper's pretraining, by the recipe's
    loss. The model reads no clicks: for an unknown user (0) the score depends on the item only.
    """

    def __init__(
        self, items: int, users: int, *, length: int, dim: int, layers: int, dropout: float
    ) -> None:
        """`dropout` acts after each layer of the MLP."""
        super().__init__()
        self.items, self.length = items, length
        self.user_factors, self.item_factors = item_table(users, dim), item_table(items, dim)
        self.user_embedding, self.item_embedding = item_table(users, dim), item_table(items, dim)
        self.mlp = PairMLP(dim, dim, dim, layers, dropout)
        self.of_product = nn.Parameter(torch.ones(dim))
        self.of_mlp = nn.Parameter(torch.randn(self.mlp.out) * self.mlp.out**-0.5)

    def states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length state"]:
        """The user's weighted factors, and the user's contribution to the MLP's first layer."""
        factors = look_up(self.user_factors, users) * self.of_product
        first_layer = self.mlp.of_state(look_up(self.user_embedding, users))
        return torch.cat((factors, first_layer), dim=-1)[:, None].expand(-1, clicks.shape[1], -1)

    def score(
        self, states: Float[Tensor, "n state"], candidates: Int[Tensor, "n count"]
    ) -> Float[Tensor, "n count"]:
        """The sum of product and MLP."""
        factors, first_layer = states.split((self.of_product.numel(), self.mlp.width), dim=-1)
        product = (look_up(self.item_factors, candidates) @ factors.unsqueeze(-1)).squeeze(-1)
        items = projected(self.mlp.of_item, self.item_embedding, candidates, self.training)
        return product + self.mlp(items + first_layer[:, None]) @ self.of_mlp

    def score_all(self, states: Float[Tensor, "n state"]) -> Float[Tensor, "n items"]:
        """A score for every item of the catalogue; column i is item i + 1."""
        factors, first_layer = states.split((self.of_product.numel(), self.mlp.width), dim=-1)
        items = self.mlp.of_item(self.item_embedding[1:])
        return factors @ self.item_factors[1:].T + self.mlp.logits(first_layer, items, self.of_mlp)

    def examples(
        self, clicks: Int[Tensor, "batch length"], targets: Int[Tensor, "batch length"]
    ) -> tuple[Int[Tensor, "batch longer"], Int[Tensor, "batch longer"]]:
        """Every click of a window is a target, including the first."""
        return every_click(clicks, targets)
