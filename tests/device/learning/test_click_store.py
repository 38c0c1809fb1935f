"""What a user clicked is there after a restart: in order, within limits, for its owner only."""

import ast
import os
import stat
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from device_client.learning.click_log import encode_click, encode_head, frame
from device_client.learning.lists_shown import ListShown, encode_list
from device_client.learning.store import ClickStore
from device_client.learning.trouble import StoreTrouble
from shared.errors import InvalidItem, StoreInUse, StoreTooNew, StoreUnusable
from tests.conftest import ROOT


def items(store):
    return [item for item, _ in store.clicks()]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def filled(folder, count=20, **limits):
    """A closed store with clicks on items "0", "1" and so on, at times 1000, 1001 and so on."""
    with ClickStore.open(folder, **limits) as store:
        for number in range(count):
            store.click(str(number), 1000 + number)
    return folder


def test_clicks_are_there_after_a_restart_oldest_first(tmp_path):
    with ClickStore.open(filled(tmp_path / "store", 3)) as store:
        assert store.clicks() == [("0", 1000), ("1", 1001), ("2", 1002)]
        assert not store.troubles
        assert store.lost_bytes == 0


def test_ids_are_text_of_any_script_and_integers_stand_for_their_digits(tmp_path):
    ids = ["85123A", "", "шапка", "帽子", "a\nb\0c", "🧢"]
    with ClickStore.open(tmp_path) as store:
        for item in [*ids, 87, np.int32(88)]:
            assert store.click(item)
    with ClickStore.open(tmp_path) as store:
        assert items(store) == [*ids, "87", "88"]


@pytest.mark.parametrize("item", [8.0, None, b"87", True, "\ud800", ["87"]])
def test_what_is_no_catalogue_id_is_refused_and_nothing_is_stored(tmp_path, item):
    with ClickStore.open(tmp_path) as store:
        with pytest.raises(InvalidItem):
            store.click(item)
        with pytest.raises(InvalidItem):
            store.shown([item])
        assert store.clicks() == []
        assert store.lists() == []


@pytest.mark.parametrize("time_ms", [1 << 63, -(1 << 63) - 1])
def test_a_time_beyond_64_bits_is_refused(tmp_path, time_ms):
    with ClickStore.open(tmp_path) as store, pytest.raises(ValueError, match="64 bits"):
        store.click("1", time_ms)


def test_a_clock_that_is_set_back_changes_no_order_and_no_time(tmp_path):
    times = [5000, 10, -7, 5000, 4999, 1 << 62]
    clock = iter(times)
    with ClickStore.open(tmp_path, now_ms=lambda: next(clock)) as store:
        for number in range(len(times)):
            store.click(str(number))
    with ClickStore.open(tmp_path) as store:
        assert store.clicks() == [(str(at), time_ms) for at, time_ms in enumerate(times)]


def test_the_version_changes_with_every_record_and_is_the_same_after_a_restart(tmp_path):
    with ClickStore.open(tmp_path) as store:
        versions = [store.version]
        for item in "abc":
            store.click(item)
            versions.append(store.version)
        store.shown(["a"])
        versions.append(store.version)
        assert sorted(set(versions)) == versions
    with ClickStore.open(tmp_path) as store:
        assert store.version == versions[-1]
        assert [item for item, _ in store.clicks(after=versions[1])] == ["b", "c"]
        assert store.clicks(after=store.version) == []


def test_the_oldest_clicks_go_and_the_log_stays_within_its_limits(tmp_path):
    with ClickStore.open(tmp_path, max_clicks=50, max_bytes=4096) as store:
        for number in range(1000):
            assert store.click(str(number))
            kept = items(store)
            assert len(kept) <= 50
            assert kept == [str(at) for at in range(number + 1 - len(kept), number + 1)]
            assert (tmp_path / "clicks.log").stat().st_size <= 4096
            assert len(kept) == min(number + 1, 50)
    with ClickStore.open(tmp_path, max_clicks=50, max_bytes=4096) as store:
        assert items(store) == [str(at) for at in range(950, 1000)]
        assert not store.troubles
    assert names(tmp_path) == ["clicks.log"]


def test_long_ids_meet_the_limit_of_bytes(tmp_path):
    with ClickStore.open(tmp_path, max_clicks=1000, max_bytes=4096) as store:
        for number in range(200):
            assert store.click(f"{number:0200}")
            assert (tmp_path / "clicks.log").stat().st_size <= 4096
        kept = items(store)
        assert kept == [f"{at:0200}" for at in range(200 - len(kept), 200)]
        assert len(kept) >= 12
    with ClickStore.open(tmp_path, max_clicks=1000, max_bytes=4096) as store:
        assert items(store) == kept


def test_a_log_opened_with_smaller_limits_gives_its_newest_clicks(tmp_path):
    filled(tmp_path, 1000)
    with ClickStore.open(tmp_path, max_clicks=100) as store:
        assert items(store) == [str(at) for at in range(900, 1000)]
    filled(tmp_path / "bytes", 1000)
    with ClickStore.open(tmp_path / "bytes", max_bytes=4096) as store:
        kept = items(store)
        assert 100 < len(kept) < 150
        assert kept == [str(at) for at in range(1000 - len(kept), 1000)]
        assert store.lost_bytes == 0
        assert store.click("new")
    with ClickStore.open(tmp_path / "bytes", max_bytes=4096) as store:
        assert items(store)[-2:] == ["999", "new"]


