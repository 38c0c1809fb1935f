"""The correction of a `projected` model: pack and unpack it (shared/WIRE.md, shared/GRAPHS.md).

It travels in the arrays of every other correction. `bias` holds the shift of the user state;
`attn`, its h·K numbers one after the other, holds three parts of n = h·K // 3 numbers each: the
high digits of the item numbers, the low digits, and what is added to these items' scores.
"""

from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.errors import WrongLength
from shared.model import ModelSettings
from shared.wire import Array, RowCorrection

ITEM_BASE: Final = 2048
"""Item numbers travel as two digits of this base: float16 holds every integer up to it exactly."""

LARGEST_CATALOGUE: Final = ITEM_BASE**2
"""Items that a projected correction can address."""

Numbers = TypeVar("Numbers", bound=Any)
"""An array of NumPy or a tensor of torch."""


def split_item(items: Numbers) -> tuple[Numbers, Numbers]:
    """The high and the low digit of item numbers."""
    return items // ITEM_BASE, items % ITEM_BASE


def join_item(item_high: Numbers, item_low: Numbers) -> Numbers:
    """Item numbers, as floats, from their digits: the inverse of `split_item`."""
    joined: Numbers = item_high * ITEM_BASE + item_low
    return joined


@dataclass(frozen=True, slots=True)
class ProjectedCorrection:
    """What the device adds to its user state, and to the scores of a few items."""

    shift: Array
    """(D,) added to the user state before items are scored."""
    items: NDArray[np.int64]
    """(n,) item numbers; 0 where there is no item."""
    residuals: Array
    """(n,) added to the scores of `items`, on top of what `shift` does to them."""

    def pack(self, settings: ModelSettings) -> RowCorrection:
        """The compact correction that travels. The inverse of `unpack`.

        Raises WrongLength for another width of `shift`, more items than `settings.boosted_items`,
        or an item number that two digits cannot hold.
        """
        count, room = len(self.items), settings.boosted_items
        if self.shift.shape != (settings.dim,) or self.residuals.shape != (count,) or count > room:
            raise WrongLength(
                f"a projected correction of this model is a shift of {settings.dim} numbers, and "
                f"up to {room} items with a residual each"
            )
        if count and not 0 <= self.items.min() <= self.items.max() < LARGEST_CATALOGUE:
            raise WrongLength(f"item numbers go from 0 to {LARGEST_CATALOGUE - 1:,}")
        attn = np.zeros((settings.heads, settings.segment), np.float32)
        bias: Array = self.shift.reshape(settings.heads, settings.head_dim)
        correction = RowCorrection(attn, bias.astype(np.float32))
        inputs = rank_inputs(correction)
        item_high, item_low = split_item(self.items)
        inputs["higher"][:count, 0], inputs["lower"][:count, 0] = item_high, item_low
        inputs["residuals"][0, :count] = self.residuals
        return correction

    @classmethod
    def unpack(cls, correction: RowCorrection) -> "ProjectedCorrection":
        """Reads a compact correction; `items` and `residuals` have `boosted_items` entries."""
        inputs = rank_inputs(correction)
        items = join_item(inputs["higher"], inputs["lower"])[:, 0].astype(np.int64)
        return cls(inputs["shift"][0], items, inputs["residuals"][0])


def rank_inputs(correction: RowCorrection) -> dict[str, Array]:
    """The inputs of a projected model's `rank` graph, by name: views of a correction's memory.

    shift (1, D), higher (n, 1), lower (n, 1), residuals (1, n). Both arrays of `correction` must
    be contiguous, otherwise the results are copies.
    """
    packed = correction.attn.reshape(-1)
    count = len(packed) // 3
    return {
        "shift": correction.bias.reshape(1, -1),
        "higher": packed[:count].reshape(-1, 1),
        "lower": packed[count : 2 * count].reshape(-1, 1),
        "residuals": packed[2 * count : 3 * count].reshape(1, -1),
    }
