"""A bundle is opened only if every byte of it is what its manifest says."""

import json
import shutil

import numpy as np
import pytest

from device_client.bundle import Bundle
from shared.bundle import version_of
from shared.errors import (
    BundleInvalid,
    BundleMissing,
    BundleTampered,
    BundleTooNew,
    BundleTruncated,
)
from shared.manifest import LEARNING_FORMAT, OLDEST

FILES = (
    "hidden.onnx",
    "views.onnx",
    "prepare.onnx",
    "rank.onnx",
    "carry.onnx",
    "items.npy",
    "item_ids.npy",
    "inner_state.npy",
)


@pytest.fixture
def copy(small_bundle, tmp_path):
    """A bundle of the test's own, with the files a device downloads and no others."""
    manifest = json.loads((small_bundle / "manifest.json").read_text())
    target = tmp_path / small_bundle.name
    target.mkdir()
    for entry in manifest["files"]:
        if entry["role"] == "device":
            shutil.copy(small_bundle / entry["name"], target)
    shutil.copy(small_bundle / "manifest.json", target)
    return target


def rewrite(folder, **changes):
    """Changes the manifest, with no attempt to keep the version's name."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_whole_bundle_opens_with_its_device_files_alone(copy):
    bundle = Bundle.open(copy, copy.name)
    assert bundle.version == copy.name == version_of((copy / "manifest.json").read_bytes())
    assert bundle.item_table.shape == (bundle.manifest.items + 1, 64)
    assert not bundle.item_table[0].any()


def test_the_item_table_is_mapped_and_not_read(copy):
    assert isinstance(Bundle.open(copy).item_table, np.memmap)


@pytest.mark.parametrize("name", FILES)
def test_one_changed_bit_in_any_file_is_found(copy, name):
    path = copy / name
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    with pytest.raises(BundleTampered, match=name):
        Bundle.open(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_found(copy, name):
    path = copy / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleTruncated, match=name):
        Bundle.open(copy)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(BundleMissing, match=name.replace(".", r"\.")):
        Bundle.open(copy)


def test_a_manifest_of_another_version_is_found(copy):
    rewrite(copy, metrics={"all/ndcg@10": 0.99})
    with pytest.raises(BundleTampered, match="manifest"):
        Bundle.open(copy, copy.name)


def test_a_newer_format_says_to_update(copy):
    rewrite(copy, format=LEARNING_FORMAT + 1, unheard_of="field")
    with pytest.raises(BundleTooNew, match="update"):
        Bundle.open(copy)


def test_an_older_format_says_to_train_again(copy):
    rewrite(copy, format=OLDEST - 1)
    with pytest.raises(BundleInvalid, match="train it again"):
        Bundle.open(copy)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"format": 1}', "[" * 100_000, '{"format": "1"}', '{"format": 0}'],
)
def test_a_manifest_that_is_none_is_refused(copy, text):
    (copy / "manifest.json").write_text(text)
    with pytest.raises(BundleInvalid):
        Bundle.open(copy)


@pytest.mark.parametrize("name", ["../items.npy", "/etc/passwd", "a/b.npy", "..", ".hidden", "x"])
def test_a_manifest_cannot_name_a_file_outside_its_folder(copy, name):
    files = json.loads((copy / "manifest.json").read_text())["files"]
    files[0]["name"] = name
    rewrite(copy, files=files)
    with pytest.raises(BundleInvalid):
        Bundle.open(copy)


def test_tables_that_do_not_fit_the_manifest_are_refused(copy):
    import hashlib

    np.save(copy / "items.npy", np.zeros((3, 64), np.float32))
    body = (copy / "items.npy").read_bytes()
    files = json.loads((copy / "manifest.json").read_text())["files"]
    for entry in files:
        if entry["name"] == "items.npy":
            entry.update(size=len(body), sha256=hashlib.sha256(body).hexdigest())
    rewrite(copy, files=files)
    with pytest.raises(BundleInvalid, match="items"):
        Bundle.open(copy)
