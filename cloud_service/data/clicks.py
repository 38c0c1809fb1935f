"""Numbered clicks in one flat array per column, and the leave-one-out split of them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cloud_service.data.filters import compact, filter_words, kept, numbered, repetition_words
from shared.errors import DataError
from shared.jobs import Seen

PADDING = 0
"""The item number that is no item."""

MIN_SPLIT = 3
"""Clicks a user needs: one to train on, one to validate, one to test."""

_REPEATS = 0.01
"""Below this share of training clicks on an item clicked before, nobody clicks twice: `auto`."""

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ClickLog:
    """The clicks of all users, each user's in order of time, one user after the other.

    Item number n (from 1; 0 is padding) is `item_ids[n - 1]`. User row u (from 0) is
    `user_ids[u]` and owns the flat positions `offsets[u]` up to, not including, `offsets[u + 1]`.

    Attributes:
        name: of the data set.
        synthetic: no real person clicked.
        preprocessing: filters and repetitions, in words.
        item_ids: sorted by their UTF-8 bytes.
        items: item numbers, (clicks,) int32.
        timestamps: (clicks,) int64; ordered within a user, of the source's unit.
        offsets: (users + 1,) int64.
        user_ids: sorted by their UTF-8 bytes.
        titles: one per item of `item_ids` ("" where it has none), or None if no item has one.
        cautions: what in the log makes figures of it doubtful, a sentence each.
    """

    name: str
    synthetic: bool
    preprocessing: str
    item_ids: tuple[str, ...]
    items: Int32
    timestamps: Int64
    offsets: Int64
    user_ids: tuple[str, ...]
    titles: tuple[str, ...] | None = None
    cautions: tuple[str, ...] = ()

    @property
    def item_count(self) -> int:
        """Items in the catalogue, padding not counted."""
        return len(self.item_ids)

    @property
    def user_count(self) -> int:
        """Users with at least one click."""
        return len(self.user_ids)

    @property
    def click_count(self) -> int:
        """Clicks of all users together."""
        return len(self.items)

    @property
    def lengths(self) -> Int64:
        """Clicks of each user, (users,)."""
        return self.offsets[1:] - self.offsets[:-1]

    def digest(self) -> str:
        """A sha256 over everything that training sees, in hex."""
        found = hashlib.sha256()
        for array in (self.items, self.timestamps, self.offsets):
            found.update(np.ascontiguousarray(array).tobytes())
        found.update("\0".join(self.item_ids).encode("utf-8", "surrogatepass"))
        return found.hexdigest()

    def sequence(self, user: int) -> Int32:
        """The item numbers of user row `user`, oldest first; a view."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]


@dataclass(frozen=True, eq=False)
class Split:
    """Leave-one-out: of each training user the last click tests, the one before validates.

    The rest trains. Replay users are in neither part: their clicks are played one by one to
    simulated devices, and nothing was learned from them. All positions are flat positions in
    `log.items`, in the order of `train_users`.

    Attributes:
        train_users: rows of the users trained and tested on, ascending, int64.
        replay_users: rows of the users held out altogether, ascending, int64.
        words: the split, in words.
        seen_left_out: a ranking of all items leaves out what its user clicked before.
    """

    log: ClickLog
    train_users: Int64
    replay_users: Int64
    words: str
    seen_left_out: bool = False

    @property
    def starts(self) -> Int64:
        """The first training click of each training user."""
        return self.log.offsets[self.train_users]

    @property
    def stops(self) -> Int64:
        """One past the last training click of each training user."""
        return self.validation_positions

    @property
    def validation_positions(self) -> Int64:
        """The validation click of each training user."""
        return self.log.offsets[self.train_users + 1] - 2

    @property
    def test_positions(self) -> Int64:
        """The test click of each training user. Its history includes the validation click."""
        return self.log.offsets[self.train_users + 1] - 1

    @property
    def train_positions(self) -> Int64:
        """Every training click of every training user, ascending, (training clicks,)."""
        return ranges(self.starts, self.stops)

    @cached_property
    def nobody_clicks_twice(self) -> bool:
        """Whether next to no training click is of an item that its user clicked before."""
        positions = self.train_positions
        owners = np.repeat(self.train_users, self.stops - self.starts)
        different = np.unique(owners * (self.log.item_count + 1) + self.log.items[positions])
        return 1.0 - len(different) / max(1, len(positions)) < _REPEATS

    def train_counts(self) -> Int64:
        """How often each item was clicked in training, (items + 1,); entry 0 is padding's, 0."""
        return np.bincount(
            self.log.items[self.train_positions], minlength=self.log.item_count + 1
        ).astype(np.int64)


def ranges(starts: Int64, stops: Int64) -> Int64:
    """The numbers of all half-open ranges, one after the other: [2, 5), [7, 8) is 2, 3, 4, 7."""
    lengths = stops - starts
    ends = np.cumsum(lengths)
    shifts: Int64 = np.repeat(starts - (ends - lengths), lengths)
    return np.arange(len(shifts), dtype=np.int64) + shifts


