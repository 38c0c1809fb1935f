"""Forgetting leaves no trace of the user, whatever the disk or a kill does meanwhile."""

import errno
import os
import signal
from pathlib import Path

import pytest

from device_client.learning.store import ClickStore
from shared.errors import NotForgotten, StoreInUse
from tests.instruments.faulty_disk import FaultyDisk


@pytest.fixture
def faulty(monkeypatch):
    return FaultyDisk(monkeypatch)


def items(store):
    return [item for item, _ in store.clicks()]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def used(folder):
    """A store with a trace of each kind, a foreign file, and the draft of a killed process."""
    store = ClickStore.open(folder)
    store.click("a secret")
    store.shown(["a secret"])
    store.save_state("patch", b"a secret")
    (folder / ".clicks.log.0123abcd.draft").write_bytes(b"a secret")
    (folder / "of the app").write_bytes(b"other")
    return store


def test_forgetting_leaves_no_trace_in_memory_or_in_the_folder(tmp_path):
    with used(tmp_path) as store:
        before = store.version
        store.forget()
        assert names(tmp_path) == ["of the app"]
        assert store.clicks() == []
        assert store.lists() == []
        assert store.load_state("patch") is None
        assert store.version != before
        with pytest.raises(StoreInUse):
            ClickStore.open(tmp_path)
        assert store.click("new")
    assert b"secret" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    with ClickStore.open(tmp_path) as store:
        assert items(store) == ["new"]
        assert not store.troubles


def test_what_was_not_written_yet_is_forgotten_too(tmp_path, faulty):
    with used(tmp_path) as store:
        faulty.break_("pwrite", errno.ENOSPC)
        store.click("another secret")
        store.forget()
        faulty.error = None
        store.click("new")
    with ClickStore.open(tmp_path) as store:
        assert items(store) == ["new"]


@pytest.mark.parametrize("calls", range(4))
def test_forgetting_that_was_killed_on_the_way_is_finished_at_the_next_start(tmp_path, calls):
    child = os.fork()
    if not child:
        store = used(tmp_path)
        unlink, count = Path.unlink, [0]

        def kill_at(path, missing_ok=False):
            if count[0] == calls:
                os.kill(os.getpid(), signal.SIGKILL)
            count[0] += 1
            unlink(path, missing_ok)

        Path.unlink = kill_at
        store.forget()
        os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert "forgetting" in names(tmp_path)
    with ClickStore.open(tmp_path) as store:
        assert store.clicks() == []
        assert store.load_state("patch") is None
    assert names(tmp_path) == ["of the app"]


def test_a_file_that_cannot_be_removed_is_said_and_never_read_again(tmp_path, monkeypatch):
    def refuse(path, missing_ok=False):
        raise OSError(errno.EPERM, "Operation not permitted")

    with used(tmp_path) as store:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", refuse)
            with pytest.raises(NotForgotten, match="3 files"):
                store.forget()
        assert store.clicks() == []
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with ClickStore.open(tmp_path) as store:
            assert store.clicks() == []
            assert store.load_state("patch") is None
            assert not store.click("new")
    with ClickStore.open(tmp_path) as store:
        assert store.clicks() == []
    assert names(tmp_path) == ["of the app"]


def test_a_full_disk_hinders_no_forgetting(tmp_path, monkeypatch):
    store = used(tmp_path)
    original = os.open

    def full(path, flags, *arguments, **options):
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", full)
    store.forget()
    assert names(tmp_path) == ["of the app"]
    store.close()


def test_a_closed_store_and_one_in_memory_can_be_forgotten(tmp_path, faulty):
    store = used(tmp_path)
    store.close()
    store.forget()
    assert names(tmp_path) == ["of the app"]
    used(tmp_path).close()
    faulty.break_("open", errno.EACCES)
    store = ClickStore.open(tmp_path)
    with pytest.raises(NotForgotten):
        store.forget()
    faulty.error = None
    store.forget()
    assert names(tmp_path) == ["of the app"]
    ClickStore.erase(tmp_path / "absent")
    assert names(tmp_path) == ["of the app"]


def test_who_watches_is_told_and_who_is_gone_is_not(tmp_path):
    class Learner:
        forgot = 0

        def forget(self):
            self.forgot += 1

    with ClickStore.open(tmp_path) as store:
        learner, gone = Learner(), Learner()
        store.watch_forget(learner.forget)
        store.watch_forget(gone.forget)
        del gone
        store.forget()
        assert learner.forgot == 1
