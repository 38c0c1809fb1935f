"""Pauses of users between a click and the next rerank.

A list is reranked when the user comes back to it, at some time between two clicks. A human pause is
therefore a gap between two clicks of a real log, multiplied by a uniform random share. Uniform is
an assumption; it gives rather short pauses.
"""

import csv
import gzip
import zlib
from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

GAPS_S = (
    1, 1, 17, 20, 23, 25, 27, 29, 31, 33, 36, 39, 43, 48, 54, 62, 73, 92, 126, 209, 1783,
)  # fmt: skip
"""Quantiles (0, 5, ... 100%) of the seconds between two clicks of a user in MovieLens 100K
(GroupLens; Harper and Konstan 2015): the gaps over 0 s and under 30 minutes, 46,646 of 99,057.
Made by scripts/pause_quantiles.py."""

LONGEST_MS = 600_000
SESSION_S = 30 * 60
"""A longer gap separates two sessions."""

FEWEST_GAPS = 100
EARLIEST_S, LATEST_S = 1e8, 1e11
"""Range of plausible Unix seconds (from 1973 on): excludes sequence positions and milliseconds."""


@dataclass(frozen=True)
class Pauses:
    """A distribution of pauses: `quantiles_s` at evenly spaced levels from 0 to 1, in seconds.

    `within`: a pause is a uniform random share of such a time.
    """

    source: str
    quantiles_s: tuple[float, ...]
    within: bool = False

    def draw(self, count: int, seed: int) -> NDArray[np.float64]:
        """Draws (count,) pauses in seconds, reproducible by `seed`."""
        random = np.random.default_rng(seed)
        levels = np.linspace(0, 1, len(self.quantiles_s))
        times = np.interp(random.random(count), levels, self.quantiles_s)
        return times * random.random(count) if self.within else times


HUMAN = Pauses(
    "a random moment between two clicks, as far apart as those of users of MovieLens 100K within "
    "a session",
    GAPS_S,
    within=True,
)


def pauses_of(path: Path) -> Pauses:
    """Returns the pauses of the users of a click log. Raises like `session_gaps`, and ValueError
    if the log has too few gaps."""
    gaps, _ = session_gaps(path)
    if len(gaps) < FEWEST_GAPS:
        raise ValueError(
            f"{path} has {len(gaps):,} pauses within a session, and {FEWEST_GAPS} are needed at "
            "least: leave --pauses out for those of MovieLens 100K"
        )
    quantiles = np.quantile(gaps, np.linspace(0, 1, 101), method="inverted_cdf")
    return Pauses(
        f"a random moment between two clicks, as far apart as those of users of {path.name} "
        "within a session",
        tuple(quantiles.tolist()),
        within=True,
    )


def session_gaps(path: Path) -> tuple[NDArray[np.float64], int]:
    """Returns the seconds between a user's clicks within a session, and the number of all gaps.

    `path` is a CSV file, plain or gzip, with the columns user_id and timestamp (Unix seconds). Gaps
    of 0 s are left out: such clicks were stored together. Raises OSError, and ValueError for
    missing columns and invalid times.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    times: dict[str, array[float]] = defaultdict(lambda: array("d"))
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            for user, moment in _clicks(csv.DictReader(file, strict=True), path):
                times[user].append(moment)
    except (csv.Error, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as CSV in UTF-8: {error}") from error
    gaps = [np.diff(np.sort(np.asarray(moments))) for moments in times.values()]
    every = np.concatenate([np.empty(0), *gaps])
    return every[(every > 0) & (every < SESSION_S)], len(every)


def _clicks(rows: "csv.DictReader[str]", path: Path) -> Iterator[tuple[str, float]]:
    """Yields user and time in seconds of every row. Raises ValueError and csv.Error."""
    if missing := {"user_id", "timestamp"} - set(rows.fieldnames or ()):
        raise ValueError(
            f"{path} has no column {' and no column '.join(sorted(missing))}: its pauses need "
            f"user_id and timestamp; it has {', '.join(rows.fieldnames or ['none'])}"
        )
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        if not row["user_id"]:
            raise ValueError(f"{where} has no user_id: remove the line, or fill it in")
        yield row["user_id"], _seconds(row["timestamp"], where)


def _seconds(text: str | None, where: str) -> float:
    try:
        seconds = float(text or "")
    except ValueError:
        seconds = 0.0
    if not EARLIEST_S <= seconds <= LATEST_S:
        raise ValueError(
            f"{where}: {text!r} is no time in Unix seconds, so no pause can be taken from it: a "
            "position in a sequence, milliseconds or a date must be turned into seconds first"
        )
    return seconds


@dataclass(frozen=True)
class Think:
    """When lists are reranked: at once, after a pause, or both for the same clicks."""

    at_once: bool
    pauses: Pauses | None


def parse_think(text: str, log: Path | None = None) -> Think:
    """Parses `--think`; human pauses come from `log` if it is given.

    Raises ValueError for an invalid text, and like `pauses_of`.
    """
    if text in ("both", "human"):
        return Think(text == "both", HUMAN if log is None else pauses_of(log))
    if log is not None:
        raise ValueError(f"--pauses needs --think both or human, got --think {text}")
    if text == "none":
        return Think(True, None)
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = -1.0
    if not 0 <= milliseconds <= LONGEST_MS:
        raise ValueError(
            f"--think is both, none, human or a number of ms up to {LONGEST_MS:,}, got {text!r}"
        )
    if milliseconds == 0:
        return Think(True, None)
    return Think(False, Pauses(f"always {milliseconds:g} ms", (milliseconds / 1e3,) * 2))
