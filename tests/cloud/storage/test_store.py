"""The store: versions are whole or not there, and named by their content."""

import os
import threading
import time
from datetime import UTC, datetime

import pytest

from cloud_service.storage.port import StoreFile
from cloud_service.storage.store import InUse, Store
from shared.bundle import check_files, read_manifest
from shared.errors import BundleError, RetiredModel, UnknownModel
from shared.manifest import Manifest, TrainingData
from shared.model import ModelSettings

DATA = TrainingData(name="d", users=1, items=1, clicks=1, synthetic=True, preprocessing="none")


def publish(store, content=b"x", created=datetime(2026, 1, 1, tzinfo=UTC)):
    def describe(files):
        return Manifest(
            model=ModelSettings(), items=1, opset=20, data=DATA, metrics={}, created=created,
            files=files,
        )  # fmt: skip

    return store.publish(
        {"a.bin": StoreFile(content, "device"), "b.bin": StoreFile(b"cloud", "cloud")}, describe
    )


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_a_published_version_passes_its_own_check(store):
    version = publish(store)
    assert store.versions() == [version]
    assert [f.name for f in store.checked(version).device_files()] == ["a.bin"]


def test_the_same_content_is_the_same_version_and_other_content_another(store):
    assert publish(store) == publish(store)
    assert publish(store) != publish(store, b"y")
    assert len(store.versions()) == 2


def test_a_failure_while_publishing_leaves_nothing_behind(store, monkeypatch):
    real = os.fsync
    calls = []

    def full(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        publish(store)
    assert store.versions() == []
    assert list((store.folder / "versions").iterdir()) == []


def test_promotion_checks_every_file_first(store):
    version = publish(store)
    (store.version_folder(version) / "b.bin").write_bytes(b"cloux")
    with pytest.raises(BundleError):
        store.promote(version)
    assert store.production() is None


def test_the_alias_names_one_whole_version_however_often_it_changes(store):
    versions = [publish(store, bytes([n])) for n in range(4)]
    store.promote(versions[0])
    seen, stop = set(), threading.Event()

    def watch():
        while not stop.is_set():
            seen.add(store.production())

    thread = threading.Thread(target=watch)
    thread.start()
    for n in range(100):
        store.promote(versions[n % 4])
    stop.set()
    thread.join()
    assert seen <= set(versions)


def test_a_retired_version_no_longer_answers_and_the_one_in_use_cannot_be_retired(store):
    old, new = publish(store, b"old"), publish(store, b"new")
    store.promote(old)
    with pytest.raises(InUse):
        store.retire(old)
    store.promote(new)
    store.retire(old)
    with pytest.raises(RetiredModel):
        store.checked(old)
    with pytest.raises(RetiredModel):
        store.promote(old)


@pytest.mark.parametrize(
    "name", ["../../etc", "", "production", "A" * 16, "0" * 15, "0" * 16 + "/..", "0" * 16]
)
def test_what_is_no_version_never_becomes_a_path(store, name):
    with pytest.raises(UnknownModel):
        store.manifest(name)
    with pytest.raises(UnknownModel):
        store.retire(name)


def test_an_alias_that_was_damaged_is_no_version(store):
    (store.folder / "aliases" / "production").write_text("../../x")
    assert store.production() is None


def test_the_manifest_on_disk_is_the_one_that_was_described(store):
    version = publish(store)
    manifest = read_manifest(store.version_folder(version), version)
    check_files(store.version_folder(version), manifest, None)
    assert manifest.data == DATA


def test_a_version_published_after_the_clock_was_set_back_is_still_the_newest(store):
    ahead = publish(store, b"by a clock five hours ahead")
    future = time.time() + 5 * 3600
    os.utime(store.version_folder(ahead), (future, future))
    later = [publish(store, bytes([n])) for n in range(3)]
    assert store.versions() == [*reversed(later), ahead]
    store.promote(later[-1])
    assert store.production() == later[-1]


def test_a_clock_set_forward_sweeps_no_draft_that_is_being_written_but_those_of_the_dead(
    store, monkeypatch
):
    """Another process opens the store in the middle of a publication."""
    dead = store.folder / "versions" / ".draft-dead"
    dead.mkdir()
    real_sync, real_time, looked = os.fsync, time.time, []

    def sync(handle):
        if not looked:
            monkeypatch.setattr(time, "time", lambda: real_time() + 5 * 3600)
            looked.append(Store(store.folder))
        real_sync(handle)

    monkeypatch.setattr(os, "fsync", sync)
    version = publish(store)
    assert looked
    assert not dead.exists()
    assert store.checked(version)
