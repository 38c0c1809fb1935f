"""Logs that researchers prepared: from their text files, and from Yelp's reviews, to clicks."""

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from cloud_service.recommender.data import sequences
from cloud_service.recommender.data.catalog import fetch
from cloud_service.recommender.data.named_sets import NAMED_SETS, log_path
from cloud_service.recommender.data.publishers import Converted
from cloud_service.recommender.data.sources import SOURCES, Source
from shared.errors import DataError

CLICKS = [(1, 7, 1), (1, 3, 2), (1, 7, 3), (2, 3, 1), (2, 9, 2)]
LOG = "user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in CLICKS)
PAIRS = "1 7\n1 3\n1 7\n2 3\n2 9\n\n"
SEQUENCES = "1 7 3 7\n2 3 9\n"


def prepared(name: str, **changes: object) -> dict[str, Source]:
    """A set of five clicks in place of the published one; its publisher is out of reach."""
    digest = hashlib.sha256(LOG.encode()).hexdigest()
    source = replace(
        SOURCES[name], url="http://127.0.0.1:9/none", counts=(5, 2, 3), log_sha256=digest
    )
    return {name: replace(source, **changes)}


@pytest.mark.parametrize(
    ("name", "text"), [("amazon-video-games", PAIRS), ("amazon-beauty-5core", SEQUENCES)]
)
def test_a_prepared_set_has_positions_for_times_and_no_titles(
    tmp_path: Path, name: str, text: str
) -> None:
    published = tmp_path / "published.txt"
    published.write_text(text)
    path = fetch(name, tmp_path / "data", published=published, sources=prepared(name))
    assert gzip.decompress(path.read_bytes()).decode() == LOG
    assert [file.name for file in path.parent.iterdir()] == [f"{name}.csv.gz"]
    assert published.is_file()


def test_a_prepared_set_whose_clicks_changed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "video-games.txt").write_text("1 7\n1 7\n1 3\n2 3\n2 9\n")
    with pytest.raises(DataError, match=r"a log with the sha256 .* it is not used"):
        fetch("amazon-video-games", tmp_path, sources=prepared("amazon-video-games"))
    assert not log_path("amazon-video-games", tmp_path).exists()


@pytest.mark.parametrize(
    ("convert", "text", "message"),
    [
        (sequences.pairs, "1 2 3\n", "no pair of a user and an item"),
        (sequences.pairs, "1 a\n", "no integers"),
        (sequences.pairs, "<html>é", "no integers"),
        (sequences.sequences, "1\n", "no user with items"),
    ],
)
def test_another_text_is_refused(
    tmp_path: Path, convert: Callable[[Path], Converted], text: str, message: str
) -> None:
    path = tmp_path / "log.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        convert(path)


def review(user: str, item: str, date: str) -> str:
    return json.dumps(
        {"review_id": "r", "user_id": user, "business_id": item, "stars": 5.0, "date": date}
    )


DAYS = [f"2019-06-0{day} 10:00:00" for day in range(1, 6)]
REVIEWS = "\n".join(
    [
        review("old", "item a", "2018-12-31 23:59:59"),
        review("few", "item b", DAYS[0]),  # the first review of "few", who has too few
        # Users "y" and "x", five items each, reviewed from the last to the first.
        *(review(user, f"item {i}", DAYS[4 - i]) for user in "yxwvu" for i in range(5)),
        review("x", "late", "2019-12-31 00:00:01"),
        review("x", "rare", DAYS[0]),
    ]
)


def tarred(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


JSON_NAME = "yelp/yelp_academic_dataset_review.json"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("review.json", REVIEWS.encode()),
        ("yelp_dataset.tgz", tarred(JSON_NAME, REVIEWS.encode())),
        ("yelp.zip", zipped(JSON_NAME, REVIEWS.encode())),
    ],
)
def test_reviews_of_yelp_are_cut_to_a_year_and_to_its_5_core(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    clicks = sequences.yelp(tmp_path / name).clicks
    # Users are numbered as they come, items in the order of the first user's times.
    expected = [(user, item, item) for user in range(1, 6) for item in range(1, 6)]
    assert clicks.rows() == expected


def test_sequences_of_yelp_as_s3_rec_wrote_them_are_taken_too(tmp_path: Path) -> None:
    (tmp_path / "Yelp.txt").write_text(SEQUENCES)
    assert sequences.yelp(tmp_path / "Yelp.txt").clicks.rows() == CLICKS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tarred("yelp/business.json", b"{}"), "has no member yelp_academic_dataset_review.json"),
        (zipped("yelp.tar", b""), "has no member yelp_academic_dataset_review.json"),
        (b'{"date": "2019-01-02 00:00:00"}', "is no review"),
        (b'"2019-', "is no review"),
    ],
)
def test_another_file_than_the_reviews_of_yelp_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=message):
        sequences.yelp(tmp_path / "file")


def test_yelp_is_not_downloaded_but_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"accept it at https://\S+yelp\S+, .*`cloud-service fetch yelp .*--from"
    ) as caught:
        fetch("yelp", tmp_path)
    assert "\n" not in caught.value.detail


def test_another_edition_of_yelp_is_used_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "Yelp.txt").write_text(SEQUENCES)
    warnings: list[str] = []
    path = fetch("yelp", tmp_path / "data", published=tmp_path / "Yelp.txt", warn=warnings.append)
    assert pl.read_csv(path).rows() == CLICKS
    assert len(warnings) == 1
    assert "5 clicks, 2 users and 3 items, not the published 316,354" in warnings[0]
    assert "not comparable" in warnings[0]


def test_a_file_that_is_not_there_cannot_be_fetched_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no file .*none\.tar"):
        fetch("yelp", tmp_path, published=tmp_path / "none.tar")


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", [name for name, s in SOURCES.items() if s.log_sha256])
def test_the_researchers_file_converts_to_the_log_of_the_published_figures(
    real_data: Path, tmp_path: Path, name: str
) -> None:
    copy = real_data / NAMED_SETS[name].copy
    log = pl.read_csv(copy)
    published = tmp_path / "published.txt"
    if SOURCES[name].convert is sequences.pairs:
        text = log.select("user_id", "item_id").write_csv(separator=" ", include_header=False)
    else:
        users = log.group_by("user_id", maintain_order=True).agg(pl.col("item_id").cast(pl.String))
        text = "".join(f"{user} {' '.join(items)}\n" for user, items in users.iter_rows())
    published.write_text(text)
    path = fetch(name, tmp_path, published=published, warn=pytest.fail)
    assert gzip.decompress(path.read_bytes()) == gzip.decompress(copy.read_bytes())
