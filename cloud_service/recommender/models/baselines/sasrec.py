"""SASRec (Kang and McAuley, ICDM 2018): a causal transformer over the clicks."""

from jaxtyping import Float, Int
from torch import Tensor

from cloud_service.recommender.models.recommender import Tied, item_table, look_up
from cloud_service.recommender.models.transformer import CausalTransformer


class SASRec(Tied):
    """Item embedding (V+1, D) times sqrt(D), learned positions, pre-norm blocks, a last norm.

    The item embedding also scores, unscaled. Differs from the paper: the MLP of a block is four
    times as wide as the model and has GELU (the paper's: as wide, ReLU), keys and values are
    normalised as the queries are, positions are counted from the left, and the recipe decides the
    loss: the full softmax is far better than the paper's single negative.
    """

    def __init__(
        self, items: int, *, length: int, dim: int, heads: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.items, self.length = items, length
        self.item_embedding = item_table(items, dim)
        self.scale = dim**0.5
        self.encoder = CausalTransformer(length, dim, heads, layers, dropout)

    def states(
        self, clicks: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length dim"]:
        """The encoder's output at every click. `users` is not read.

        Padding needs no mask: it follows the clicks, and attention is causal.
        """
        out: Tensor = self.encoder(look_up(self.item_embedding, clicks) * self.scale)
        return out
