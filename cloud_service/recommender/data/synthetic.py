"""Generates a log from a seed, for those who have none. The log is marked as synthetic.

Items belong to categories and have a popularity that falls like Zipf's law and a few likely
successors, mostly of their own category. Users have tastes over categories; tastes drift from
session to session. A session opens in a category of the user's taste and then goes on, from click
to click, to a successor of the last item, to something else of the category, or somewhere new.
Figures measured on such a log show that a program works, not how good it is for people.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cloud_service.recommender.data.clicks import MIN_SPLIT, ClickLog
from cloud_service.recommender.data.prepare import prepare
from shared.errors import DataError

NAME = "synthetic"

_CATEGORIES = (
    "mug plate bowl jug", "lamp lantern candle bulb", "cushion blanket rug curtain",
    "notebook pen card envelope", "scarf hat glove sock", "puzzle kite doll drum",
    "planter trowel seed-tray bird-house", "apron oven-glove rolling-pin cake-tin",
    "soap towel sponge bath-mat", "clock frame mirror vase", "bag purse wallet suitcase",
    "ribbon garland bunting wreath", "teapot kettle coaster tray", "ring bracelet necklace brooch",
    "tent flask torch compass", "hammer ladder tape drill", "brush easel palette canvas",
    "collar leash basket feeder", "speaker cable charger headset", "novel atlas cookbook diary",
)  # fmt: skip
_ADJECTIVES = (
    "Blue", "Red", "Green", "Yellow", "White", "Black", "Pink", "Grey",
    "Striped", "Dotted", "Round", "Tall", "Small", "Large", "Folding", "Wooden",
    "Glass", "Copper", "Cotton", "Vintage", "Modern", "Painted", "Plain", "Floral",
)  # fmt: skip

_POPULARITY_EXPONENT = 0.8
_SUCCESSORS = 4
_SUCCESSOR_ODDS = (0.45, 0.25, 0.18, 0.12)
_SUCCESSOR_SAME_CATEGORY = 0.9
_TASTE_CONCENTRATION = 0.15
_TASTE_KEPT = 0.8
_NEW_SESSION = 0.14
_FOLLOW = 0.62
_STAY = 0.28
_MIN_CLICKS, _MAX_FACTOR = 5, 6
_START = 1_704_067_200  # 2024-01-01 in Unix seconds
_DAY = 86_400

Float = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _World:
    """Items in rows sorted by category.

    Attributes:
        category: of each row, (items,).
        first_row: the first row of each category, (categories + 1,).
        mass: cumulative popularity, (items + 1,).
        successors: rows that tend to follow each row, (items, 4).
    """

    category: Int64
    first_row: Int64
    mass: Float
    successors: Int64


def synthetic_log(
    *,
    users: int = 4_000,
    items: int = 2_000,
    clicks_per_user: int = 40,
    seed: int = 0,
    min_item: int = 1,
    min_user: int = MIN_SPLIT,
    iterate: bool = False,
    max_user_clicks: int | None = None,
) -> ClickLog:
    """Generates a log; the same arguments give the same clicks.

    Args:
        users: number of users; each has at least 5 clicks.
        items: number of items; those that nobody clicks are not in the log.
        clicks_per_user: the mean number of clicks; single users have up to 6 times as many.
        seed: of all random numbers.
        min_item, min_user, iterate, max_user_clicks: as in `prepare`.

    Raises:
        DataError: fewer than 2 users, fewer items than 2 per category (40), or a mean below 5.
    """
    least = 2 * len(_CATEGORIES)
    if users < 2 or items < least or clicks_per_user < _MIN_CLICKS:
        raise DataError(
            f"A synthetic log needs at least 2 users, {least} items and {_MIN_CLICKS} clicks per "
            f"user, not {users}, {items} and {clicks_per_user}."
        )
    random = np.random.default_rng(seed)
    world = _make_world(random, items)
    lengths = _lengths(random, users, clicks_per_user)
    clicked, opened = _walk(random, world, lengths)
    times = _times(random, opened)
    present = np.arange(clicked.shape[1]) < lengths[:, None]
    # Item numbers do not reveal the category: a model has to learn it.
    item_numbers = random.permutation(items)
    item_ids = [f"item-{n:06d}" for n in range(1, items + 1)]
    user_ids = [f"user-{n:06d}" for n in range(1, users + 1)]
    frame = pl.DataFrame(
        {
            "user_id": pl.Series(user_ids).gather(np.repeat(np.arange(users), lengths)),
            "item_id": pl.Series(item_ids).gather(item_numbers[clicked[present]]),
            "timestamp": times[present],
        }
    )
    return prepare(
        frame,
        name=NAME,
        synthetic=True,
        titles=dict(
            zip(item_ids, _titles(random, world.category[np.argsort(item_numbers)]), strict=True)
        ),
        min_item=min_item,
        min_user=min_user,
        iterate=iterate,
        max_user_clicks=max_user_clicks,
        source=f"generated with seed {seed}: no real person clicked",
    )


def _make_world(random: np.random.Generator, items: int) -> _World:
    categories = len(_CATEGORIES)
    category = np.sort(
        np.concatenate([np.arange(categories), random.integers(0, categories, items - categories)])
    )
    popularity = random.permutation(np.arange(1, items + 1) ** -_POPULARITY_EXPONENT)
    mass = np.concatenate([[0.0], np.cumsum(popularity)])
    first_rows = np.searchsorted(category, np.arange(categories + 1))
    own_category = np.repeat(category, _SUCCESSORS)
    near = random.integers(first_rows[own_category], first_rows[own_category + 1])
    far = random.integers(0, items, len(own_category))
    inside = random.random(len(own_category)) < _SUCCESSOR_SAME_CATEGORY
    successors = np.where(inside, near, far).reshape(items, _SUCCESSORS)
    return _World(category, first_rows, mass, successors)


def _pick_popular(random: np.random.Generator, mass: Float, low: Float, high: Float) -> Int64:
    """Draws rows between two bounds of the cumulative `mass`, in proportion to popularity."""
    drawn = low + random.random(len(low)) * (high - low)
    return np.minimum(np.searchsorted(mass, drawn, side="right") - 1, len(mass) - 2)


def _lengths(random: np.random.Generator, users: int, mean: int) -> Int64:
    spread = 0.7
    drawn = random.lognormal(np.log(mean) - spread**2 / 2, spread, users)
    return np.clip(np.rint(drawn), _MIN_CLICKS, _MAX_FACTOR * mean).astype(np.int64)


def _tastes(random: np.random.Generator, users: int) -> Float:
    """Dirichlet tastes over categories, (users, categories): most users like a few."""
    drawn = random.standard_gamma(_TASTE_CONCENTRATION, (users, len(_CATEGORIES))) + 1e-12
    tastes: Float = drawn / drawn.sum(axis=1, keepdims=True)
    return tastes


def _walk(random: np.random.Generator, world: _World, lengths: Int64) -> tuple[Int64, Bool]:
    """Simulates the clicks of all users, one step at a time.

    Returns:
        item rows and whether a session opened, both (users, longest); steps past a user's length
        are zero.
    """
    users, steps = len(lengths), int(lengths.max())
    clicked = np.zeros((users, steps), np.int64)
    opened = np.zeros((users, steps), bool)
    taste = _tastes(random, users)
    topic = np.zeros(users, np.int64)
    last_item = np.zeros(users, np.int64)
    odds = np.cumsum(_SUCCESSOR_ODDS)
    for step in range(steps):
        active = np.flatnonzero(lengths > step)
        new = (random.random(len(active)) < _NEW_SESSION) | (step == 0)
        opening = active[new]
        drifted = _TASTE_KEPT * taste[opening] + (1 - _TASTE_KEPT) * _tastes(random, len(opening))
        taste[opening] = drifted
        draw = random.random(len(opening))[:, None]
        topic[opening] = np.minimum(
            (drifted.cumsum(axis=1) < draw).sum(axis=1), len(_CATEGORIES) - 1
        )
        mood = random.random(len(active))
        follow = ~new & (mood < _FOLLOW)
        explore = ~new & (mood >= _FOLLOW + _STAY)
        bounds = world.first_row[topic[active]], world.first_row[topic[active] + 1]
        low = np.where(explore, 0.0, world.mass[bounds[0]])
        high = np.where(explore, world.mass[-1], world.mass[bounds[1]])
        choice = np.searchsorted(odds, random.random(len(active)) * odds[-1], side="right")
        choice = np.minimum(choice, _SUCCESSORS - 1)
        item = _pick_popular(random, world.mass, low, high)
        item = np.where(follow, world.successors[last_item[active], choice], item)
        clicked[active, step] = item
        opened[active, step] = new
        last_item[active] = item
    return clicked, opened


def _times(random: np.random.Generator, opened: Bool) -> Int64:
    """Unix seconds, (users, steps): think times of about 20 s, sessions days apart."""
    think = 2.0 + random.lognormal(np.log(18.0), 0.9, opened.shape)
    pause = 1_800.0 + random.exponential(3.0 * _DAY, opened.shape)
    steps = np.where(opened, pause, think)
    steps[:, 0] = random.uniform(0, 60 * _DAY, len(opened))
    return _START + np.cumsum(np.ceil(steps), axis=1).astype(np.int64)


def _titles(random: np.random.Generator, category: Int64) -> list[str]:
    """One title per item, such as "Blue mug 12": the noun tells the category, no two are equal."""
    nouns = [category_nouns.split() for category_nouns in _CATEGORIES]
    noun = random.integers(0, len(nouns[0]), len(category))
    adjective = random.integers(0, len(_ADJECTIVES), len(category))
    return [
        f"{_ADJECTIVES[a]} {nouns[c][n].replace('-', ' ')} {row}"
        for row, (a, c, n) in enumerate(zip(adjective, category, noun, strict=True), 1)
    ]
