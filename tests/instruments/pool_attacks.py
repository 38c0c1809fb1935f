"""Attacks on samples that were handed out: what they tell of the users behind them.

The attacker has the bundle, as every device has it, and can compute the state after any clicks.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Int64 = NDArray[np.int64]

SAME = 1e-4
"""Cosine distance up to which two states are the same but for rounding to int8."""


class Recovery(NamedTuple):
    """Shares of clicks that an attacker names rightly, means over samples.

    Attributes:
        last_at_1: the user's last click before the sample, as the first guess.
        last_at_10: the same, among ten guesses.
        window_at_10: of the clicks that the state was computed from, those among ten guesses.
    """

    last_at_1: float
    last_at_10: float
    window_at_10: float


def last_clicks(windows: Int64) -> Int64:
    """The last click of each window, (n,); `windows` are rows (n, L), then zeros."""
    counts = (windows > 0).sum(axis=1)
    last: Int64 = windows[np.arange(len(windows)), counts - 1]
    return last


def invert(
    own: Floats, own_windows: Int64, seen: Floats, windows: Int64, item_units: Floats
) -> Recovery:
    """Guesses the clicks behind the vectors `seen`, (n, F), from those of users the attacker knows.

    A ridge regression from a vector to the direction of the last click's item, and to the mean of
    the window's; the guesses are the nearest items. `own` and `own_windows` are what it is fitted
    on; `item_units` are the directions of all items, (V + 1, D).
    """
    guesses = _nearest_items(own, item_units[last_clicks(own_windows)], seen, item_units)
    last = last_clicks(windows)[:, None]
    weights = (own_windows > 0)[..., None]
    means = (item_units[own_windows] * weights).sum(axis=1) / weights.sum(axis=1)
    in_window = _nearest_items(own, means, seen, item_units)
    named = (windows[:, :, None] == in_window[:, None, :]).any(axis=2) & (windows > 0)
    return Recovery(
        float((guesses[:, :1] == last).mean()),
        float((guesses == last).any(axis=1).mean()),
        float((named.sum(axis=1) / (windows > 0).sum(axis=1)).mean()),
    )


def membership_auc(
    pool_states: Floats,
    pool_rows: Int64,
    states: Floats,
    rows: Int64,
    users: Int64,
    members: NDArray[np.bool_],
) -> float:
    """How well an attacker tells whose history is in a pool: 0.5 is a guess, 1 is certainty.

    The attacker knows whole histories, computes the sample of each click, and looks for the nearest
    state in the pool with the same item. Users are ordered by the mean of these cosines, or by the
    share of samples that are in the pool as they are, up to rounding: whichever tells more.
    `users` (n,) are numbered from 0, `members` (users,) says who is in the pool.
    """
    units, pool_units = _units(states), _units(pool_states)
    closeness = np.full(len(rows), -1.0)
    for row in np.unique(pool_rows):
        ours, theirs = np.flatnonzero(rows == row), np.flatnonzero(pool_rows == row)
        for at in range(0, len(ours), 1024):
            chunk = ours[at : at + 1024]
            closeness[chunk] = (units[chunk] @ pool_units[theirs].T).max(axis=1)
    counts = np.bincount(users, minlength=len(members))
    signs = closeness, (closeness > 1.0 - SAME).astype(float)
    return max(_auc(np.bincount(users, sign, len(members)) / counts, members) for sign in signs)


def _auc(scores: NDArray[np.float64], members: NDArray[np.bool_]) -> float:
    """The probability that a member has the larger score; ties count half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    inside = int(members.sum())
    outside = len(members) - inside
    return float((ranks[members].sum() - inside * (inside + 1) / 2) / (inside * outside))


def _nearest_items(own: Floats, targets: Floats, seen: Floats, item_units: Floats) -> Int64:
    """The ten items nearest to what a regression from `own` to `targets` says of `seen`."""
    inputs = np.column_stack([own, np.ones(len(own))])
    gram = inputs.T @ inputs + np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, inputs.T @ targets)
    nearest = []
    for at in range(0, len(seen), 1024):
        chunk = seen[at : at + 1024]
        guess = np.column_stack([chunk, np.ones(len(chunk))]) @ weights
        scores = guess.astype(np.float32) @ item_units.T
        scores[:, 0] = -np.inf
        best = np.argpartition(-scores, 10, axis=1)[:, :10]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        nearest.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(nearest)


def _units(vectors: Floats) -> Floats:
    units: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return units
