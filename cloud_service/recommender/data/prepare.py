"""Turns the clicks of a file into a click log: orders, filters, numbers and checks them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cloud_service.recommender.data.checks import (
    LogChecks,
    ascending_share,
    log_cautions,
    near_share,
    tied_shares,
)
from cloud_service.recommender.data.clicks import MIN_SPLIT, ClickLog
from cloud_service.recommender.data.consent import agreed_users
from cloud_service.recommender.data.filters import (
    compact,
    filter_clicks,
    filter_words,
    numbered,
    order_words,
    repetition_words,
)
from cloud_service.recommender.data.order import first_of_identical, newest, shuffled_ties
from cloud_service.recommender.recipe import Repeats, Ties
from shared.errors import DataError

Int64 = NDArray[np.int64]


class _Clicks(NamedTuple):
    """User numbers, item numbers and times, sorted by user, then time, (clicks,)."""

    users: Int64
    items: Int64
    times: Int64

    def at(self, chosen: NDArray[np.generic]) -> "_Clicks":
        return _Clicks(self.users[chosen], self.items[chosen], self.times[chosen])


def prepare(
    frame: pl.DataFrame,
    *,
    name: str,
    synthetic: bool = False,
    titles: Mapping[str, str] | None = None,
    ties: Ties = "shuffled",
    repeats: Repeats = "once",
    max_user_clicks: int | None = None,
    min_item: int = 1,
    min_user: int = MIN_SPLIT,
    iterate: bool = False,
    source: str = "",
    cautions: Sequence[str] = (),
) -> ClickLog:
    """Orders and filters the clicks of `read_log`, and numbers the users and items that are left.

    Args:
        frame: user_id, item_id, timestamp, and agreed where the log has it; sorted by user, then
            timestamp, as `read_log` does.
        ties: order of one user's clicks that share a time: shuffled, so that nothing can be
            learned from it (see `shuffled_ties`), or as in the frame.
        repeats: whether rows with the same user, item and time count once or all.
        max_user_clicks: number of newest clicks to keep of each user; None keeps all.
        min_item: then items with fewer interactions are removed.
        min_user: then users with fewer interactions left are removed; at least 3.
        iterate: repeat both until stable (a k-core), instead of once each.
        source: describes earlier processing; `preprocessing` begins with it.
        cautions: notes from reading the log; the log's cautions begin with them.

    Raises:
        DataError: the filters make no sense, or leave fewer than two users or two items.
    """
    _check_filters(min_item, min_user, max_user_clicks)
    users, user_ids = numbered(frame["user_id"])
    items, item_ids = numbered(frame["item_id"])
    read = _Clicks(users, items, frame["timestamp"].to_numpy().astype(np.int64))
    _check_sorted(read)
    agreed = agreed_users(frame, users)
    clicks, identical = _without_identical(read, repeats)
    if ties == "shuffled":
        order = shuffled_ties(*clicks, user_ids, item_ids)
        clicks = clicks._replace(items=clicks.items[order])
    clicks, cut = _newest(clicks, max_user_clicks)
    keep, story = filter_clicks(*clicks[:2], min_item=min_item, min_user=min_user, iterate=iterate)
    clicks = clicks.at(keep)
    if agreed is not None:
        agreed = agreed[np.unique(clicks.users)]
    users, user_ids = compact(clicks.users, user_ids)
    items, item_ids = compact(clicks.items, item_ids)
    if len(user_ids) < 2 or len(item_ids) < 2:
        raise DataError(
            f"The filters leave {len(user_ids):,} users and {len(item_ids):,} items of {name} "
            f"({story}): lower min_item or min_user, or give more clicks."
        )
    clicks = _Clicks(users, items, clicks.times)
    checks = LogChecks(
        rows=len(read.users),
        identical=identical,
        repeats=repeats,
        ties=ties,
        users_cut=int((cut > 0).sum()),
        clicks_cut=int(cut.sum()),
        **_shares(clicks, item_ids),
    )
    clauses = [
        source,
        order_words(checks, max_user_clicks),
        filter_words(min_item, min_user, iterate),
        repetition_words(*clicks, ties),
    ]
    lengths = np.bincount(users)
    return ClickLog(
        name=name,
        synthetic=synthetic,
        preprocessing="; ".join(clause for clause in clauses if clause),
        item_ids=tuple(item_ids.to_list()),
        items=(items + 1).astype(np.int32),
        timestamps=clicks.times,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        user_ids=tuple(user_ids.to_list()),
        titles=_titles(item_ids, titles),
        cautions=(*cautions, *log_cautions(checks, users=len(user_ids), items=len(item_ids))),
        checks=checks,
        agreed=agreed,
    )


def _without_identical(clicks: _Clicks, repeats: Repeats) -> tuple[_Clicks, int]:
    """The clicks that count, and the number of rows that repeat an earlier one."""
    is_first = first_of_identical(*clicks)
    identical = len(is_first) - int(is_first.sum())
    return (clicks.at(is_first) if identical and repeats == "once" else clicks), identical


def _newest(clicks: _Clicks, count: int | None) -> tuple[_Clicks, Int64]:
    """The last `count` clicks of each user, and the number that each user lost."""
    before = np.bincount(clicks.users)
    if count is not None:
        clicks = clicks.at(newest(clicks.users, count))
    return clicks, before - np.bincount(clicks.users)


def _shares(clicks: _Clicks, item_ids: pl.Series) -> dict[str, float | None]:
    """The fields of LogChecks that describe the filtered clicks."""
    users, items, times = clicks
    by_user, by_item = np.bincount(users), np.bincount(items)
    shared, mostly = tied_shares(users, times)
    return {
        "near": near_share(users, items, times),
        "tied": shared,
        "users_mostly_tied": mostly,
        "largest_user": float(by_user.max() / len(users)),
        "largest_item": float(by_item.max() / len(users)),
        "largest_user_clicks": int(by_user.max()),
        "median_user_clicks": float(np.median(by_user)),
        "ascending": ascending_share(users, items, item_ids),
    }


def _check_filters(min_item: int, min_user: int, max_user_clicks: int | None) -> None:
    if min_user < MIN_SPLIT:
        raise DataError(
            f"min_user is {min_user}, but a user needs {MIN_SPLIT} clicks to be split into "
            f"training, validation and test: give at least {MIN_SPLIT}."
        )
    if min_item < 1:
        raise DataError(f"min_item is {min_item}: give at least 1.")
    if max_user_clicks is not None and max_user_clicks < min_user:
        raise DataError(
            f"max_user_clicks is {max_user_clicks}, below min_user ({min_user}), and would leave "
            f"nobody: give at least {min_user}."
        )


def _check_sorted(clicks: _Clicks) -> None:
    steps = np.diff(clicks.users)
    if (steps < 0).any() or ((steps == 0) & (np.diff(clicks.times) < 0)).any():
        raise ValueError("the clicks must be sorted by user, then timestamp, as read_log does")


def _titles(item_ids: pl.Series, titles: Mapping[str, str] | None) -> tuple[str, ...] | None:
    aligned = tuple(titles.get(item, "") for item in item_ids) if titles else ()
    return aligned if any(aligned) else None
