"""Where the files of a named set lie, and under what name its runs go."""

import gzip
from pathlib import Path

import pytest

from cloud_service.recommender.data.catalog import load
from cloud_service.recommender.data.named_sets import (
    NAMED_SETS,
    LogFiles,
    fetch_command,
    find_files,
    identity,
    log_path,
    titles_path,
)
from cloud_service.recommender.data.sources import SOURCES
from shared.errors import DataError

LOG = "user_id,item_id,timestamp\n" + "".join(
    f"{user},{item},{time}\n" for user in (1, 2) for time, item in enumerate((30, 10, 20, 20))
)


def put(path: Path, text: str = LOG) -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path


def test_every_name_has_a_source_and_every_source_a_name() -> None:
    assert list(NAMED_SETS) == list(SOURCES)
    copies = [named.copy for named in NAMED_SETS.values()]
    assert len(set(copies)) == len(copies)


def test_a_fetched_log_comes_before_a_copy(tmp_path: Path) -> None:
    assert find_files("online-retail", tmp_path) is None
    copy = put(tmp_path / "online_retail.csv.gz")
    assert find_files("online-retail", tmp_path) == LogFiles(copy, None)
    titles = put(tmp_path / "online_retail_items.csv.gz", "item_id,title\n10,Ten\n")
    assert find_files("online-retail", tmp_path) == LogFiles(copy, titles)
    fetched = put(log_path("online-retail", tmp_path))
    assert find_files("online-retail", tmp_path) == LogFiles(fetched, None)
    own_titles = put(titles_path("online-retail", tmp_path), "item_id,title\n10,Ten\n")
    assert find_files("online-retail", tmp_path) == LogFiles(fetched, own_titles)


def test_a_set_without_titles_has_none_as_a_copy_either(tmp_path: Path) -> None:
    copy = put(tmp_path / "yelp_5core.csv.gz")
    assert find_files("yelp", tmp_path) == LogFiles(copy, None)


def test_a_copy_loads_under_the_name_of_its_set_and_in_the_order_of_its_file(
    tmp_path: Path,
) -> None:
    put(tmp_path / "online_retail.csv.gz", LOG.replace(",3\n", ",2\n"))
    log = load("online-retail", folder=tmp_path, repeats="all")
    assert log.name == "online-retail"
    assert log.preprocessing.startswith("Online Retail (D. Chen, 2015")
    assert [log.item_ids[item - 1] for item in log.sequence(0)] == ["30", "10", "20", "20"]
    assert "keep the file's order" in log.preprocessing


@pytest.mark.parametrize("name", NAMED_SETS)
def test_an_absent_set_is_one_line_with_the_command_that_fetches_it(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(DataError, match="is not in") as caught:
        load(name, folder=tmp_path)
    assert f"`{fetch_command(name, tmp_path)}`" in caught.value.detail
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize(
    ("data", "file"),
    [
        ("amazon-beauty", "amazon_beauty.csv.gz"),
        ("../shared/data/amazon_beauty.csv.gz", "amazon_beauty.csv.gz"),
        ("movielens-1m-sasrec", "ml1m.csv.gz"),
        ("movielens-100k", "ml100k.csv.gz"),
        ("yelp", "yelp_5core.csv.gz"),
        ("online-retail", "online_retail.csv.gz"),
        ("synthetic", "synthetic"),
        ("/somewhere/shop.csv", "shop.csv"),
    ],
)
def test_a_run_is_the_same_on_a_named_set_and_on_a_copy_of_it(data: str, file: str) -> None:
    assert identity(data) == file