def recent(items: Int32, starts: Int64, positions: Int64, length: int) -> Int32:
    """The last clicks before each position, of the same user, oldest first.

    Args:
        items: item numbers of all users, (clicks,).
        starts: the first flat position of the user of each position, (n,).
        positions: flat positions; the click at a position itself is not included, (n,).
        length: how many clicks at most.

    Returns:
        (n, length) int32; where there are fewer clicks, padding 0 fills the right.
    """
    count = np.minimum(positions - starts, length)
    steps = np.arange(length, dtype=np.int64)
    index = (positions - count)[:, None] + steps
    filled = steps < count[:, None]
    index[~filled] = 0
    return np.where(filled, items[index], np.int32(PADDING)).astype(np.int32, copy=False)


def prepare(
    frame: pl.DataFrame,
    *,
    name: str,
    synthetic: bool = False,
    titles: Mapping[str, str] | None = None,
    min_item: int = 1,
    min_user: int = MIN_SPLIT,
    iterate: bool = False,
    source: str = "",
    cautions: Sequence[str] = (),
) -> ClickLog:
    """Filters the clicks of `read_log` and numbers what is left.

    Args:
        frame: user_id, item_id, timestamp; sorted by user, then timestamp, as `read_log` does.
        min_item: first, items with fewer interactions go.
        min_user: then, users with fewer interactions left go; at least 3.
        iterate: repeat both until nothing more goes (a k-core), instead of once each.
        source: what was done before, in words; opens `preprocessing`.
        cautions: what is known already to make figures of the log doubtful.

    Raises:
        DataError: the filters make no sense, or leave fewer than two users or two items.
    """
    if min_user < MIN_SPLIT:
        raise DataError(
            f"min_user is {min_user}, but a user needs {MIN_SPLIT} clicks to be split into "
            f"training, validation and test: give at least {MIN_SPLIT}."
        )
    if min_item < 1:
        raise DataError(f"min_item is {min_item}: give at least 1.")
    users, user_ids = numbered(frame["user_id"])
    items, item_ids = numbered(frame["item_id"])
    times = frame["timestamp"].to_numpy().astype(np.int64)
    _check_sorted(users, times)
    keep, story = kept(users, items, min_item=min_item, min_user=min_user, iterate=iterate)
    users, user_ids = compact(users[keep], user_ids)
    items, item_ids = compact(items[keep], item_ids)
    if len(user_ids) < 2 or len(item_ids) < 2:
        raise DataError(
            f"The filters leave {len(user_ids):,} users and {len(item_ids):,} items of {name} "
            f"({story}): lower min_item or min_user, or give more clicks."
        )
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users))]).astype(np.int64)
    filters = filter_words(min_item, min_user, iterate)
    words = [source, filters, repetition_words(users, items, times[keep])]
    return ClickLog(
        name=name,
        synthetic=synthetic,
        preprocessing="; ".join(word for word in words if word),
        item_ids=tuple(item_ids.to_list()),
        items=(items + 1).astype(np.int32),
        timestamps=times[keep],
        offsets=offsets,
        user_ids=tuple(user_ids.to_list()),
        titles=_titles(item_ids, titles),
        cautions=tuple(cautions),
    )


def split(
    log: ClickLog, *, holdout_users: float = 0.0, seed: int = 0, seen: Seen = "auto"
) -> Split:
    """Leave-one-out of all users but a random share, which is kept out for replay.

    Items that only held-out users clicked stay in the catalogue, without a training click.

    Args:
        holdout_users: the share of users to hold out, at least 0 and below 1; rounded to whole
            users, at least one user where it is above 0.
        seen: whether rankings of all items hold what the user clicked before. `auto` leaves it
            out where fewer than 1 in 100 training clicks are on an item clicked before.

    Raises:
        DataError: a user has fewer than 3 clicks, or nobody is left to train on.
    """
    if not 0.0 <= holdout_users < 1.0:
        raise DataError(f"holdout_users is {holdout_users}: give a share from 0 up to below 1.")
    shortest = int(log.lengths.min(initial=MIN_SPLIT))
    if shortest < MIN_SPLIT:
        raise DataError(
            f"A user of {log.name} has {shortest} clicks, and a split needs {MIN_SPLIT}: "
            f"filter with min_user of at least {MIN_SPLIT}."
        )
    held = max(1, round(holdout_users * log.user_count)) if holdout_users else 0
    if held >= log.user_count:
        raise DataError(
            f"Holding out {held} of {log.user_count} users leaves nobody to train on: "
            "lower holdout_users or give more users."
        )
    order = np.random.default_rng(seed).permutation(log.user_count)
    words = "leave-one-out (last click test, the one before validation, the rest training)"
    if held:
        words += f"; {held:,} random users (seed {seed}) held out of it for replay"
    parts = Split(log, np.sort(order[held:]), np.sort(order[:held]), words)
    left_out = seen == "left-out" or (seen == "auto" and parts.nobody_clicks_twice)
    if left_out:
        words += "; items clicked before left out of rankings"
    return replace(parts, words=words, seen_left_out=left_out)


def _check_sorted(users: Int64, times: Int64) -> None:
    steps = np.diff(users)
    if (steps < 0).any() or ((steps == 0) & (np.diff(times) < 0)).any():
        raise ValueError("the clicks must be sorted by user, then timestamp, as read_log does")


def _titles(item_ids: pl.Series, titles: Mapping[str, str] | None) -> tuple[str, ...] | None:
    aligned = tuple(titles.get(item, "") for item in item_ids) if titles else ()
    return aligned if any(aligned) else None
