"""Counts what makes figures measured on a log doubtful, and warns where a count is high."""

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cloud_service.recommender.data.order import tied
from cloud_service.recommender.recipe import Repeats, Ties

Int64 = NDArray[np.int64]

NEAR_SECONDS: Final = 10
"""Two clicks of a user on one item within this time may be one click that was sent twice."""
FEW_USERS: Final = 100
_IDENTICAL: Final = 0.01
_NEAR: Final = 0.01
_MOSTLY_TIED: Final = 0.05
_LARGEST_USER: Final = 0.05
_LARGEST_ITEM: Final = 0.1
_TIMES_THE_MEAN: Final = 5
"""A user or an item stands out if it has at least this many times the mean number of clicks."""
_SORTED: Final = 0.9
_STEPS: Final = 100
"""With fewer steps, nothing is said about the order of item ids."""
_SAME_AGAIN: Final = 0.1
_SEEN_TESTS: Final = 0.2
_LOST_TESTS: Final = 0.01

_UNITS: Final = ((1e8, 1e10, 1), (1e11, 1e13, 10**3), (1e14, 1e16, 10**6), (1e17, 1e19, 10**9))
"""Unix times from 1973 to 2286 in seconds, milli-, micro- and nanoseconds: lower and upper bound
of the median time, and units per second."""