def test_tidying_leaves_what_counts_and_no_more(tmp_path):
    with ClickStore.open(tmp_path, max_clicks=50) as store:
        for number in range(60):
            store.click(str(number))
        before = (tmp_path / "clicks.log").stat().st_size
        assert store.tidy()
        assert (tmp_path / "clicks.log").stat().st_size < before
        assert items(store) == [str(at) for at in range(10, 60)]


def test_an_id_that_is_too_long_is_a_trouble_and_not_an_error(tmp_path):
    with ClickStore.open(tmp_path) as store:
        assert not store.click("x" * 20_000)
        assert not store.click("x" * 1_000_000)
        assert not store.shown(["x" * 20_000])
        assert store.troubles == {StoreTrouble.TOO_LARGE: 3}
        assert store.click("1")
        assert items(store) == ["1"]


@pytest.mark.parametrize(
    "limits",
    [
        {"max_clicks": 0},
        {"max_lists": -1},
        {"max_bytes": 4095},
        {"max_bytes": 1 << 30},
    ],
)
def test_limits_out_of_range_are_refused(tmp_path, limits):
    with pytest.raises(ValueError, match=r"at least|max_bytes"):
        ClickStore.open(tmp_path, **limits)
    assert names(tmp_path) == []


def test_a_second_opening_is_refused_at_once_and_the_first_goes_on(tmp_path):
    with ClickStore.open(tmp_path) as store:
        with pytest.raises(StoreInUse, match="one store, one process"):
            ClickStore.open(tmp_path)
        assert store.click("1")
    with ClickStore.open(tmp_path) as store:
        assert items(store) == ["1"]


def test_a_closed_store_stores_nothing_and_says_so(tmp_path):
    store = ClickStore.open(tmp_path)
    store.close()
    store.close()
    assert not store.click("1")
    assert not store.save_state("patch", b"1")
    assert store.load_state("patch") is None
    assert store.troubles == {StoreTrouble.CLOSED: 3}


def test_files_are_for_their_owner_only_whatever_the_umask_and_a_backup_made_of_them(tmp_path):
    folder = filled(tmp_path / "of" / "the app", 1)
    with ClickStore.open(folder) as store:
        store.save_state("patch", b"1")
    for path in (folder, *folder.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    (folder / "clicks.log").chmod(0o644)
    folder.chmod(0o755)
    ClickStore.open(folder).close()
    for path in (folder, *folder.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_folder_that_holds_other_files_keeps_its_permissions(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"")
    tmp_path.chmod(0o755)
    filled(tmp_path, 1)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "clicks.log").stat().st_mode) == 0o600


def test_a_place_that_is_no_folder_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreUnusable):
            ClickStore.open(place)


def test_a_log_that_is_a_link_a_folder_or_a_pipe_is_refused_by_name(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    for number, make in enumerate((lambda p: p.symlink_to(secret), Path.mkdir, os.mkfifo)):
        folder = tmp_path / str(number)
        folder.mkdir()
        make(folder / "clicks.log")
        with pytest.raises(StoreUnusable):
            ClickStore.open(folder)
    assert secret.read_bytes() == b"secret"


def test_a_newer_format_is_refused_and_kept(tmp_path):
    start = b"DCRL" + (2).to_bytes(4, "little")
    document = start + crc32(start).to_bytes(4, "little") + b"what a later version writes"
    (tmp_path / "clicks.log").write_bytes(document)
    with pytest.raises(StoreTooNew, match="format 2"):
        ClickStore.open(tmp_path)
    assert (tmp_path / "clicks.log").read_bytes() == document
    ClickStore.erase(tmp_path)
    assert names(tmp_path) == []


def test_the_bytes_of_a_log_are_pinned():
    """Logs of earlier programs must be read: a change of these needs another format version."""
    head, click = "4443524c010000004b07efd9", encode_click(7, ("85123A", 1_700_000_000_000))
    shown = frame(encode_list(8, ListShown(("a", "шё"), (1,), -1)))
    assert encode_head().hex() == head
    assert click.hex() == ("ffc1170022bb23280107000000000000000068e5cf8b010000383531323341")
    assert shown.hex() == (
        "ffc120002ae94563020800000000000000ffffffffffffffff0200010001000100040061d188d191"
    )


def test_nothing_of_the_store_can_send_anything():
    """No module of it, nor what these import of ours, imports anything that opens a connection."""
    network = {"socket", "ssl", "http", "urllib", "httpx", "requests", "pyreqwest", "asyncio"}
    network |= {"httptools", "select", "subprocess", "multiprocessing", "ctypes"}
    queue, seen = [ROOT / "device_client" / "learning" / "store.py"], set()
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                assert module.split(".")[0] not in network, (path, module)
                ours = ROOT / (module.replace(".", "/") + ".py")
                queue += [ours] if ours.exists() else []
    assert len(seen) > 6
