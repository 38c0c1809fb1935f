"""Named sets, fetched from a real HTTP server on this machine that can be told to misbehave."""

import gzip
import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cloud_service.recommender.data.catalog import fetch, load
from cloud_service.recommender.data.named_sets import NAMES, log_path
from cloud_service.recommender.data.sources import SOURCES, Source
from shared.errors import DataError


def zipped(**members: bytes | str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


RATINGS = "2\t20\t5\t300\n1\t10\t3\t200\n1\t20\t4\t100\n2\t10\t1\t200\n1\t30\t1\t200\n2\t30\t2\t9\n"
MOVIES = "10|Ten (1994)|01-Jan-1995||\n20|Vingt à un (1995)|||\n30|Thirty|||\n"
ARCHIVE = zipped(**{"ml-100k/u.data": RATINGS, "ml-100k/u.item": MOVIES.encode("latin-1")})
LOG = "user_id,item_id,timestamp\n1,20,100\n1,10,200\n1,30,200\n2,30,9\n2,10,200\n2,20,300\n"


class Publisher(BaseHTTPRequestHandler):
    """Serves ARCHIVE well at /good.zip and badly elsewhere; counts what it was asked."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/moved.zip":
            self.send_response(302)
            self.send_header("Location", "/good.zip")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path not in ("/good.zip", "/cut.zip", "/endless.zip", "/huge.zip", "/silent.zip"):
            self.send_error(404)
            return
        self.send_response(200)
        if self.path == "/huge.zip":
            self.send_header("Content-Length", str(10**12))
        elif self.path in ("/good.zip", "/cut.zip"):
            self.send_header("Content-Length", str(len(ARCHIVE)))
        self.end_headers()
        if self.path == "/endless.zip":
            self.wfile.write(b"x" * 400_000)
        elif self.path in ("/cut.zip", "/silent.zip"):
            self.wfile.write(ARCHIVE[: len(ARCHIVE) // 2])
        elif self.path == "/good.zip":
            self.wfile.write(ARCHIVE)

    def log_message(self, *_: object) -> None:
        """Not to the terminal."""


@pytest.fixture
def publisher() -> Iterator[tuple[str, list[str]]]:
    handler = type("Handler", (Publisher,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler.asked
    server.shutdown()
    thread.join()
    server.server_close()


def tiny(url: str, archive: bytes = ARCHIVE) -> dict[str, Source]:
    """The catalogue with a MovieLens 100K of six clicks, published at `url`."""
    source = replace(
        SOURCES["movielens-100k"],
        url=url,
        sha256=hashlib.sha256(archive).hexdigest(),
        max_bytes=100_000,
        counts=(6, 2, 3),
    )
    return {**SOURCES, source.name: source}


def by_hand(folder: Path, archive: bytes) -> dict[str, Source]:
    """The same, the archive put into the folder, its publisher out of reach."""
    (folder / "ml-100k.zip").write_bytes(archive)
    return tiny("http://127.0.0.1:9/none.zip", archive)


def test_a_set_is_fetched_checked_and_converted(
    publisher: tuple[str, list[str]], tmp_path: Path
) -> None:
    seen: list[tuple[int, int | None]] = []
    path = fetch(
        "movielens-100k",
        tmp_path / "new" / "folder",
        lambda done, total: seen.append((done, total)),
        sources=tiny(publisher[0] + "/moved.zip"),
    )
    assert gzip.decompress(path.read_bytes()).decode() == LOG
    assert seen[-1] == (len(ARCHIVE), len(ARCHIVE))
    names = sorted(file.name for file in path.parent.iterdir())
    assert names == ["movielens-100k-items.csv.gz", "movielens-100k.csv.gz"]


def test_a_fetched_set_loads_with_its_titles_and_its_words(
    publisher: tuple[str, list[str]], tmp_path: Path
) -> None:
    sources = tiny(publisher[0] + "/good.zip")
    fetch("movielens-100k", tmp_path, sources=sources)
    log = load("movielens-100k", folder=tmp_path, sources=sources)
    assert log.name == "movielens-100k"
    assert not log.synthetic
    # Two clicks of the first user share a time: which comes first is drawn.
    assert log.sequence(0)[0] == 2
    assert sorted(log.sequence(0)[1:].tolist()) == [1, 3]
    assert log.sequence(1).tolist() == [3, 1, 2]
    assert log.titles == ("Ten (1994)", "Vingt à un (1995)", "Thirty")
    assert log.preprocessing.startswith("MovieLens 100K (GroupLens)")


def test_a_set_that_is_there_is_not_fetched_again(
    publisher: tuple[str, list[str]], tmp_path: Path
) -> None:
    sources = tiny(publisher[0] + "/good.zip")
    first = fetch("movielens-100k", tmp_path, sources=sources).read_bytes()
    assert fetch("movielens-100k", tmp_path, sources=sources).read_bytes() == first
    assert publisher[1] == ["/good.zip"]


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("/none.zip", "answered 404"),
        ("/cut.zip", "could not be downloaded"),
        ("/silent.zip", "has the sha256"),
        ("/huge.zip", "larger than the 100,000 bytes"),
        ("/endless.zip", "larger than the 100,000 bytes"),
    ],
)
def test_a_bad_download_leaves_nothing_and_says_what_to_do(
    publisher: tuple[str, list[str]], tmp_path: Path, page: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        fetch("movielens-100k", tmp_path, sources=tiny(publisher[0] + page))
    assert str(tmp_path / "ml-100k.zip") in caught.value.detail
    assert "--data PATH" in caught.value.detail
    assert list(tmp_path.iterdir()) == []


def test_another_file_than_the_pinned_one_is_not_used(
    publisher: tuple[str, list[str]], tmp_path: Path
) -> None:
    sources = tiny(publisher[0] + "/good.zip", archive=b"what was pinned")
    with pytest.raises(DataError, match="it was changed or damaged on the way, and is not used"):
        fetch("movielens-100k", tmp_path, sources=sources)
    assert list(tmp_path.iterdir()) == []


def test_no_connection_says_where_to_put_the_file(tmp_path: Path) -> None:
    # Bound and never listening: connections to it are refused.
    with ThreadingHTTPServer(("127.0.0.1", 0), Publisher, bind_and_activate=False) as server:
        server.server_bind()
        url = f"http://127.0.0.1:{server.server_address[1]}/good.zip"
        with pytest.raises(DataError, match=r"could not be downloaded .*Connection refused"):
            fetch("movielens-100k", tmp_path, sources=tiny(url))


def test_an_archive_put_there_by_hand_is_used_and_kept(tmp_path: Path) -> None:
    path = fetch("movielens-100k", tmp_path, sources=by_hand(tmp_path, ARCHIVE))
    assert gzip.decompress(path.read_bytes()).decode() == LOG
    assert (tmp_path / "ml-100k.zip").read_bytes() == ARCHIVE


def test_a_wrong_archive_put_there_by_hand_is_refused(tmp_path: Path) -> None:
    sources = by_hand(tmp_path, ARCHIVE)
    (tmp_path / "ml-100k.zip").write_bytes(ARCHIVE[:-1])
    with pytest.raises(DataError, match="is not the published archive"):
        fetch("movielens-100k", tmp_path, sources=sources)


BAD_ARCHIVES = {
    "no zip": (b"<html>", "cannot be converted"),
    "a member less": (zipped(**{"ml-100k/u.data": RATINGS}), "no member 'ml-100k/u.item'"),
    "a path that climbs": (zipped(**{"../ml-100k/u.data": RATINGS}), "no member 'ml-100k/u.data'"),
    "fields less": (zipped(**{"ml-100k/u.data": "1\t2\n", "ml-100k/u.item": ""}), "2 fields"),
    "a word for a number": (
        zipped(**{"ml-100k/u.data": "a\t1\t1\t1\n", "ml-100k/u.item": MOVIES}),
        "cannot be converted",
    ),
    "a click less": (
        zipped(**{"ml-100k/u.data": RATINGS[:-9], "ml-100k/u.item": MOVIES}),
        "came out as 5 clicks, 2 users and 3 items, not the published 6 clicks",
    ),
}


@pytest.mark.parametrize("case", BAD_ARCHIVES)
def test_an_archive_with_another_content_is_refused(tmp_path: Path, case: str) -> None:
    archive, message = BAD_ARCHIVES[case]
    with pytest.raises(DataError, match=message):
        fetch("movielens-100k", tmp_path, sources=by_hand(tmp_path, archive))
    assert not log_path("movielens-100k", tmp_path).exists()


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    archive = zipped(**{"ml-100k/u.data": b"0" * (65 << 20), "ml-100k/u.item": MOVIES})
    with pytest.raises(DataError, match="would unpack to 68,157,440 bytes"):
        fetch("movielens-100k", tmp_path, sources=by_hand(tmp_path, archive))


def test_the_synthetic_set_needs_no_folder(tmp_path: Path) -> None:
    log = load("synthetic", folder=tmp_path / "none", min_user=20)
    assert log.synthetic
    assert log.lengths.min() >= 20
    with pytest.raises(DataError, match="titles and columns of its own"):
        load("synthetic", folder=tmp_path, items_path=tmp_path / "items.csv")
    with pytest.raises(DataError, match="nothing to fetch"):
        fetch("synthetic", tmp_path)


def test_a_file_loads_under_its_own_name_with_its_titles_and_filters(tmp_path: Path) -> None:
    path = tmp_path / "shop.csv"
    path.write_text(
        "user_id,item_id,timestamp\n"
        + "".join(f"{user},{item},{time}\n" for user in "ab" for time, item in enumerate("xyzx"))
        + "a,q,9\n"
    )
    (tmp_path / "items.csv").write_text("item_id,title\ny,Why\n")
    log = load(path, folder=tmp_path, items_path=tmp_path / "items.csv", min_item=2, min_user=4)
    assert log.name == "shop"
    assert log.item_ids == ("x", "y", "z")
    assert log.titles == ("", "Why", "")


def test_what_was_odd_about_a_file_is_said_of_its_log(tmp_path: Path) -> None:
    path = tmp_path / "shop.csv"
    path.write_text(
        "visitorid;itemid;timestamp\n"
        + "".join(f"{user};{item}.0;{time}\n" for user in "ab" for time, item in enumerate("1231"))
    )
    (tmp_path / "items.csv").write_text("item_id,title\n1,One\n2,Two\n")
    log = load(path, folder=tmp_path, items_path=tmp_path / "items.csv")
    assert log.titles == ("One", "Two", "")
    assert log.preprocessing.startswith(
        "semicolons between fields, columns visitorid and itemid read as user_id and item_id; "
    )
    assert log.cautions[:2] == (
        "every item_id ended in .0, as numbers in a dataframe do, which was taken off "
        "('1.0' is '1')",
        "2 of 3 items (66.6%) have a title in items.csv: '3' has none",
    )


def test_columns_are_chosen_for_a_file_and_for_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "shop.csv"
    path.write_text("who,what,when\n" + "".join(f"{u},{i},{i}\n" for u in "ab" for i in range(4)))
    log = load(path, folder=tmp_path, columns="user=who,item=what,time=when")
    assert log.click_count == 8
    for name in ("synthetic", "movielens-100k"):
        with pytest.raises(DataError, match=r"columns of (its|their) own"):
            load(name, folder=tmp_path, columns="user=who")


def test_only_the_workbook_has_its_clicks_in_their_order() -> None:
    assert [name for name, source in SOURCES.items() if source.ordered] == ["online-retail"]


def test_loading_fetches_nothing_and_says_so(
    publisher: tuple[str, list[str]], tmp_path: Path
) -> None:
    sources = tiny(publisher[0] + "/good.zip")
    with pytest.raises(
        DataError, match=r"`cloud-service fetch movielens-100k --folder .*no redistribution"
    ):
        load("movielens-100k", folder=tmp_path, sources=sources)
    assert publisher[1] == []


@pytest.mark.parametrize(
    ("name", "near"),
    [("movilens-1m", "movielens-1m"), ("Online_Retail", "online-retail"), ("synth", "synthetic")],
)
def test_an_unknown_name_gets_the_nearest(tmp_path: Path, name: str, near: str) -> None:
    with pytest.raises(DataError, match=f"did you mean '{near}'"):
        load(name, folder=tmp_path)
    with pytest.raises(DataError, match=f"did you mean '{near}'"):
        fetch(name, tmp_path)


def test_a_path_that_is_not_there_is_called_a_file(tmp_path: Path) -> None:
    for path in ("clicks.csv", str(tmp_path / "clicks")):
        with pytest.raises(DataError, match="There is no file"):
            load(path, folder=tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        fetch("movielens-100k", tmp_path / "file")


def test_every_source_is_pinned_bounded_and_licensed() -> None:
    assert ("synthetic", *SOURCES) == NAMES
    for name, source in SOURCES.items():
        assert source.name == name
        assert name == "yelp" or (source.url or "").startswith("https://")
        assert len(bytes.fromhex(source.sha256 or source.log_sha256 or "")) == 32
        assert source.max_bytes < 100_000_000
        assert source.licence
        assert Path(source.archive).name == source.archive
