"""Three spans of a log: the bundle's clicks, those that choose settings, those that are reported.

A bundle is made at a moment t1. From then on every click of every device is ranked first and
learned from after. Between t1 and t2 settings are chosen; what is after t2 is reported once.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from cloud_service.recommender.data.clicks import MIN_SPLIT, ClickLog, ranges
from shared.errors import DataError

Cut = Literal["time", "position"]
"""`time`: t1 and t2 are moments of the log. `position`: each user's own, by share of the clicks; a
bundle then knows what other users clicked later."""

BUNDLE, CHOICE, TEST = 0, 1, 2
FIRST: Final = 3
"""The span of a user's first click: nothing ranks it."""
SHARES: Final = (0.5, 0.7)
"""Shares of the clicks before t1 and before t2."""

Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Spans:
    """The clicks of a log that a bundle's catalogue knows, and where each belongs.

    Attributes:
        bundle: clicks before t1 of users with at least 3 of them, with a catalogue of its own.
        items: item numbers in that catalogue, user after user, (clicks,) int32.
        times: (clicks,) int64.
        offsets: (users + 1,).
        is_known: whether the bundle was trained on a user, (users,).
        before: clicks of each user before t1 and before t2, (users, 2).
        unknown: clicks on items that the bundle does not know, in each of the three spans.
        has_times: whether times are real: only then do clicks that share one form a basket.
    """

    bundle: ClickLog
    items: NDArray[np.int32]
    times: Int64
    offsets: Int64
    is_known: NDArray[np.bool_]
    before: Int64
    unknown: tuple[int, int, int]
    has_times: bool

    @cached_property
    def users(self) -> Int64:
        """The user of each click, (clicks,)."""
        counts = np.diff(self.offsets)
        return np.repeat(np.arange(len(counts), dtype=np.int64), counts)

    @cached_property
    def span(self) -> Int64:
        """The span of each click: BUNDLE, CHOICE, TEST or FIRST, (clicks,)."""
        place = np.arange(len(self.items)) - self.offsets[self.users]
        first, second = self.before[self.users].T
        span = np.where(place < first, BUNDLE, np.where(place < second, CHOICE, TEST))
        span[self.basket == self.offsets[self.users]] = FIRST
        return np.asarray(span, np.int64)

    @cached_property
    def basket(self) -> Int64:
        """The first click of each click's basket, (clicks,)."""
        position = np.arange(len(self.items), dtype=np.int64)
        if not self.has_times:
            return position
        opens = np.ones(len(self.items), bool)
        opens[1:] = (np.diff(self.times) != 0) | (np.diff(self.users) != 0)
        return np.asarray(np.maximum.accumulate(position * opens), np.int64)

    def chosen(self, span: int) -> Int64:
        """The clicks of a span, ascending."""
        return np.flatnonzero(self.span == span)


def moments_after_bundle(spans: Spans, every: int) -> Int64:
    """Events that open a basket after t1, of each user one every so many new clicks."""
    is_open = spans.basket == np.arange(len(spans.items))
    opens = np.flatnonzero(is_open & (spans.span != BUNDLE) & (spans.span != FIRST))
    moments: list[int] = []
    last_user, last_at = -1, 0
    for event in opens.tolist():
        user = int(spans.users[event])
        if user != last_user or event - last_at >= every:
            moments.append(event)
            last_user, last_at = user, event
    return np.array(moments, np.int64)


def of_users(spans: Spans, count: int | None, seed: int = 0) -> Spans:
    """The spans of so many random users; the bundle stays that of all."""
    users = len(spans.offsets) - 1
    if count is None or count >= users:
        return spans
    kept = np.sort(np.random.default_rng(seed).permutation(users)[:count])
    clicks = ranges(spans.offsets[kept], spans.offsets[kept + 1])
    counts = np.diff(spans.offsets)[kept]
    return replace(
        spans,
        items=spans.items[clicks],
        times=spans.times[clicks],
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        is_known=spans.is_known[kept],
        before=spans.before[kept],
    )


def cut_spans(log: ClickLog, cut: Cut, *, has_times: bool) -> Spans:
    """Cuts a log into spans. Raises DataError where no user is left to train on."""
    before = np.stack([_before(log, cut, share) for share in SHARES], axis=1)
    bundle, trained, number = _bundle(log, before[:, 0])
    rows = np.repeat(np.arange(log.user_count, dtype=np.int64), log.lengths)
    place = np.arange(log.click_count) - log.offsets[rows]
    items = number[log.items]
    is_item = items > 0
    first, second = before[rows].T
    span = np.where(place < first, BUNDLE, np.where(place < second, CHOICE, TEST))
    missing = np.bincount(span[~is_item], minlength=3)
    kept = np.stack(
        [np.bincount(rows[is_item & (span < limit)], minlength=log.user_count) for limit in (1, 2)],
        axis=1,
    )
    counts = np.bincount(rows[is_item], minlength=log.user_count)
    return Spans(
        bundle=bundle,
        items=items[is_item].astype(np.int32),
        times=log.timestamps[is_item],
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        is_known=np.isin(np.arange(log.user_count), trained),
        before=kept.astype(np.int64),
        unknown=(int(missing[0]), int(missing[1]), int(missing[2])),
        has_times=has_times,
    )


def _before(log: ClickLog, cut: Cut, share: float) -> Int64:
    """Each user's clicks before a moment, (users,)."""
    if cut == "position":
        return np.asarray(np.floor(log.lengths * share), np.int64)
    moment = np.sort(log.timestamps)[int(share * log.click_count)]
    is_before = np.concatenate([[0], np.cumsum(log.timestamps < moment)])
    return np.asarray(is_before[log.offsets[1:]] - is_before[log.offsets[:-1]], np.int64)


def _bundle(log: ClickLog, first: Int64) -> tuple[ClickLog, Int64, Int64]:
    """The log that the bundle is trained on, its users' rows, and its number of each item."""
    users = np.flatnonzero(first >= MIN_SPLIT)
    if len(users) < 2:
        raise DataError(
            f"Fewer than two users of {log.name} have {MIN_SPLIT} clicks before the bundle is made:"
            " use a longer log."
        )
    begin = log.offsets[users]
    positions = ranges(begin, begin + first[users])
    is_item = np.zeros(log.item_count + 1, bool)
    is_item[log.items[positions]] = True
    number = np.where(is_item, np.cumsum(is_item), 0).astype(np.int64)
    bundle = replace(
        log,
        items=number[log.items[positions]].astype(np.int32),
        timestamps=log.timestamps[positions],
        offsets=np.concatenate([[0], np.cumsum(first[users])]).astype(np.int64),
        user_ids=tuple(log.user_ids[user] for user in users),
        item_ids=tuple(
            name for name, is_in in zip(log.item_ids, is_item[1:], strict=True) if is_in
        ),
        titles=None,
        checks=None,
    )
    return bundle, users, number
