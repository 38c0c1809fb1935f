"""Full and read-only disks, a second process, a copy: named, and never raised where a click is
stored."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from device_client.learning import log_file
from device_client.learning.store import ClickStore
from device_client.learning.trouble import StoreTrouble
from shared.errors import StoreInUse
from tests.conftest import ROOT
from tests.instruments.faulty_disk import FaultyDisk

HOLDER = """
import sys
from pathlib import Path
from device_client.learning.store import ClickStore
store = ClickStore.open(Path(sys.argv[1]))
store.click("of the holder")
print("open", flush=True)
sys.stdin.read()
"""

FULL = """
import sys
from pathlib import Path
from device_client.learning.store import ClickStore
store = ClickStore.open(Path(sys.argv[1]))
saved = [store.click(f"item-{number}") for number in range(300)]
state = store.save_state("patch", bytes(100_000))
print(saved.index(False), len(store.clicks()), state, dict(store.troubles))
"""


@pytest.fixture
def faulty(monkeypatch):
    return FaultyDisk(monkeypatch)


def items(store):
    return [item for item, _ in store.clicks()]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow(2)
def test_a_second_process_is_refused_at_once_and_let_in_after_a_kill(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout.readline() == b"open\n"
        begun = time.perf_counter()
        with pytest.raises(StoreInUse):
            ClickStore.open(tmp_path)
        with pytest.raises(StoreInUse):
            ClickStore.erase(tmp_path)
        assert time.perf_counter() - begun < 5
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    with ClickStore.open(tmp_path) as store:
        assert items(store) == ["of the holder"]


def test_a_copy_of_the_process_writes_nothing_and_unlocks_nothing(tmp_path):
    with ClickStore.open(tmp_path) as store:
        store.click("parent")
        child = os.fork()
        if not child:
            stored = store.click("child") or store.save_state("patch", b"1")
            store.close()
            os._exit(1 if stored or store.troubles != {StoreTrouble.FORKED: 2} else 0)
        assert os.waitpid(child, 0)[1] == 0
        with pytest.raises(StoreInUse):
            ClickStore.open(tmp_path)
        store.click("parent again")
    with ClickStore.open(tmp_path) as store:
        assert items(store) == ["parent", "parent again"]


@pytest.mark.slow(2)
def test_a_disk_that_is_full_costs_a_count_and_the_clicks_stay_in_memory(tmp_path):
    """The kernel lets no file of the process grow past a limit."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
    )
    saved, in_memory, state, *_ = done.stdout.split()
    assert 100 < int(saved) < 200
    assert (in_memory, state) == ("300", "False")
    assert "DISK_FULL" in done.stdout
    with ClickStore.open(tmp_path) as store:
        assert items(store) == [f"item-{number}" for number in range(int(saved))]
        assert store.damaged_bytes == 0
        assert store.load_state("patch") is None
    assert names(tmp_path) == ["clicks.log"]


def test_what_a_full_disk_did_not_take_is_written_when_there_is_room(tmp_path, faulty, caplog):
    with ClickStore.open(tmp_path) as store:
        assert store.click("before", 1)
        faulty.break_("pwrite", errno.ENOSPC)
        for number in range(10):
            assert not store.click(f"secret-{number}", number)
        assert store.troubles == {StoreTrouble.DISK_FULL: 10}
        assert len(caplog.records) == 1, "one line for all"
        assert "secret" not in caplog.text
        faulty.error = None
        assert store.click("after", 2)
        everything = store.clicks()
    with ClickStore.open(tmp_path) as store:
        assert store.clicks() == everything
        assert len(everything) == 12


