"""Pulling a bundle from a real cloud process: whole, resumed, damaged, refused."""

import json

import httpx
import pytest

from device_client.bundle import Bundle
from device_client.cloud import Cloud, CloudError
from shared.errors import BundleTampered, InvalidRequest


@pytest.fixture
def cloud(served_store):
    with Cloud(served_store) as cloud:
        yield cloud


def test_a_pulled_bundle_opens_and_holds_no_file_of_the_clouds(cloud, tmp_path, small_store):
    seen = []
    folder = cloud.pull(tmp_path, progress=lambda *each: seen.append(each))
    assert folder.name == small_store.production() == cloud.production()
    assert Bundle.open(folder, folder.name)
    assert not list(folder.glob("gcn*")) + list(folder.glob("weights*"))
    assert all(done <= size for _, done, size in seen)
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == [folder.name]


def test_a_bundle_that_is_there_is_not_downloaded_again(cloud, tmp_path):
    cloud.pull(tmp_path)
    seen = []
    cloud.pull(tmp_path, progress=lambda *each: seen.append(each))
    assert seen == []


def test_a_download_that_was_cut_off_goes_on_where_it_was(cloud, tmp_path, small_bundle):
    draft = tmp_path / f".partial-{small_bundle.name}"
    draft.mkdir()
    table = (small_bundle / "items.npy").read_bytes()
    (draft / "items.npy").write_bytes(table[:10_000])
    seen = []
    folder = cloud.pull(tmp_path, progress=lambda name, done, size: seen.append((name, done)))
    assert next(done for name, done in seen if name == "items.npy") > 10_000
    assert (folder / "items.npy").read_bytes() == table


def test_a_damaged_bundle_is_replaced(cloud, tmp_path):
    folder = cloud.pull(tmp_path)
    (folder / "rank.onnx").write_bytes(b"broken")
    assert Bundle.open(cloud.pull(tmp_path))


def test_a_partial_file_that_is_wrong_is_never_taken(cloud, tmp_path, small_bundle):
    draft = tmp_path / f".partial-{small_bundle.name}"
    draft.mkdir()
    (draft / "items.npy").write_bytes(b"x" * 10_000)
    with pytest.raises(BundleTampered):
        cloud.pull(tmp_path)
    assert not (tmp_path / small_bundle.name).exists()
    assert Bundle.open(cloud.pull(tmp_path))


def test_versions_that_do_not_exist_are_an_error_that_says_so(cloud, tmp_path):
    with pytest.raises(CloudError, match="unknown-model"):
        cloud.pull(tmp_path, "0" * 16)
    with pytest.raises(InvalidRequest, match="16 hex digits"):
        cloud.pull(tmp_path, "../../x")


def test_no_cloud_says_what_to_start(tmp_path):
    with Cloud("http://127.0.0.1:9") as nobody, pytest.raises(CloudError, match="cloud-service"):
        nobody.pull(tmp_path)


def test_an_address_that_is_none_is_an_error():
    for address in ("http://[", "ftp://x", "cloud:8000", "http://x:99999"):
        with pytest.raises(ValueError, match="address"):
            Cloud(address)


def hostile(**answers):
    """A cloud that answers each path with what a test gives for it."""

    def handle(request):
        return answers.get(request.url.path.rsplit("/", 1)[-1], httpx.Response(500))

    return Cloud("http://hostile", transport=httpx.MockTransport(handle))


def test_a_file_longer_than_its_manifest_says_is_not_written_whole(small_bundle, tmp_path):
    raw = (small_bundle / "manifest.json").read_bytes()
    first = next(e for e in json.loads(raw)["files"] if e["role"] == "device")
    cloud = hostile(
        production=httpx.Response(200, content=raw),
        **{first["name"]: httpx.Response(200, content=bytes(first["size"] + 1))},
    )
    with pytest.raises(Exception, match="longer than its manifest"):
        cloud.pull(tmp_path)


def test_an_endless_manifest_is_cut_off(tmp_path):
    cloud = hostile(production=httpx.Response(200, content=bytes(2 << 20)))
    with pytest.raises(CloudError, match="larger"):
        cloud.pull(tmp_path)


def test_candidate_lists_and_replays_come_as_rows(cloud, small_store):
    version = small_store.production()
    lists = cloud.candidate_rows(version, [[1, 2], [3]] * 200, 20)
    assert len(lists) == 400
    assert all(len(each) == 20 and each.min() >= 1 for each in lists)
    items, offsets = cloud.replay(version)
    assert offsets[-1] == len(items)
