"""Converts the zip archives of UCI and GroupLens to clicks and titles.

Members of an archive are read by their fixed names; nothing is unpacked to disk.
"""

import io
import zipfile
from dataclasses import dataclass

import polars as pl

from cloud_service.recommender.data.workbook import open_member, sheet_rows
from shared.errors import DataError

_MAX_TEXT_BYTES = 64 << 20
_MAX_WORKBOOK_BYTES = 64 << 20
_DAYS_TO_1970 = 25_569
_MINUTES_A_DAY = 1_440

_RETAIL_COLUMNS = (
    "InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Converted:
    """A published set in the project's form.

    Attributes:
        clicks: user_id, item_id and timestamp, sorted; the timestamp is in Unix seconds, or the
            position in the user's sequence where the publisher has no times.
        titles: item_id and title; None where the publisher has none.
    """

    clicks: pl.DataFrame
    titles: pl.DataFrame | None


def online_retail(archive: zipfile.ZipFile) -> Converted:
    """UCI Online Retail: one click per invoice line, in the order of the workbook.

    Dropped: lines without a customer, cancellations (invoice starting with C), quantities or
    prices not above zero, and codes that are not products (those have five leading digits).
    Times are taken as UTC, to the minute. The title of an item is its most frequent description.
    """
    with open_member(archive, "Online Retail.xlsx", _MAX_WORKBOOK_BYTES) as member:
        rows = sheet_rows(io.BytesIO(member.read()))
        header = next(rows, [])
        missing = [name for name in _RETAIL_COLUMNS if name not in header]
        if missing:
            raise DataError(
                f"The workbook has no column {missing[0]}: it is not the published one."
            )
        columns = [header.index(name) for name in _RETAIL_COLUMNS]
        cells = [[row[i] if i < len(row) else None for i in columns] for row in rows]
    lines = pl.DataFrame(cells, schema=dict.fromkeys(_RETAIL_COLUMNS, pl.String), orient="row")
    del cells
    lines = lines.filter(
        pl.col("CustomerID").is_not_null(),
        ~pl.col("InvoiceNo").str.starts_with("C"),
        pl.col("Quantity").cast(pl.Float64) > 0,
        pl.col("UnitPrice").cast(pl.Float64) > 0,
        pl.col("StockCode").str.contains(r"^\d{5}"),
    )
    minutes = (pl.col("InvoiceDate").cast(pl.Float64) - _DAYS_TO_1970) * _MINUTES_A_DAY
    clicks = lines.select(
        user_id=pl.col("CustomerID").cast(pl.Float64).cast(pl.Int64),
        item_id="StockCode",
        timestamp=minutes.round().cast(pl.Int64) * 60,
    )
    return Converted(_sorted(clicks), _frequent_titles(lines))


def _frequent_titles(lines: pl.DataFrame) -> pl.DataFrame:
    named = lines.select(item_id="StockCode", title=pl.col("Description").str.strip_chars())
    counted = named.drop_nulls().group_by("item_id", "title", maintain_order=True).len()
    best = counted.sort("len", descending=True, maintain_order=True)
    return best.unique("item_id", keep="first").select("item_id", "title").sort("item_id")


def movielens_100k(archive: zipfile.ZipFile) -> Converted:
    """MovieLens 100K: one click per rating; the rating itself is dropped."""
    clicks = _ratings(archive, "ml-100k/u.data", "\t", (0, 1, 3))
    return Converted(clicks, _movies(archive, "ml-100k/u.item", "|"))


def movielens_1m(archive: zipfile.ZipFile) -> Converted:
    """MovieLens 1M: one click per rating; the rating itself is dropped."""
    # Fields are separated by two colons: split at one, every second field is empty.
    clicks = _ratings(archive, "ml-1m/ratings.dat", ":", (0, 2, 6))
    return Converted(clicks, _movies(archive, "ml-1m/movies.dat", "::"))


def _ratings(
    archive: zipfile.ZipFile, member: str, separator: str, fields: tuple[int, int, int]
) -> pl.DataFrame:
    with open_member(archive, member, _MAX_TEXT_BYTES) as file:
        text = file.read()
    raw = pl.read_csv(
        text, separator=separator, has_header=False, infer_schema=False, quote_char=None
    )
    if raw.width <= max(fields):
        raise DataError(f"{member!r} has {raw.width} fields a line: it is not the published file.")
    chosen = raw.select(
        pl.nth(field).alias(name).cast(pl.Int64)
        for field, name in zip(fields, ("user_id", "item_id", "timestamp"), strict=True)
    )
    rows = text.count(b"\n") + (not text.endswith(b"\n"))
    if chosen.height != rows or any(chosen.null_count().row(0)):
        raise DataError(f"{member!r} has lines that are no ratings: it is not the published file.")
    return _sorted(chosen)


def _movies(archive: zipfile.ZipFile, member: str, separator: str) -> pl.DataFrame:
    with open_member(archive, member, _MAX_TEXT_BYTES) as file:
        text = file.read().decode("latin-1")
    # Not splitlines: it also splits at a character that occurs within titles in Latin-1.
    lines = [line.rstrip("\r") for line in text.split("\n")]
    films = [line.split(separator) for line in lines if line]
    if any(len(film) < 2 for film in films):
        raise DataError(f"{member!r} has lines that are no titles: it is not the published file.")
    titles = [(film[0], " ".join(film[1].split())) for film in films]
    return pl.DataFrame(titles, schema={"item_id": pl.String, "title": pl.String}, orient="row")


def _sorted(clicks: pl.DataFrame) -> pl.DataFrame:
    return clicks.sort("user_id", "timestamp", maintain_order=True)
