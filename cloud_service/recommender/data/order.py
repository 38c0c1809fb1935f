"""Identical rows of a log, and the order of clicks that share a time."""

from hashlib import blake2b

import numpy as np
import polars as pl
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]
Bool = NDArray[np.bool_]

_KEY = b"the order of clicks that share a time"


def tied(users: Int64, times: Int64) -> Bool:
    """Marks clicks with the same time as another click of their user; input sorted by both."""
    repeats_time = _same_as_before(users, times)
    shared = repeats_time.copy()
    shared[:-1] |= repeats_time[1:]
    return shared


def first_of_identical(users: Int64, items: Int64, times: Int64) -> Bool:
    """False for rows with the user, item and time of an earlier row; input sorted as for `tied`."""
    is_first = np.ones(len(users), bool)
    index = np.flatnonzero(tied(users, times))
    if len(index):
        groups = np.cumsum(~_same_as_before(users, times))[index]
        keys = groups * (int(items.max()) + 1) + items[index]
        is_first[index] = False
        is_first[index[np.unique(keys, return_index=True)[1]]] = True
    return is_first


def shuffled_ties(
    users: Int64, items: Int64, times: Int64, user_ids: pl.Series, item_ids: pl.Series
) -> Int64:
    """A permutation of all clicks that shuffles those of one user at one time, (clicks,).

    A keyed hash of user, item and time decides: the same clicks have the same order on every
    machine, whatever the order of the file, and no item comes before another in general.

    Args:
        users, items, times: sorted by user, then time.
        user_ids, item_ids: the ids that `users` and `items` are codes of.
    """
    order = np.arange(len(users), dtype=np.int64)
    index = np.flatnonzero(tied(users, times))
    if len(index):
        groups = np.cumsum(~_same_as_before(users, times))[index]
        mixed = _mix(_hashes(users[index], user_ids, b"user"))
        mixed = _mix(mixed + _hashes(items[index], item_ids, b"item"))
        mixed = _mix(mixed + times[index].astype(np.uint64))
        order[index] = index[np.lexsort((items[index], mixed, groups))]
    return order


def newest(users: Int64, count: int) -> Bool:
    """Marks the last `count` clicks of each user; input sorted by user."""
    last_rows = np.cumsum(np.bincount(users)) - 1
    newest_clicks: Bool = np.arange(len(users)) > last_rows[users] - count
    return newest_clicks


def _same_as_before(users: Int64, times: Int64) -> Bool:
    repeats_time = np.zeros(len(users), bool)
    repeats_time[1:] = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    return repeats_time


def _hashes(codes: Int64, texts: pl.Series, role: bytes) -> UInt64:
    """A keyed hash of the id behind each code."""
    used, index = np.unique(codes, return_inverse=True)
    digests = b"".join(
        blake2b(text.encode(), digest_size=8, key=_KEY, person=role).digest()
        for text in texts.gather(used).to_list()
    )
    return np.frombuffer(digests, "<u8").astype(np.uint64)[index]


def _mix(value: UInt64) -> UInt64:
    """The finalizer of splitmix64: every bit of `value` changes half of the result's bits."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