def test_a_write_that_the_disk_took_by_half_is_written_over(tmp_path, monkeypatch):
    pwrite = os.pwrite
    with ClickStore.open(tmp_path) as store:
        store.click("before")
        room = [7]

        def half(handle, content, at):
            if not room[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            room[0] -= (count := pwrite(handle, content[: room[0]], at))
            return count

        monkeypatch.setattr(os, "pwrite", half)
        assert not store.click("half")
        room[0] = 10_000
        assert store.click("after")
    with ClickStore.open(tmp_path) as store:
        assert items(store) == ["before", "half", "after"]
        assert store.lost_bytes == 0


def test_a_rewrite_that_fails_is_tried_again_now_and_then_and_nothing_is_lost(tmp_path, faulty):
    with ClickStore.open(tmp_path, max_clicks=100) as store:
        for number in range(120):
            store.click(str(number))
        faulty.break_("fsync", errno.ENOSPC)
        for number in range(120, 220):
            assert store.click(str(number)), "the old log has room"
        assert 1 <= faulty.calls <= 3, "a rewrite at every click would cost too much"
        faulty.error = None
        for number in range(220, 300):
            store.click(str(number))
        assert (tmp_path / "clicks.log").stat().st_size < 5000
    with ClickStore.open(tmp_path, max_clicks=100) as store:
        assert items(store) == [str(number) for number in range(200, 300)]


def test_a_log_at_its_limit_of_bytes_never_passes_it_though_it_cannot_be_written_anew(
    tmp_path, faulty
):
    with ClickStore.open(tmp_path, max_bytes=4096) as store:
        for number in range(100):
            store.click(str(number))
        faulty.break_("fsync", errno.EIO)
        for number in range(100, 400):
            store.click(str(number))
            assert (tmp_path / "clicks.log").stat().st_size <= 4096
        assert store.troubles[StoreTrouble.IO_ERROR] > 200
        assert items(store)[-1] == "399"
        faulty.error = None
        assert store.tidy()
        kept = items(store)
    with ClickStore.open(tmp_path, max_bytes=4096) as store:
        assert items(store) == kept
        assert kept[-1] == "399"


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (errno.EROFS, StoreTrouble.READ_ONLY),
        (errno.EACCES, StoreTrouble.READ_ONLY),
        (errno.ENOSPC, StoreTrouble.DISK_FULL),
        (errno.EMFILE, StoreTrouble.IO_ERROR),
    ],
)
def test_a_folder_that_cannot_be_opened_leaves_a_store_in_memory(tmp_path, faulty, error, trouble):
    faulty.break_("open", error)
    with ClickStore.open(tmp_path / "store", max_clicks=50) as store:
        for number in range(200):
            assert not store.click(str(number))
        assert items(store) == [str(number) for number in range(150, 200)]
        assert not store.save_state("patch", b"1")
        assert store.load_state("patch") is None
        assert store.troubles == {trouble: 203}
        faulty.error = None


def test_a_disk_that_may_only_be_read_gives_the_clicks_and_takes_none(tmp_path, monkeypatch):
    with ClickStore.open(tmp_path) as store:
        store.click("1")
        store.save_state("patch", b"numbers")
    original = os.open

    def read_only(path, flags, *arguments, **options):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, "Read-only file system")
        return original(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", read_only)
    with ClickStore.open(tmp_path) as store:
        assert items(store) == ["1"]
        assert store.load_state("patch") == b"numbers"
        assert not store.click("2")
        assert not store.save_state("patch", b"others")
        assert items(store) == ["1", "2"]
        assert set(store.troubles) == {StoreTrouble.READ_ONLY}
    monkeypatch.undo()
    with ClickStore.open(tmp_path) as store:
        assert items(store) == ["1"]


def test_a_log_that_cannot_be_read_is_not_written_over(tmp_path, faulty):
    with ClickStore.open(tmp_path) as store:
        store.click("1")
    faulty.break_("pread", errno.EIO)
    with ClickStore.open(tmp_path) as store:
        assert store.clicks() == []
        assert not store.click("2")
        assert store.troubles == {StoreTrouble.IO_ERROR: 2}
    faulty.error = None
    with ClickStore.open(tmp_path) as store:
        assert items(store) == ["1"]


def test_a_log_that_somebody_removed_does_not_come_back(tmp_path):
    with ClickStore.open(tmp_path) as store:
        store.click("1")
        (tmp_path / "clicks.log").unlink()
        assert not store.click("2")
        assert store.troubles == {StoreTrouble.REMOVED: 1}
        assert items(store) == ["1", "2"]
    assert names(tmp_path) == []


def test_durable_clicks_wait_for_the_disk_and_others_do_not(tmp_path, monkeypatch):
    waits, fsync = [], os.fsync
    monkeypatch.setattr(log_file.os, "fsync", lambda handle: (waits.append(handle), fsync(handle)))
    for durable in (False, True):
        with ClickStore.open(tmp_path, durable=durable) as store:
            store.click("1")
            waits.clear()
            for _ in range(5):
                store.click("2")
            assert len(waits) == 5 * durable
