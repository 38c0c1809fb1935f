"""Reads a bundle: a folder of files whose sizes and hashes are checked before it is opened."""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from shared.errors import (
    BundleInvalid,
    BundleMissing,
    BundleTampered,
    BundleTooNew,
    BundleTruncated,
)
from shared.manifest import LEARNING_FORMAT, MANIFEST_NAME, OLDEST, FileEntry, Manifest

MANIFEST_LIMIT = 1 << 20
"""Largest size of a manifest, in bytes."""

# The files of a version. GRAPHS.md says what each graph computes.
HIDDEN_GRAPH = "hidden.onnx"
PROJECTIONS_GRAPH = "views.onnx"
PREPARE_GRAPH = "prepare.onnx"
RANK_GRAPH = "rank.onnx"
CARRY_GRAPH = "carry.onnx"
ITEM_TABLE = "items.npy"
ITEM_IDS = "item_ids.npy"
TITLES = "titles.txt"
INNER_STATE = "inner_state.npy"
LEARN_GRAPH = "learn.onnx"
AMORTISED_GRAPH = "amortised.onnx"
BASIS = "basis.npy"
GCN_GRAPH = "gcn.onnx"
GCN_ROW_GRAPH = "gcn_row.onnx"
NEIGHBOURS = "neighbours.safetensors"
WEIGHTS = "weights.safetensors"


def find_item(ids: NDArray[np.bytes_], item: str) -> int:
    """The number (from 1) of a catalogue id in the sorted ids of ITEM_IDS; 0 if it is not there."""
    key = item.encode("utf-8", "surrogatepass")
    if len(key) > ids.dtype.itemsize:  # numpy would widen, and thus copy, the whole mapped table
        return 0
    at = int(np.searchsorted(ids, key))
    return at + 1 if at < len(ids) and ids[at] == key else 0


def find_items(ids: NDArray[np.bytes_], items: Sequence[str]) -> NDArray[np.int64]:
    """The numbers (N,) of catalogue ids as `find_item` returns them, in one search."""
    keys = [item.encode("utf-8", "surrogatepass") for item in items]
    # As wide as the table, which numpy would copy otherwise: longer ids are cut here.
    queries = np.array(keys, ids.dtype)
    at = np.searchsorted(ids, queries)
    at[at == len(ids)] = 0
    rows: NDArray[np.int64] = np.where(ids[at] == queries, at + 1, 0)
    stored = queries.tolist()
    if stored != keys:  # numpy cut a long id, or dropped a NUL at its end: not the requested id
        rows[[key != query for key, query in zip(keys, stored, strict=True)]] = 0
    return rows


def version_of(manifest: bytes) -> str:
    """The version that a manifest identifies: the first 16 hex digits of its sha256."""
    return hashlib.sha256(manifest).hexdigest()[:16]


def parse_manifest(raw: bytes) -> Manifest:
    """Parses a manifest. Raises BundleTooNew or BundleInvalid."""
    if len(raw) > MANIFEST_LIMIT:
        raise BundleInvalid(f"a manifest has at most {MANIFEST_LIMIT:,} bytes")
    try:
        fields = json.loads(raw)
        if isinstance(fields, dict) and isinstance(fields.get("format"), int):
            version = fields["format"]
            if version > LEARNING_FORMAT:
                raise BundleTooNew(
                    f"the bundle has format {version}, this program reads up to "
                    f"{LEARNING_FORMAT}: update it"
                )
            if version < OLDEST:
                raise BundleInvalid(
                    f"the bundle has format {version}, this program reads {OLDEST} and later: "
                    "train it again"
                )
        return Manifest.model_validate_json(raw)
    except (ValidationError, ValueError, RecursionError) as error:
        raise BundleInvalid(f"{MANIFEST_NAME} is not a valid manifest: {error}") from error


def read_manifest(folder: Path, version: str | None = None) -> Manifest:
    """Reads the manifest in `folder`; with `version`, accepts only a manifest of that version.

    Raises BundleMissing, BundleTooNew, BundleInvalid or BundleTampered.
    """
    path = folder / MANIFEST_NAME
    try:
        with path.open("rb") as file:
            raw = file.read(MANIFEST_LIMIT + 1)
    except OSError as error:
        raise BundleMissing(f"no manifest at {path}: {error.strerror}") from error
    manifest = parse_manifest(raw)
    if version is not None and version_of(raw) != version:
        raise BundleTampered(f"the manifest in {folder.name} is not that of version {version}")
    return manifest


def check_files(folder: Path, manifest: Manifest, role: Literal["device", "cloud"] | None) -> None:
    """Checks size and hash of every file, or of those with `role`.

    Raises BundleMissing, BundleTruncated or BundleTampered, which name the file.
    """
    for entry in manifest.files:
        if role in (None, entry.role):
            check_file(folder / entry.name, entry)


def check_file(path: Path, entry: FileEntry) -> None:
    """Checks one file against its manifest entry; see `check_files`."""
    try:
        size = path.stat().st_size
        if size != entry.size:
            raise BundleTruncated(
                f"{entry.name} has {size:,} bytes, its manifest says {entry.size:,}"
            )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleMissing(f"{entry.name} cannot be read: {error.strerror}") from error
    if digest != entry.sha256:
        raise BundleTampered(f"{entry.name} does not have the sha256 its manifest names")


def mark_newest(folder: Path, siblings: Iterable[Path]) -> None:
    """Sets the modification time of `folder` to now, but never before its `siblings`'."""
    latest_ns = max((sibling.stat().st_mtime_ns for sibling in siblings), default=0)
    now_ns = time.time_ns()
    os.utime(folder, ns=(now_ns, max(now_ns, latest_ns + 1_000_000)))
