"""Numbering ids and dropping rare items and users, on whole arrays."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cloud_service.recommender.data.checks import LogChecks
from cloud_service.recommender.recipe import Ties

Int64 = NDArray[np.int64]


def numbered(column: pl.Series) -> tuple[Int64, pl.Series]:
    """Codes from 0 for the values of a string column, and the values, sorted by their bytes."""
    values = column.unique().sort()
    codes = column.cast(pl.Enum(values)).to_physical()
    return codes.to_numpy().astype(np.int64), values


def compact(codes: Int64, values: pl.Series) -> tuple[Int64, pl.Series]:
    """Renumbers codes without gaps after some values have lost all their rows."""
    used = np.bincount(codes, minlength=len(values)) > 0
    return (np.cumsum(used) - 1)[codes], values.filter(pl.Series(used))


def filter_clicks(
    users: Int64, items: Int64, *, min_item: int, min_user: int, iterate: bool
) -> tuple[Int64, str]:
    """Flat positions that the filters keep, and a sentence with what each filter removed."""
    keep = np.arange(len(users), dtype=np.int64)
    by_items = by_users = 0
    while True:
        before = len(keep)
        keep = keep[np.bincount(items[keep])[items[keep]] >= min_item]
        between = len(keep)
        keep = keep[np.bincount(users[keep])[users[keep]] >= min_user]
        by_items += before - between
        by_users += between - len(keep)
        if not iterate or len(keep) in (before, 0):
            break
    return keep, (
        f"of {len(users):,} clicks the minimum of {min_item} per item took {by_items:,}, then "
        f"the minimum of {min_user} per user took {by_users:,}"
    )


def filter_words(min_item: int, min_user: int, iterate: bool) -> str:
    """Describes the filters."""
    if min_item == 1:
        return f"users with at least {min_user} interactions"
    return (
        f"items with at least {min_item} interactions, then users with at least {min_user} left, "
        + ("repeated until stable" if iterate else "each once")
    )


def order_words(checks: LogChecks, max_user_clicks: int | None) -> str:
    """Describes what was done to identical rows and to users with many clicks."""
    clauses = []
    if checks.identical:
        counted = "and are left out" if checks.repeats == "once" else "and count"
        clauses.append(
            f"{checks.identical:,} of {checks.rows:,} rows repeat the user, item and time of "
            f"another {counted}"
        )
    if checks.clicks_cut:
        users = "1 user" if checks.users_cut == 1 else f"{checks.users_cut:,} users"
        clauses.append(
            f"of {users} only the newest {max_user_clicks:,} clicks "
            f"({checks.clicks_cut:,} left out)"
        )
    return "; ".join(clauses)


def repetition_words(users: Int64, items: Int64, times: Int64, ties: Ties) -> str:
    """Describes what makes next-item figures easier or less certain: repeats and shared times."""
    pairs = users * (int(items.max()) + 1) + items
    repeated = len(pairs) - len(np.unique(pairs))
    shared = int(((np.diff(users) == 0) & (np.diff(times) == 0)).sum())
    clauses = []
    if repeated:
        clauses.append(f"{repeated:,} of {len(pairs):,} clicks repeat an earlier user-item pair")
    if shared:
        order = "keep the file's order" if ties == "file" else "are shuffled"
        clauses.append(f"{shared:,} clicks share the time of the one before and {order}")
    return "; ".join(clauses)
