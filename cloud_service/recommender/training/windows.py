"""Training windows: the training clicks of all users, cut so that every click is a target once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_service.recommender.data.clicks import Split, ranges

Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows of one epoch, shuffled.

    Attributes:
        starts: flat position of each window's first input click, (n,).
        lengths: input clicks of each window, 1 to the model's length, (n,).
        users: user row of each window, (n,).
    """

    starts: Int64
    lengths: Int64
    users: Int64

    def __len__(self) -> int:
        return len(self.starts)


def cut_windows(split: Split, length: int, random: np.random.Generator) -> Windows:
    """Cuts every training sequence into windows of at most `length` input clicks.

    A user with more clicks than one window holds is cut at a random phase, anew each epoch, so
    that no click always stands at the beginning. The target of a click is the one after it; the
    last training click is a target only.
    """
    pairs = np.maximum(split.stops - split.starts - 1, 0)
    phase = random.integers(0, length, len(pairs))
    phase[pairs <= length] = 0
    first_length = np.where(phase > 0, np.minimum(phase, pairs), np.minimum(length, pairs))
    more = -(-(pairs - first_length) // length)
    count = np.where(pairs > 0, 1 + more, 0)
    user = np.repeat(np.arange(len(pairs)), count)
    window_index = ranges(np.zeros_like(count), count)
    begin = np.where(window_index == 0, 0, first_length[user] + (window_index - 1) * length)
    window_end = np.minimum(first_length[user] + window_index * length, pairs[user])
    order = random.permutation(len(user))
    return Windows(
        (split.starts[user] + begin)[order],
        (window_end - begin)[order],
        split.train_users[user][order],
    )


def gather(
    items: NDArray[np.int32], starts: Int64, lengths: Int64
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Inputs and targets (n, longest) of some windows, padded with 0 on the right."""
    steps = np.arange(lengths.max(), dtype=np.int64)
    index = starts[:, None] + steps
    filled = steps < lengths[:, None]
    index[~filled] = 0
    inputs = np.where(filled, items[index], 0).astype(np.int64)
    targets = np.where(filled, items[index + 1], 0).astype(np.int64)
    return inputs, targets


class TrainingNegatives:
    """Draws items that a user has no training click on."""

    def __init__(self, split: Split) -> None:
        self._width = split.log.item_count + 1
        rows = np.repeat(split.train_users, split.stops - split.starts)
        self._known = np.unique(rows * self._width + split.log.items[split.train_positions])

    def draw(self, users: Int64, count: int, random: np.random.Generator) -> Int64:
        """(n, count) item numbers for some user rows (n,).

        Redrawn up to 20 times: a user who knows nearly everything may keep a few of his own.
        """
        drawn = random.integers(1, self._width, (len(users), count), dtype=np.int64)
        flat, owners = drawn.reshape(-1), np.repeat(users, count)
        looked_at = np.arange(len(flat))
        for _ in range(20):
            looked_at = looked_at[self._knows(owners[looked_at], flat[looked_at])]
            if not len(looked_at):
                break
            flat[looked_at] = random.integers(1, self._width, len(looked_at), dtype=np.int64)
        return drawn

    def _knows(self, users: Int64, items: Int64) -> NDArray[np.bool_]:
        keys = users * self._width + items
        slots = np.minimum(np.searchsorted(self._known, keys), len(self._known) - 1)
        return self._known[slots] == keys