class LogChecks(BaseModel):
    """Counts and shares over a log. The shares are of the clicks that the filters left.

    Attributes:
        rows: rows of the log as it was read.
        identical: rows with the same user, item and time as an earlier row.
        repeats, ties: how identical rows, and clicks that share a time, were treated.
        users_cut, clicks_cut: users above `max_user_clicks`, and clicks that were dropped for it.
        near: share of clicks on an item that the same user clicked at most 10 seconds before, at
            another time; None if the times are not Unix times.
        tied: share of clicks with the same time as another click of the same user.
        users_mostly_tied: share of users for whom most clicks are tied.
        largest_user, largest_item: share of all clicks that the largest user and item have.
        largest_user_clicks, median_user_clicks: clicks of the largest and of the median user.
        ascending: share of a user's steps from an item to another one that go up in the order of
            item ids, averaged over users; None with fewer than 100 steps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    identical: int
    repeats: Repeats
    ties: Ties
    users_cut: int
    clicks_cut: int
    near: float | None
    tied: float
    users_mostly_tied: float
    largest_user: float
    largest_item: float
    largest_user_clicks: int
    median_user_clicks: float
    ascending: float | None


def near_share(users: Int64, items: Int64, times: Int64) -> float | None:
    """Computes `LogChecks.near`. The clicks may be in any order."""
    middle = float(np.median(times))
    unit = next((unit for low, high, unit in _UNITS if low <= middle < high), None)
    if unit is None:
        return None
    order = np.lexsort((times, items, users))
    steps = np.diff(times[order])
    same_pair = (np.diff(users[order]) == 0) & (np.diff(items[order]) == 0)
    return float((same_pair & (steps > 0) & (steps <= NEAR_SECONDS * unit)).sum() / len(users))


def tied_shares(users: Int64, times: Int64) -> tuple[float, float]:
    """Computes `tied` and `users_mostly_tied` of LogChecks. Users are numbered without gaps."""
    together = tied(users, times)
    share = np.bincount(users, together) / np.bincount(users)
    return float(together.mean()), float((share > 0.5).mean())


def ascending_share(users: Int64, items: Int64, item_ids: pl.Series) -> float | None:
    """Computes `LogChecks.ascending`: the more extreme share of two orders, by text and by number.

    Args:
        users, items: the clicks in order; `items` numbers `item_ids`, which are sorted by bytes.
    """
    step = (np.diff(users) == 0) & (np.diff(items) != 0)
    if step.sum() < _STEPS:
        return None
    orders = [items]
    numeric = item_ids.cast(pl.Float64, strict=False)
    if not numeric.null_count():
        orders.append(numeric.rank("ordinal").to_numpy().astype(np.int64)[items])
    owners = users[1:][step]
    steps = np.bincount(owners)
    shares = []
    for order in orders:
        ups = np.bincount(owners, np.diff(order)[step] > 0)
        shares.append(float((ups[steps > 0] / steps[steps > 0]).mean()))
    return max(shares, key=lambda share: abs(share - 0.5))


def log_cautions(checks: LogChecks, *, users: int, items: int) -> tuple[str, ...]:
    """Warnings about a log: each states a figure, what it means and what to do."""
    cautions = [
        _identical(checks),
        _near(checks),
        _tied(checks),
        _sorted(checks),
        _largest_user(checks, users),
        _largest_item(checks, items),
        _few(users),
    ]
    return tuple(caution for caution in cautions if caution)


def split_cautions(*, same_again: float, seen_before: float, seen_left_out: bool) -> list[str]:
    """Warnings about a leave-one-out split.

    Args:
        same_again: share of test clicks on the item clicked just before.
        seen_before: share of test clicks on an item that its user clicked before.
        seen_left_out: rankings leave out what the user clicked before.
    """
    cautions = []
    if seen_left_out and seen_before >= _LOST_TESTS:
        cautions.append(
            f"{seen_before:.1%} of the test clicks are on an item that its user clicked before, "
            "which rankings leave out: no model can find them; --seen ranked lets it"
        )
    elif same_again >= _SAME_AGAIN:
        cautions.append(
            f"{same_again:.1%} of the test clicks are on the item clicked just before: a model "
            "that repeats the last click finds them; look whether the log sends clicks twice"
        )
    elif not seen_left_out and seen_before >= _SEEN_TESTS:
        cautions.append(
            f"{seen_before:.1%} of the test clicks are on an item that its user clicked before, "
            "and sampled negatives never are: against these, a model that remembers looks better "
            "than it is; go by the ranking of all items"
        )
    return cautions


def _identical(checks: LogChecks) -> str:
    if not checks.identical or checks.identical < _IDENTICAL * checks.rows:
        return ""
    opening = (
        f"{checks.identical:,} of {checks.rows:,} rows repeat the user, item and time of another "
    )
    if checks.repeats == "once":
        return opening + (
            "and are not counted: look at how the file was made; --repeats all counts them, where "
            "each is a click of its own"
        )
    return opening + (
        "and count: whatever repeats the last click looks like a good model; --repeats once "
        "leaves them out"
    )


def _near(checks: LogChecks) -> str:
    if checks.near is None or checks.near < _NEAR:
        return ""
    return (
        f"{checks.near:.1%} of the clicks are on an item that the same user clicked at most "
        f"{NEAR_SECONDS} seconds before: if these are clicks sent twice, keep the first of each, "
        "or the next click is easy to foretell"
    )


def _tied(checks: LogChecks) -> str:
    if checks.users_mostly_tied < _MOSTLY_TIED:
        return ""
    opening = (
        f"most clicks of {checks.users_mostly_tied:.0%} of the users share their time with another "
        f"of the same user ({checks.tied:.1%} of all clicks): "
    )
    if checks.ties == "file":
        return opening + (
            "their order is that of the file, and figures mean what it means; if the file is "
            "sorted by anything but the order of the clicks, take --ties shuffled"
        )
    return opening + (
        "which came first is not known and was drawn, so figures say little of what is clicked "
        "next; give finer times, or --ties file if the file's order is that of the clicks"
    )


def _sorted(checks: LogChecks) -> str:
    share = checks.ascending
    if share is None or 1.0 - _SORTED < share < _SORTED:
        return ""
    direction, shown = ("up", share) if share > 0.5 else ("down", 1.0 - share)
    return (
        f"{shown:.0%} of a user's steps from item to item go {direction} in the order of item ids: "
        "the clicks look sorted by item, and a model that learns the sorting looks good; give the "
        "times of the clicks"
    )


def _largest_user(checks: LogChecks, users: int) -> str:
    share = checks.largest_user
    if share < _LARGEST_USER or share * users < _TIMES_THE_MEAN:
        return ""
    return (
        f"one user has {share:.1%} of all clicks ({checks.largest_user_clicks:,}; the median user "
        f"{checks.median_user_clicks:,.0f}): what is learned and counted is mostly of that one; "
        "leave a bot out, or set --max-user-clicks"
    )


def _largest_item(checks: LogChecks, items: int) -> str:
    share = checks.largest_item
    if share < _LARGEST_ITEM or share * items < _TIMES_THE_MEAN:
        return ""
    return (
        f"one item has {share:.1%} of all clicks: if it is no item (a home page, a missing value), "
        "leave its rows out; else compare with popularity before anything else"
    )


def _few(users: int) -> str:
    if users >= FEW_USERS:
        return ""
    return (
        f"only {users} users: one of them moves a figure by up to {1 / users:.3f}, and intervals "
        "are narrower than they should be; give more users before a model is chosen by it"
    )
