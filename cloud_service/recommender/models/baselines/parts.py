"""What several baselines are made of: prefixes of a window, and an MLP over pairs."""

from collections.abc import Mapping
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.recommender.models.recommender import look_up

_BLOCK = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Hidden numbers held at once when ranking all items: what a core's cache holds, or fills a GPU."""


def block_of(table: Tensor, width: int) -> int:
    """How many items to score at a time, each with so many hidden numbers."""
    return max(16, size_for(_BLOCK, table) // width)


def size_for(sizes: Mapping[str, int], tensor: Tensor) -> int:
    """The size for where a tensor is; that of a CPU where nothing is said."""
    return sizes.get(tensor.device.type, sizes["cpu"])


def prefixes(clicks: Int[Tensor, "batch length"]) -> Int[Tensor, "batch length length"]:
    """The clicks up to and with each click, padded with 0 on the right."""
    return clicks[:, None, :].expand(-1, clicks.shape[1], -1).tril()


def running_mean(
    rows: Float[Tensor, "batch length dim"], clicks: Int[Tensor, "batch length"]
) -> Float[Tensor, "batch length dim"]:
    """The mean of the rows up to and with each click; rows of padding are zero and not counted."""
    filled = (clicks > 0).cumsum(1).clamp_min(1)
    return rows.cumsum(1) / filled[..., None]


def every_click(
    clicks: Int[Tensor, "batch length"], targets: Int[Tensor, "batch length"]
) -> tuple[Int[Tensor, "batch longer"], Int[Tensor, "batch longer"]]:
    """All clicks of a window as targets, for models that do not predict from clicks.

    The first click of a window is nobody's next click, and with five clicks a user a model that
    skips it misses a fifth of what it can learn.
    """
    all_targets = torch.cat((clicks[:, :1], targets), dim=1)
    return functional.pad(clicks, (1, 0)), all_targets


def projected(
    layer: nn.Linear,
    table: Float[Tensor, "rows dim"],
    items: Int[Tensor, "n count"],
    training: bool,
) -> Float[Tensor, "n count width"]:
    """A layer's output for some rows of a table, the cheaper way round.

    A training step has more candidates than the table rows; a device has a few.
    """
    return look_up(layer(table), items) if training else layer(look_up(table, items))


def row_dropout(
    x: Float[Tensor, "*rows count width"], share: float, training: bool
) -> Float[Tensor, "*rows count width"]:
    """Dropout that spares or drops a number for all candidates of a row alike.

    They are compared with each other, so what one lacks all should; and a mask of every pair took
    a quarter of a training step to draw.
    """
    if not training or not share:
        return x
    return x * functional.dropout(x.new_ones(*x.shape[:-2], 1, x.shape[-1]), share)


class PairMLP(nn.Module):
    """An MLP over a state and an item, whose first layer is cut into a part of each.

    W [s; i] + b = W_s s + b + W_i i: what belongs to the state is worked out once a row, what
    belongs to the item once an item, and a pair pays for a sum and the later layers alone. Each
    layer is half as wide as the one before, as in He et al. (2017), and ReLU follows each.
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
        """What leaves the last layer, from the sum of the two parts of the first (changed)."""
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
        """`forward` times `weight` for all pairs of state parts and item parts.

        A row and a block of items at a time: the hidden numbers of all pairs together would be
        gigabytes, and those of a block never leave the cache.
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
