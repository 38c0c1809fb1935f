"""CorrectorCache keeps as many versions open as memory allows, and loads each one once."""

import threading
import time
from datetime import UTC, datetime

import pytest

from cloud_service.correction import corrector_cache
from cloud_service.correction.corrector_cache import Corrector, CorrectorCache
from cloud_service.storage.port import StoreFile
from cloud_service.storage.store import Store
from shared import bundle as files
from shared.errors import BundleInvalid, BundleTampered, UnknownModel
from shared.manifest import Manifest

VERSIONS = 4
PLENTY = 1 << 30


@pytest.fixture(scope="module")
def store(tmp_path_factory, small_store) -> Store:
    """A store with four versions of one model; the first is in production."""
    manifest, content = _files(small_store)
    store = Store(tmp_path_factory.mktemp("versions"))
    for day in range(VERSIONS):
        created = datetime(2026, 2, day + 1, tzinfo=UTC)
        version = store.publish(
            content,
            lambda entries, created=created: manifest.model_copy(
                update={"files": entries, "created": created}
            ),
        )
        if not day:
            store.promote(version)
    return store


def test_as_many_versions_stay_open_as_there_is_room_for(store):
    cache = CorrectorCache(store, room=PLENTY)
    opened = {version: cache.open(version) for version in store.versions()}
    assert len(opened) == VERSIONS
    assert all(cache.get(version) is corrector for version, corrector in opened.items())


def test_without_room_the_version_used_longest_ago_is_closed_and_never_production(store):
    production = store.production()
    idle = [version for version in store.versions() if version != production]
    size = CorrectorCache(store, room=PLENTY).open(production).size
    cache = CorrectorCache(store, room=3 * size)
    for version in (production, *idle[:2]):
        cache.open(version)
    assert cache.get(idle[0]) is not None  # now the other one is the idlest
    cache.open(idle[2])
    assert set(cache.loaded()) == {production, idle[0], idle[2]}


def test_a_version_larger_than_all_the_room_answers_beside_production(store):
    production = store.production()
    cache = CorrectorCache(store, room=1)
    cache.refresh()
    for version in set(store.versions()) - {production}:
        assert cache.open(version) is cache.get(version)
        assert set(cache.loaded()) == {production, version}


def test_a_version_that_many_ask_for_at_once_is_loaded_once(store, monkeypatch):
    loads, everybody = [], threading.Barrier(8)

    def load(*arguments):
        loads.append(arguments)
        return Corrector(*arguments)

    monkeypatch.setattr(corrector_cache, "Corrector", load)
    cache, answers = CorrectorCache(store, room=PLENTY), []

    def ask():
        everybody.wait()
        answers.append(cache.open(store.production()))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len(answers) == 8
    assert len(set(map(id, answers))) == 1


def test_a_production_version_that_cannot_be_opened_is_not_tried_every_second(
    store, monkeypatch, caplog
):
    tried = []

    def fail(*_):
        tried.append(time.monotonic())
        raise RuntimeError("no such operator")

    monkeypatch.setattr(corrector_cache, "Corrector", fail)
    cache = CorrectorCache(store, room=PLENTY)
    for _ in range(3):
        cache.refresh()
    assert len(tried) == 1
    assert caplog.text.count("cannot be opened: no such operator") == 1
    cache._unopened = store.production(), 0.0  # the time is over
    cache.refresh()
    assert len(tried) == 2
    monkeypatch.setattr(corrector_cache, "Corrector", Corrector)
    assert cache.open(store.production())  # asked for, it is tried at once


def test_versions_that_cannot_be_opened_leave_nothing_behind(store):
    cache = CorrectorCache(store, room=PLENTY)
    for version in ("0" * 16, "../../etc"):
        for _ in range(2):
            with pytest.raises(UnknownModel):
                cache.open(version)
    assert cache.loaded() == []
    assert cache.open(store.production()) is cache.get(store.production())


def test_only_the_files_that_are_opened_are_checked_and_these_always(tmp_path, small_store):
    manifest, content = _files(small_store)
    store = Store(tmp_path)
    version = store.publish(content, lambda entries: manifest.model_copy(update={"files": entries}))
    table = store.version_folder(version) / files.ITEM_TABLE
    table.write_bytes(table.read_bytes()[:-1] + b"!")
    CorrectorCache(store, room=PLENTY).open(version)
    with pytest.raises(BundleTampered):
        store.promote(version)
    graph = store.version_folder(version) / files.GCN_ROW_GRAPH
    graph.write_bytes(graph.read_bytes()[:-1] + b"!")
    with pytest.raises(BundleTampered):
        CorrectorCache(store, room=PLENTY).open(version)


def test_a_manifest_without_the_clouds_graphs_is_said_to_be_one(tmp_path, small_store):
    manifest, content = _files(small_store)
    del content[files.GCN_GRAPH]
    store = Store(tmp_path)
    version = store.publish(content, lambda entries: manifest.model_copy(update={"files": entries}))
    with pytest.raises(BundleInvalid, match=files.GCN_GRAPH):
        CorrectorCache(store, room=PLENTY).open(version)


def _files(store: Store) -> tuple[Manifest, dict[str, StoreFile]]:
    """Returns the manifest and all files of the production version."""
    version = store.production()
    assert version is not None
    manifest, folder = store.manifest(version), store.version_folder(version)
    return manifest, {
        entry.name: StoreFile((folder / entry.name).read_bytes(), entry.role)
        for entry in manifest.files
    }
