"""Clicks that hold nothing to learn, disguised as logs come: repeated, tied, sorted, with a bot."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from zlib import crc32

import numpy as np
import polars as pl
from numpy.typing import NDArray

Int64 = NDArray[np.int64]

USERS = 400
ITEMS = 150
CLICKS = 9
_START = 1_700_000_000
_DAY = 86_400
_BOT_CLICKS = 2_000
_ZIPF = 0.8


@dataclass(frozen=True)
class Disguise:
    """A way that noise may look.

    Attributes:
        name: with the seed, it decides what is drawn.
        words: what it looks like, in short.
        frame: user_id, item_id and timestamp of a world.
        skewed: some items are more popular than others: chance is then popularity.
        ending: of the file.
    """

    name: str
    words: str
    frame: Callable[[np.random.Generator], pl.DataFrame]
    skewed: bool = False
    ending: str = ".csv"

    def write(self, folder: Path, seed: int) -> Path:
        """Writes the world of a seed and gives its path."""
        frame = self.frame(np.random.default_rng([crc32(self.name.encode()), seed]))
        path = folder / f"seed-{seed:02}{self.ending}"
        if self.ending == ".parquet":
            frame.write_parquet(path)
        else:
            frame.write_csv(path)
        return path


def noise(
    random: np.random.Generator, lengths: Int64 | None = None, *, exponent: float = 0.0
) -> pl.DataFrame:
    """Users who click items drawn anew, none twice: the next click hangs on nothing before it.

    Args:
        lengths: clicks of each user; 9 of each of 400 by default.
        exponent: popularity falls with an item's rank to this power; 0 is flat.
    """
    lengths = np.full(USERS, CLICKS) if lengths is None else lengths
    keys = random.gumbel(size=(len(lengths), ITEMS)) - exponent * np.log(np.arange(1, ITEMS + 1))
    drawn = np.argsort(-keys, axis=1)[:, : lengths.max()]
    is_drawn = np.arange(drawn.shape[1]) < lengths[:, None]
    # In the order of their draw the likely items would come first: a clock that can be learned.
    order = np.argsort(np.where(is_drawn, random.random(is_drawn.shape), 2.0), axis=1)
    items = np.take_along_axis(drawn, order, axis=1)[is_drawn]
    gaps = np.ceil(random.exponential(7_200, is_drawn.shape)).astype(np.int64) + 60
    begins = _START + random.integers(0, 30 * _DAY, (len(lengths), 1))
    users = np.repeat(np.arange(len(lengths)), lengths)
    return pl.DataFrame(
        {
            "user_id": [f"u{user:03}" for user in users],
            "item_id": [f"i{item:03}" for item in items],
            "timestamp": (begins + np.cumsum(gaps, axis=1))[is_drawn],
        }
    )


def _every_row_twice(random: np.random.Generator) -> pl.DataFrame:
    frame = noise(random)
    return frame[np.repeat(np.arange(frame.height), 2)]


def _three_exports(random: np.random.Generator) -> pl.DataFrame:
    frame = noise(random)
    return pl.concat([frame[random.permutation(frame.height)] for _ in range(3)])


def _one_date_sorted(random: np.random.Generator) -> pl.DataFrame:
    return noise(random).with_columns(timestamp=pl.lit("2024-05-31")).sort("user_id", "item_id")


def _days_sorted(random: np.random.Generator) -> pl.DataFrame:
    day = pl.from_epoch(pl.col("timestamp") // _DAY * _DAY).dt.strftime("%Y-%m-%d")
    return noise(random).with_columns(timestamp=day).sort("user_id", "timestamp", "item_id")


def _file_sorted_by_item(random: np.random.Generator) -> pl.DataFrame:
    hours = pl.col("timestamp") // (8 * 3_600) * (8 * 3_600)
    return noise(random).with_columns(timestamp=hours).sort("item_id", "user_id")


def _one_bot(random: np.random.Generator) -> pl.DataFrame:
    frame = noise(random)
    bot = pl.DataFrame(
        {
            "user_id": ["bot"] * _BOT_CLICKS,
            "item_id": [f"i{item:03}" for item in random.integers(0, ITEMS, _BOT_CLICKS)],
            "timestamp": _START + np.arange(_BOT_CLICKS),
        }
    )
    return pl.concat([frame, bot])


def _shifted_clocks(random: np.random.Generator) -> pl.DataFrame:
    frame = noise(random)
    ids = frame["user_id"].unique().sort()
    clocks = pl.DataFrame(
        {
            "user_id": ids,
            "shift": random.integers(-40_000 * 3_600, 40_000 * 3_600, len(ids)),
            "unit": random.choice([1, 1_000], len(ids)),
        }
    )
    time = (pl.col("timestamp") + pl.col("shift")) * pl.col("unit")
    return frame.join(clocks, "user_id").select("user_id", "item_id", timestamp=time)


def _integer_ids(random: np.random.Generator) -> pl.DataFrame:
    def number(name: str) -> pl.Expr:
        return pl.col(name).str.slice(1).cast(pl.Int64)

    time = pl.from_epoch(pl.col("timestamp")).cast(pl.Datetime("ms"))
    return noise(random).with_columns(number("user_id"), number("item_id"), timestamp=time)


def _skewed(random: np.random.Generator) -> pl.DataFrame:
    return noise(random, exponent=_ZIPF)


def _long_tail_users(random: np.random.Generator) -> pl.DataFrame:
    lengths = np.minimum(3 + np.floor(random.pareto(1.2, USERS) * 4), 45).astype(np.int64)
    return noise(random, lengths)


def _planted(random: np.random.Generator) -> pl.DataFrame:
    """No noise: every second click is the successor of the one before. A control of the control."""
    frame = noise(random)
    items = frame["item_id"].str.slice(1).cast(pl.Int64).to_numpy().copy()
    items[1::2] = (items[:-1:2] * 7 + 3) % ITEMS
    return frame.with_columns(item_id=pl.Series([f"i{item:03}" for item in items]))


DISGUISES: Mapping[str, Disguise] = MappingProxyType(
    {
        disguise.name: disguise
        for disguise in (
            Disguise("repeated-rows", "every row stands twice", _every_row_twice),
            Disguise("three-exports", "three exports of it, one after the other", _three_exports),
            Disguise("one-date", "all at one date, sorted by item", _one_date_sorted),
            Disguise("days", "dates for times, a day's clicks sorted by item", _days_sorted),
            Disguise(
                "sorted-by-item",
                "the file sorted by item, times rounded to eight hours",
                _file_sorted_by_item,
            ),
            Disguise("one-bot", "one user with 2,000 clicks beside 400 with 9", _one_bot),
            Disguise(
                "shifted-clocks",
                "every user's clock off by years, half of them in milliseconds",
                _shifted_clocks,
            ),
            Disguise(
                "integer-ids",
                "users and items by numbers that overlap, in Parquet",
                _integer_ids,
                ending=".parquet",
            ),
            Disguise("skewed", "popularity falls like Zipf's law", _skewed, skewed=True),
            Disguise("long-tail", "users of 3 to 45 clicks", _long_tail_users),
        )
    }
)
"""Ten ways that logs look, in which nothing can be learned."""

PLANTED = Disguise("planted", "every second click follows the one before", _planted)
