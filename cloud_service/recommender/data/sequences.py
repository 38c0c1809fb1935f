"""Logs that researchers prepared and published: each user's items in order, without times.

The timestamp of a click is its position in the sequence of its user, from 1: it orders the clicks
of one user and must not be compared between users.
"""

import json
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import polars as pl

from cloud_service.recommender.data.publishers import Converted
from shared.errors import DataError

_REVIEWS = "yelp_academic_dataset_review.json"
_FIRST_DATE, _LAST_DATE = "2019-01-01 00:00:00", "2019-12-31 00:00:00"
_CORE = 5


def pairs(path: Path) -> Converted:
    """Lines of "user item", each user's in order: the form of SASRec and of BERT4Rec."""
    rows = _integers(path)
    if any(len(row) != 2 for row in rows):
        raise DataError(f"{path.name} has lines that are no pair of a user and an item")
    return _positioned(pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row"))


def sequences(path: Path) -> Converted:
    """Lines of "user item item ...", one for each user: the form of S3-Rec."""
    rows = _integers(path)
    if any(len(row) < 2 for row in rows):
        raise DataError(f"{path.name} has lines that are no user with items")
    users = [row[0] for row in rows for _ in row[1:]]
    items = [item for row in rows for item in row[1:]]
    return _positioned(pl.DataFrame({"user_id": users, "item_id": items}))


def yelp(path: Path) -> Converted:
    """The reviews of Yelp's open data set, prepared as S3-Rec does (Zhou et al., CIKM 2020).

    Kept are the reviews of 2019, of users and businesses with at least 5 of them (repeated until
    all have). Users and items are numbered from 1 in the order in which they come.

    Args:
        path: the archive as Yelp hands it out (.tar, .tgz or .zip), the JSON file with the reviews
            out of it, or, with the ending .txt, the sequences as S3-Rec wrote them.
    """
    if path.suffix == ".txt":
        return sequences(path)
    with _reviews(path) as file:
        reviews = pl.DataFrame(list(_dated(file)), schema=["user", "item", "date"], orient="row")
    # The order of the users is that of their first reviews in the file, dropped ones included.
    reviews = reviews.with_row_index("line").with_columns(first=pl.col("line").min().over("user"))
    clicks = _core(reviews, _CORE).sort("first", "date", "line").with_row_index("row")
    numbered = clicks.select(
        user_id=pl.col("first").rank("dense").cast(pl.Int64),
        item_id=pl.col("row").min().over("item").rank("dense").cast(pl.Int64),
    )
    return _positioned(numbered)


def _integers(path: Path) -> list[list[int]]:
    """The integers of each line; empty lines are left out."""
    try:
        lines = path.read_text("ascii").splitlines()
        return [[int(field) for field in line.split()] for line in lines if line.strip()]
    except ValueError as error:
        raise DataError(f"{path.name} has lines that are no integers ({error})") from error


def _positioned(clicks: pl.DataFrame) -> Converted:
    clicks = clicks.sort("user_id", maintain_order=True)
    position = pl.int_range(1, pl.len() + 1).over("user_id")
    return Converted(clicks.select("user_id", "item_id", timestamp=position), None)


def _core(clicks: pl.DataFrame, least: int) -> pl.DataFrame:
    """The largest part of a log in which every user and every item has `least` clicks."""
    while True:
        core = clicks.filter(pl.len().over("user") >= least, pl.len().over("item") >= least)
        if core.height == clicks.height:
            return core
        clicks = core


def _dated(lines: IO[bytes]) -> Iterator[tuple[str, str, str]]:
    """User, business and date of the reviews of 2019."""
    for line in lines:
        if b'"2019-' not in line:  # most lines: spares reading them as JSON
            continue
        try:
            review = json.loads(line)
            user, item, date = review["user_id"], review["business_id"], review["date"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"a line of {_REVIEWS} is no review ({error!r})") from error
        if _FIRST_DATE <= date <= _LAST_DATE:
            yield user, item, date


@contextmanager
def _reviews(path: Path) -> Iterator[IO[bytes]]:
    """The file of reviews, opened within its archive. Raises DataError."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith(_REVIEWS):
                    with archive.open(member) as file:
                        yield file
                    return
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as tar:
            for entry in tar:
                reviews = tar.extractfile(entry) if entry.name.endswith(_REVIEWS) else None
                if reviews is not None:
                    yield reviews
                    return
    else:
        with path.open("rb") as file:
            yield file
        return
    raise DataError(f"{path.name} has no member {_REVIEWS}: give the file that has it")
