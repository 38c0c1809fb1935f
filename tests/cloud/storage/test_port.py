"""What every store of model versions does, whatever it keeps them in."""

import hashlib
from datetime import UTC, datetime

import numpy as np
import pytest

from cloud_service.api.app import create_app
from cloud_service.api.context import Services
from cloud_service.api.metrics import Metrics
from cloud_service.correction.corrector_cache import CorrectorCache
from cloud_service.correction.scheduler import CorrectionScheduler
from cloud_service.publishing.publish import publish
from cloud_service.services.candidates import Candidates
from cloud_service.services.heartbeat import Heartbeat
from cloud_service.services.jobs import Jobs
from cloud_service.services.models import ModelRegistry
from cloud_service.services.samples import SampleService
from cloud_service.storage.port import PRODUCTION, StoreFile
from cloud_service.storage.store import InUse, InvalidAlias, Store
from shared.errors import BundleInvalid, BundleMissing, RetiredModel, UnknownModel
from shared.manifest import Manifest, TrainingData
from shared.model import ModelSettings
from shared.wire import FORMS, HIDDEN_TYPE
from tests.cloud.api.calling import Caller
from tests.instruments.memory_store import MemoryStore

NOBODY = "0" * 16


@pytest.fixture(params=[Store, MemoryStore], ids=["folder", "memory"])
def store(request, tmp_path):
    return request.param(tmp_path)


def published(store, name="small", content=b"device bytes"):
    def describe(entries):
        return Manifest(
            model=ModelSettings(dim=8, heads=2, segment=4, length=4),
            items=6,
            opset=18,
            data=TrainingData(
                name=name, users=3, items=6, clicks=20, synthetic=True, preprocessing="none"
            ),
            metrics={},
            created=datetime(2026, 1, 2, tzinfo=UTC),
            files=entries,
        )

    files = {"a.bin": StoreFile(content, "device"), "b.bin": StoreFile(b"cloud", "cloud")}
    return store.publish(files, describe)


def test_a_version_is_what_was_published_and_named_by_its_manifest(store):
    version = published(store)
    assert store.has(version)
    assert store.versions() == [version]
    assert hashlib.sha256(store.manifest_bytes(version)).hexdigest().startswith(version)
    assert [entry.name for entry in store.manifest(version).files] == ["a.bin", "b.bin"]
    with store.open(version, "a.bin") as stream:
        stream.seek(7)
        assert stream.read() == b"bytes"
    assert store.local_path(version, "b.bin").read_bytes() == b"cloud"
    assert store.checked(version) == store.checked(version, ["a.bin"]) == store.manifest(version)


def test_the_same_content_twice_is_one_version_and_the_newest_comes_first(store):
    first = published(store)
    second = published(store, content=b"other")
    assert published(store) == first != second
    assert sorted(store.versions()) == sorted([first, second])
    assert store.versions()[0] == second


def test_aliases_point_at_versions(store):
    first, second = published(store), published(store, content=b"other")
    assert (store.production(), store.aliases()) == (None, {})
    store.promote(first, "log")
    store.promote(second)
    assert store.production() == store.pointed_at(PRODUCTION) == second
    assert list(store.aliases().items()) == [(PRODUCTION, second), ("log", first)]
    assert store.pointed_at("another") is None
    with pytest.raises(InvalidAlias):
        store.promote(first, "No Alias")


def test_a_retired_version_answers_no_more_and_one_in_use_is_not_retired(store):
    version = published(store)
    store.promote(version)
    with pytest.raises(InUse):
        store.retire(version)
    store.promote(published(store, content=b"other"))
    store.retire(version)
    assert store.is_retired(version)
    with pytest.raises(RetiredModel):
        store.checked(version)
    with pytest.raises(RetiredModel):
        store.promote(version)


@pytest.mark.parametrize("name", ["../../etc", "production", "0" * 15, ""])
def test_what_names_no_version_is_refused(store, name):
    calls = (store.has, store.manifest, store.is_retired, store.replay, store.retire)
    for call in (*calls, store.local_pool, lambda version: store.write_pool(version, b"")):
        with pytest.raises(UnknownModel):
            call(name)


def test_what_is_not_there_is_said(store):
    version = published(store)
    assert not store.has(NOBODY)
    for call in (store.manifest, store.manifest_bytes, store.checked, store.promote):
        with pytest.raises(UnknownModel):
            call(NOBODY)
    with pytest.raises(BundleMissing):
        store.open(version, "c.bin")
    with pytest.raises(BundleInvalid):
        store.checked(version, ["c.bin"])
    assert store.replay(version) is None


def test_clicks_of_held_out_users_are_kept_beside_the_version(store):
    version = published(store)
    store.write_replay(version, b"clicks")
    assert store.replay(version) == b"clicks"


def test_a_pool_is_replaced_by_another_file_and_goes_with_its_version(store):
    version = published(store)
    assert store.local_pool(version) is None
    store.write_pool(version, b"samples")
    path = store.local_pool(version)
    with path.open("rb") as opened:
        store.write_pool(version, b"others")
        assert opened.read() == b"samples"
    assert store.local_pool(version).read_bytes() == b"others"
    store.write_pool(version, None)
    store.write_pool(version, None)
    assert store.local_pool(version) is None
    store.write_pool(version, b"samples")
    store.retire(version)
    assert store.local_pool(version) is None


def test_the_whole_cloud_runs_on_any_store(store, tmp_path, small_model, small_split):
    """Corrections, candidates, bundles and promotion need nothing but the port."""
    created = datetime(2026, 1, 2, tzinfo=UTC)
    version = publish(store, small_model, small_split, {}, created=created)
    models = ModelRegistry(store)
    jobs = Jobs(Store(tmp_path / "jobs"), f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    services = Services(
        models=models,
        candidates=Candidates(models),
        samples=SampleService(store, models),
        jobs=jobs,
        correctors=CorrectorCache(store, room=512 << 20),
        scheduler=CorrectionScheduler(longest_s=5.0),
        metrics=Metrics(),
        heartbeat=Heartbeat(tmp_path),
        log_folder=tmp_path,
        admin_token="a-token-of-sixteen",
        serve_replays=True,
    )
    app = create_app(services, max_json_bytes=1 << 20, body_timeout=5.0, close=jobs.close)
    call = Caller(app, token="a-token-of-sixteen")
    assert call("POST", f"/v1/models/{version}/promote").json()["production"]
    manifest = store.manifest(version)
    for entry in manifest.device_files():
        sent = call("GET", f"/v1/models/{version}/files/{entry.name}")
        assert hashlib.sha256(sent.content).hexdigest() == entry.sha256
    part = call("GET", f"/v1/models/{version}/files/items.npy", headers={"range": "bytes=2-5"})
    assert (part.status_code, len(part.content)) == (206, 4)
    hidden = np.zeros((10, 64), "<f4")
    hidden[0, 0] = 1.0
    correction = call(
        "POST",
        f"/v1/models/{version}/correction",
        content=hidden.tobytes(),
        headers={"content-type": HIDDEN_TYPE, "accept": FORMS["row"].correction_type},
    )
    assert (correction.status_code, len(correction.content)) == (200, 416)
    item = small_split.log.item_ids[3]
    listed = call("POST", f"/v1/models/{version}/candidates", json={"clicks": [item]})
    assert listed.status_code == 200, listed.text
    assert call("GET", f"/v1/models/{version}/replay").content == store.replay(version)
