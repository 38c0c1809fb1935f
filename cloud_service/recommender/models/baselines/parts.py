"""Parts that several baselines share: prefixes of a window, and an MLP over pairs."""

from collections.abc import Mapping
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.recommender.models.recommender import Recommender, look_up

_BLOCK = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Hidden values in memory when ranking all items: fits a core's cache, or fills a GPU."""


def block_of(table: Tensor, width: int) -> int:
    """Number of items to score at a time, each with `width` hidden values."""
    return max(16, size_for(_BLOCK, table) // width)


def size_for(sizes: Mapping[str, int], tensor: Tensor) -> int:
    """The size for a tensor's device; that of a CPU if the device is not listed."""
    return sizes.get(tensor.device.type, sizes["cpu"])


def prefixes(clicks: Int[Tensor, "batch length"]) -> Int[Tensor, "batch length length"]:
    """The clicks up to and including each click, padded with 0 on the right."""
    return clicks[:, None, :].expand(-1, clicks.shape[1], -1).tril()


class PrefixRecommender(Recommender):
    """A recommender whose state is the clicks so far: its score reads them."""

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


def running_mean(
    rows: Float[Tensor, "batch length dim"], clicks: Int[Tensor, "batch length"]
) -> Float[Tensor, "batch length dim"]:
    """The mean of the rows up to and including each click; padding is not counted."""
    filled = (clicks > 0).cumsum(1).clamp_min(1)
    return rows.cumsum(1) / filled[..., None]


def every_click(
    clicks: Int[Tensor, "batch length"], targets: Int[Tensor, "batch length"]
) -> tuple[Int[Tensor, "batch longer"], Int[Tensor, "batch longer"]]:
    """Makes all clicks of a window targets, for models that do not predict from clicks.

    The first click of a window is not a next click. With five clicks per user, a model that skips
    it loses a fifth of the training data.
    """
    all_targets = torch.cat((clicks[:, :1], targets), dim=1)
    return functional.pad(clicks, (1, 0)), all_targets


def projected(
    layer: nn.Linear,
    table: Float[Tensor, "rows dim"],
    items: Int[Tensor, "n count"],
    training: bool,
) -> Float[Tensor, "n count width"]:
    """A layer's output for some rows of a table, computed in the cheaper order.

    A training step has more candidates than the table has rows; a device has few.
    """
    return look_up(layer(table), items) if training else layer(look_up(table, items))


def row_dropout(
    x: Float[Tensor, "*rows count width"], share: float, training: bool
) -> Float[Tensor, "*rows count width"]:
    """Dropout with the same mask for all candidates of a row.

    The candidates are compared with each other, so all should lack the same features. A mask per
    pair took a quarter of a training step to draw.
    """
    if not training or not share:
        return x
    return x * functional.dropout(x.new_ones(*x.shape[:-2], 1, x.shape[-1]), share)


class PairMLP(nn.Module):
    """An MLP over a state and an item, whose first layer is split between the two.

    W [s; i] + b = W_s s + b + W_i i: the first term is computed once per state, the second once per
    item; a pair costs only their sum and the later layers. Each layer is half as wide as the one
    before, as in He et al. (2017), and is followed by ReLU.
    """

    def __init__(self, state: int, item: int, width: int, layers: int, dropout: float) -> None:
        """`width` is that of the first of `layers` layers; `dropout` acts after each."""
        super().__init__()
        widths = [max(4, width >> layer) for layer in range(layers)]
        self.of_state = nn.Linear(state, widths[0])
        self.of_item = nn.Linear(item, widths[0], bias=False)
        self.later = nn.ModuleList(
            nn.Linear(width_in, width_out) for width_in, width_out in pairwise(widths)
        )
        self.width, self.out, self.dropout = widths[0], widths[-1], dropout

    def forward(
        self, first_layer: Float[Tensor, "*rows count first"]
    ) -> Float[Tensor, "*rows count out"]:
        """The last layer's output, from the sum of both terms of the first (modified in place)."""
        x = row_dropout(first_layer.relu_(), self.dropout, self.training)
        for layer in self.later:
            x = row_dropout(layer(x).relu_(), self.dropout, self.training)
        return x

    def logits(
        self,
        states: Float[Tensor, "n first"],
        items: Float[Tensor, "items first"],
        weight: Float[Tensor, " out"],
    ) -> Float[Tensor, "n items"]:
        """`forward` times `weight` for all pairs of states and items.

        Computed for one state and a block of items at a time: the hidden values of all pairs would
        take gigabytes, those of a block stay in the cache.
        """
        block = block_of(items, self.width)
        return torch.stack(
            [
                torch.cat(
                    [self(block_items + state) @ weight for block_items in items.split(block)]
                )
                for state in states
            ]
        )
