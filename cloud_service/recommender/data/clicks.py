"""Numbered clicks in one flat array per column, and the leave-one-out split of them."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cloud_service.recommender.data.checks import LogChecks, split_cautions
from cloud_service.recommender.recipe import Seen
from shared.errors import DataError

PADDING = 0
"""The item number that is no item."""

MIN_SPLIT = 3
"""Clicks a user needs: one to train on, one to validate, one to test."""

_REPEATS = 0.01
"""A user repeats items if at least this share of the training clicks are repeats."""
_REPEATING_USERS = 0.1
"""If fewer users repeat items, `seen="auto"` leaves clicked items out of rankings."""

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ClickLog:
    """The clicks of all users in one array: user after user, each in order of time.

    Item number n (from 1; 0 is padding) is `item_ids[n - 1]`. User row u (from 0) is
    `user_ids[u]` and owns the flat positions `offsets[u]` up to, not including, `offsets[u + 1]`.

    Attributes:
        name: of the data set.
        synthetic: the clicks were generated.
        preprocessing: filters and repetitions, in words.
        item_ids: sorted by their UTF-8 bytes.
        items: item numbers, (clicks,) int32.
        timestamps: (clicks,) int64; ordered within a user, of the source's unit.
        offsets: (users + 1,) int64.
        user_ids: sorted by their UTF-8 bytes.
        titles: one per item of `item_ids` ("" where it has none), or None if no item has one.
        cautions: what makes figures on the log doubtful, one clause each.
        checks: counts behind the cautions; None if the log was not made by `prepare`.
        agreed: which users agreed that samples of their clicks may be handed out, (users,); None
            if the log has no column of consent.
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
    checks: LogChecks | None = None
    agreed: NDArray[np.bool_] | None = None

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
        """The sha256, in hex, of everything that training reads."""
        sha256 = hashlib.sha256()
        for array in (self.items, self.timestamps, self.offsets):
            sha256.update(np.ascontiguousarray(array).tobytes())
        sha256.update("\0".join(self.item_ids).encode("utf-8", "surrogatepass"))
        return sha256.hexdigest()

    def sequence(self, user: int) -> Int32:
        """The item numbers of user row `user`, oldest first; a view."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]


@dataclass(frozen=True, eq=False)
class Split:
    """Leave-one-out: each training user's last click tests, the click before it validates.

    All other clicks train. Replay users are in none of these parts: their clicks are played one
    by one to simulated devices, and no model learns from them. All positions are flat positions
    in `log.items`, in the order of `train_users`.

    Attributes:
        train_users: rows of the users trained and tested on, ascending, int64.
        replay_users: rows of the users held out altogether, ascending, int64.
        description: the split, in words.
        seen_left_out: rankings of all items leave out the items that the user clicked before.
        cautions: those of the log, and those of this split.
    """

    log: ClickLog
    train_users: Int64
    replay_users: Int64
    description: str
    seen_left_out: bool = False
    cautions: tuple[str, ...] = ()

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
        """Whether almost no user repeats items in the training clicks.

        A user repeats items if at least 1% of the user's training clicks are repeats. The property
        is true if this holds for fewer than 10% of the users with two training clicks or more, or
        for a single user only.
        """
        counts = self.stops - self.starts
        rows = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        width = self.log.item_count + 1
        different = np.unique(rows * width + self.log.items[self.train_positions])
        repeats = counts - np.bincount(different // width, minlength=len(counts))
        repeating_users = int(((repeats > 0) & (repeats >= _REPEATS * counts)).sum())
        return repeating_users <= 1 or repeating_users < _REPEATING_USERS * int((counts > 1).sum())

    def train_counts(self) -> Int64:
        """How often each item was clicked in training, (items + 1,); entry 0 is padding's, 0."""
        return np.bincount(
            self.log.items[self.train_positions], minlength=self.log.item_count + 1
        ).astype(np.int64)


def ranges(starts: Int64, stops: Int64) -> Int64:
    """Concatenates half-open ranges: [2, 5) and [7, 8) give 2, 3, 4, 7."""
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
        length: maximum number of clicks.

    Returns:
        (n, length) int32, padded with 0 on the right.
    """
    count = np.minimum(positions - starts, length)
    steps = np.arange(length, dtype=np.int64)
    index = (positions - count)[:, None] + steps
    filled = steps < count[:, None]
    index[~filled] = 0
    return np.where(filled, items[index], np.int32(PADDING)).astype(np.int32, copy=False)


def split(
    log: ClickLog, *, holdout_users: float = 0.0, seed: int = 0, seen: Seen = "auto"
) -> Split:
    """Splits a log leave-one-out; holds a random share of the users out for replay.

    Items that only held-out users clicked stay in the catalogue, without a training click.

    Args:
        holdout_users: the share of users to hold out, at least 0 and below 1; rounded to whole
            users, at least one user where it is above 0.
        seen: whether rankings of all items contain the items that the user clicked before.
            `auto` leaves them out if almost no user repeats items (`nobody_clicks_twice`).

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
    description = "leave-one-out (last click test, the one before validation, the rest training)"
    if held:
        description += f"; {held:,} random users (seed {seed}) held out of it for replay"
    result = Split(log, np.sort(order[held:]), np.sort(order[:held]), description)
    left_out = seen == "left-out" or (seen == "auto" and result.nobody_clicks_twice)
    if left_out:
        description += "; items clicked before left out of rankings"
    same_again, before = _clicked_again(result)
    new_cautions = split_cautions(same_again=same_again, seen_before=before, seen_left_out=left_out)
    return replace(
        result,
        description=description,
        seen_left_out=left_out,
        cautions=(*log.cautions, *new_cautions),
    )


def _clicked_again(log_split: Split) -> tuple[float, float]:
    """Shares of test clicks on the item of the click just before, and on any earlier item."""
    tests, items = log_split.test_positions, log_split.log.items
    targets = np.repeat(items[tests], tests - log_split.starts)
    rows = np.repeat(np.arange(len(tests), dtype=np.int64), tests - log_split.starts)
    on_target = items[ranges(log_split.starts, tests)] == targets
    seen = np.bincount(rows, on_target, minlength=len(tests)) > 0
    return float((items[tests] == items[tests - 1]).mean()), float(seen.mean())
