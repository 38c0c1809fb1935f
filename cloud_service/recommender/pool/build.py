"""Makes the pool of a model version: samples of the training clicks of users who agreed.

A sample is the user state before a click, computed as the device computes it without a correction,
and the item of that click. CoDA (Gu et al., arXiv 2201.10382) has a pool of everyone's samples in
the cloud; how it protects users is not published, and what is done here is our own.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cloud_service.recommender.data.clicks import Split, recent
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.pool.anonymity import (
    microaggregates,
    pool_radius,
    users_near,
)
from cloud_service.recommender.pool.inverted_lists import EXACT, make_lists, unit_rows
from cloud_service.recommender.pool.pool_file import Pool
from cloud_service.recommender.ranking.evaluate import user_states
from cloud_service.recommender.recipe import PoolRecipe

Floats = NDArray[np.float32]
Int64 = NDArray[np.int64]


class Samples(NamedTuple):
    """Samples with their users, which no pool holds.

    Attributes:
        states: the user state before each click, (n, D).
        histories: directions of the clicks before each click, (n, D); see `Pool`.
        items: the clicked items, (n,).
        users: user rows of the log, (n,).
    """

    states: Floats
    histories: Floats
    items: Int64
    users: Int64


def build_pool(
    scn: SCN, split: Split, recipe: PoolRecipe, seed: int, *, exact: int = EXACT
) -> Pool | None:
    """The pool of a model; None if there is no sample that may be handed out."""
    users = sharing_users(split, recipe)
    random = np.random.default_rng(seed)
    positions, starts, owners = training_clicks(split, users, recipe.pool_limit, random)
    if not len(positions):
        return None
    samples = samples_of(scn, split, positions, starts, owners)
    pool = pool_of(samples, recipe, random, exact=exact)
    return pool if len(pool) else None


def sharing_users(split: Split, recipe: PoolRecipe) -> Int64:
    """Rows of the training users whose clicks may become samples, ascending."""
    users = split.train_users
    if recipe.pool == "all":
        return users
    if recipe.pool == "none" or split.log.agreed is None:
        return users[:0]
    return users[split.log.agreed[users]]


def samples_of(scn: SCN, split: Split, positions: Int64, starts: Int64, users: Int64) -> Samples:
    """The samples of clicks at flat positions of the log; `starts` are those of their users."""
    items = split.log.items
    with torch.no_grad():
        unknown = np.zeros(len(positions), np.int64)
        states = user_states(scn, items, starts, positions, unknown).cpu().numpy()
        table = scn.item_embedding.cpu().numpy()
    clicks = recent(items, starts, positions, scn.length)
    histories = np.empty_like(states)
    for at in range(0, len(clicks), 1 << 14):
        histories[at : at + (1 << 14)] = history_directions(table, clicks[at : at + (1 << 14)])
    return Samples(states, histories, items[positions].astype(np.int64), users)


def history_directions(table: Floats, clicks: NDArray[np.integer]) -> Floats:
    """The direction of the mean of the item vectors' directions, (n, D); `clicks` are rows (n, L).

    Row 0 of the table is padding, a row of zeros.
    """
    return unit_rows(unit_rows(table[clicks.ravel()]).reshape(*clicks.shape, -1).sum(axis=1))


def pool_of(
    samples: Samples, recipe: PoolRecipe, random: np.random.Generator, *, exact: int = EXACT
) -> Pool:
    """The samples that may be handed out, without their users, in random order."""
    units = unit_rows(samples.states)
    radius = pool_radius(units, random)
    k = recipe.pool_users
    if recipe.pool_states == "own":
        near = users_near(units, samples.items, samples.users, radius, random)
        members = np.flatnonzero(near >= k)[:, None]
    else:
        members = microaggregates(units, samples.items, samples.users, radius, k, random)
    members = members[random.permutation(len(members))]
    lengths = np.linalg.norm(samples.states, axis=1)
    state_lists = make_lists(_means(units, members), random, exact)
    members = members[state_lists.order.astype(np.int64)]
    in_order = np.arange(len(members), dtype=np.uint32)
    return Pool(
        states=state_lists._replace(order=in_order),
        lengths=lengths[members].mean(axis=1, dtype=np.float32),
        rows=samples.items[members[:, 0]].astype(np.uint32),
        histories=make_lists(_means(samples.histories, members), random, exact),
        sample_users=k,
        radius=radius,
    )


def _means(units: Floats, members: Int64) -> Floats:
    """The direction of the mean of each group's vectors, (groups, D)."""
    total = np.zeros((len(members), units.shape[1]), np.float32)
    for column in members.T:
        total += units[column]
    return unit_rows(total)


def training_clicks(
    split: Split, users: Int64, limit: int, random: np.random.Generator
) -> tuple[Int64, Int64, Int64]:
    """Training clicks with a click before: position, first position of the user, user; (n,) each.

    Validation and test clicks are in no pool, so that figures of a device that learns from one
    stay honest. Of more than `limit` clicks, so many random ones.
    """
    chosen = np.isin(split.train_users, users)
    begins, ends = split.starts[chosen], split.stops[chosen]
    counts = np.maximum(ends - begins - 1, 0)
    starts, owners = np.repeat(begins, counts), np.repeat(split.train_users[chosen], counts)
    firsts = np.repeat(np.cumsum(counts) - counts, counts)
    positions = starts + 1 + np.arange(len(starts), dtype=np.int64) - firsts
    if len(positions) > limit:
        drawn = np.sort(random.choice(len(positions), limit, replace=False))
        positions, starts, owners = positions[drawn], starts[drawn], owners[drawn]
    return positions, starts, owners
