"""Bundle files over HTTP: complete, ranges, unchanged, and errors."""

import hashlib

import pytest
from calling import code_of, publish

CONTENT = bytes(range(256)) * 390


@pytest.fixture
def version(cloud):
    return cloud.promoted()


def get(cloud, version, name="hidden.onnx", **headers):
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return cloud.call("GET", f"/v1/models/{version}/files/{name}", headers=named)


def test_a_file_comes_whole_with_its_hash_as_etag(cloud, version):
    answer = get(cloud, version)
    assert answer.status_code == 200
    assert answer.content == CONTENT
    assert answer.headers["etag"] == f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == str(len(CONTENT))


def test_head_says_the_same_without_a_body(cloud, version):
    answer = cloud.call("HEAD", f"/v1/models/{version}/files/hidden.onnx")
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["content-length"] == str(len(CONTENT))


@pytest.mark.parametrize("form", ['"{}"', 'W/"{}"', '"other", "{}"', "*"])
def test_what_the_caller_holds_is_not_sent_again(cloud, version, form):
    tag = hashlib.sha256(CONTENT).hexdigest()
    answer = get(cloud, version, if_none_match=form.format(tag))
    assert answer.status_code == 304
    assert answer.content == b""
    assert answer.headers["etag"] == f'"{tag}"'


def test_another_etag_gets_the_file(cloud, version):
    assert get(cloud, version, if_none_match='"else"').status_code == 200


@pytest.mark.parametrize(
    ("requested", "start", "stop"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=99830-", 99830, 99840),
        ("bytes=-5", 99835, 99840),
        ("bytes=99830-500000", 99830, 99840),
    ],
)
def test_a_part_is_sent_as_a_part(cloud, version, requested, start, stop):
    answer = get(cloud, version, range=requested)
    assert answer.status_code == 206
    assert answer.content == CONTENT[start:stop]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/99840"


def test_a_part_of_another_content_becomes_the_whole(cloud, version):
    complete = get(cloud, version, range="bytes=0-9", if_range='"of-yesterday"')
    assert (complete.status_code, complete.content) == (200, CONTENT)
    tag = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    assert get(cloud, version, range="bytes=0-9", if_range=tag).status_code == 206


@pytest.mark.parametrize("requested", ["bytes=99840-", "bytes=5-1", "bytes=", "foo", "items=0-1"])
def test_a_range_that_does_not_exist_is_a_problem(cloud, version, requested):
    answer = get(cloud, version, range=requested)
    assert (answer.status_code, code_of(answer)) == (416, "range-invalid")
    assert answer.headers["content-range"] == "bytes */99840"


def test_an_empty_file_comes_empty(cloud, version):
    answer = get(cloud, version, "empty.bin")
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    "name", ["gcn.onnx", "neighbours.safetensors", "nothing.bin", "%2e%2e%2fmanifest.json"]
)
def test_only_files_for_devices_are_handed_out(cloud, version, name):
    answer = get(cloud, version, name)
    assert answer.status_code == 404
    assert code_of(answer) in ("unknown-file", "unknown-path")


def test_the_manifest_names_the_version_by_its_hash(cloud, version):
    manifest = get(cloud, version, "manifest.json")
    assert hashlib.sha256(manifest.content).hexdigest()[:16] == version
    shown = cloud.call("GET", "/v1/models/production")
    assert shown.content == manifest.content
    assert shown.headers["model-version"] == version
    assert shown.headers["cache-control"] == "no-cache"
    assert cloud.call("GET", f"/v1/models/{version}").headers["etag"] == f'"{version}"'
    repeated = cloud.call("GET", "/v1/models/production", headers={"if-none-match": f'"{version}"'})
    assert repeated.status_code == 304


def test_versions_are_listed_with_what_they_are(cloud, version):
    second = publish(cloud.store, "other")
    cloud.store.retire(second)
    by_version = {model["version"]: model for model in cloud.call("GET", "/v1/models").json()}
    assert by_version[version]["production"]
    assert not by_version[version]["retired"]
    assert by_version[second]["retired"]
    assert by_version[second]["data"] == "other"


def test_a_retired_version_hands_out_nothing(cloud, version):
    second = publish(cloud.store, "other")
    assert get(cloud, second).status_code == 200
    assert cloud.call("POST", f"/v1/models/{second}/retire").status_code == 200
    assert code_of(get(cloud, second)) == "retired-model"
    assert code_of(cloud.call("GET", f"/v1/models/{second}/replay")) == "retired-model"


def test_replays_are_handed_out_only_where_this_was_asked_for(cloud, make_cloud, version):
    path = f"/v1/models/{version}/replay"
    assert code_of(cloud.call("GET", path)) == "no-replay"
    cloud.store.write_replay(version, b"clicks")
    assert cloud.call("GET", path).content == b"clicks"
    closed = make_cloud().call("GET", path)
    assert (closed.status_code, code_of(closed)) == (403, "forbidden")
    assert "CLOUD_SERVE_REPLAYS" in closed.json()["detail"]


def test_a_damaged_version_is_not_promoted_and_its_place_is_not_told(cloud):
    version = publish(cloud.store)
    (cloud.store.version_folder(version) / "hidden.onnx").write_bytes(b"short")
    answer = cloud.call("POST", f"/v1/models/{version}/promote")
    assert (answer.status_code, code_of(answer)) == (500, "bundle-truncated")
    assert str(cloud.store.folder) not in answer.text
    assert cloud.store.production() is None
