"""Opens a bundle: checks every file, then maps the tables into memory."""

import re
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from device_client.items import ItemId, id_text, id_texts, shown
from shared import bundle as files
from shared.bundle import check_files, find_item, find_items, read_manifest, version_of
from shared.errors import BundleInvalid, BundleMissing, InvalidItem, InvalidRequest, UnknownItem
from shared.manifest import MANIFEST_NAME, VERSION_PATTERN, Manifest


class Bundle:
    """A model version on the device. Create it with `Bundle.open`."""

    def __init__(self, folder: Path, version: str, manifest: Manifest) -> None:
        self.folder, self.version, self.manifest = folder, version, manifest
        s, rows = manifest.model, manifest.items + 1
        self.item_table = self._table(files.ITEM_TABLE, (rows, s.dim), "f4")
        """(items + 1, dim) float32, mapped from disk; row 0 is padding."""
        shape = s.heads, s.head_dim + 1, s.head_dim
        self.inner_state = self._table(files.INNER_STATE, shape, "f4").astype(np.float32)
        """Initial state of a user without history, (h, f + 1, f): weight and bias."""
        ids = self._table(files.ITEM_IDS, (manifest.items,), "S")
        self._ids = cast("NDArray[np.bytes_]", ids)
        self._titles: Sequence[str] | None = None

    @classmethod
    def open(cls, folder: Path, version: str | None = None) -> "Bundle":
        """Opens the bundle in `folder` after checking the size and hash of every file.

        With `version`, only that content is accepted. Raises a `shared.errors.BundleError`:
        BundleMissing, BundleTruncated, BundleTampered, BundleTooNew or BundleInvalid.
        """
        manifest = read_manifest(folder, version)
        check_files(folder, manifest, "device")
        return cls(folder, version_of((folder / MANIFEST_NAME).read_bytes()), manifest)

    def graph(self, name: str) -> str:
        """The path of one of its ONNX graphs."""
        return str(self.folder / name)

    def index(self, item: ItemId) -> int:
        """The row (from 1) of a catalogue id in `item_table`.

        Raises InvalidItem if `item` is not a catalogue id, UnknownItem if it is not in the
        catalogue.
        """
        text = id_text(item)
        row = find_item(self._ids, text)
        if not row:
            raise UnknownItem(f"item {shown(item)} is not in the catalogue of {self.version}")
        return row

    def rows(self, items: Sequence[ItemId]) -> NDArray[np.int64]:
        """The rows (N,) of catalogue ids; 0 for those not in the catalogue. Raises InvalidItem."""
        return find_items(self._ids, id_texts(items))

    def check_row(self, row: int) -> int:
        """Returns `row`. Raises InvalidItem if it is no integer, UnknownItem if out of range."""
        if not isinstance(row, Integral) or isinstance(row, bool):
            raise InvalidItem(f"a row is an integer, got {shown(row)}")
        if not 1 <= row <= self.manifest.items:
            raise UnknownItem(f"rows go from 1 to {self.manifest.items:,}, got {row}")
        return int(row)

    def item_id(self, row: int) -> str:
        """The catalogue id of a row."""
        return bytes(self._ids[row - 1]).decode()

    def title(self, row: int) -> str | None:
        """The title of a row; None if the bundle has no titles."""
        if self._titles is None:
            path = self.folder / files.TITLES
            self._titles = path.read_text("utf-8").split("\n") if path.exists() else ()
        return self._titles[row - 1] if self._titles else None

    def _table(self, name: str, shape: tuple[int, ...], file_kind: str) -> NDArray[np.generic]:
        try:
            table = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise BundleInvalid(f"{name} is not a numpy array: {error}") from error
        if table.shape != shape or not table.dtype.str[1:].startswith(file_kind):
            raise BundleInvalid(
                f"{name} holds {table.dtype} {table.shape}, not {file_kind} {shape}"
            )
        array: NDArray[np.generic] = table
        return array


def is_version(name: str) -> bool:
    """True if `name` is a version and not an alias."""
    return re.fullmatch(VERSION_PATTERN, name) is not None


def newest_bundle(folder: Path, model: str) -> Path:
    """The folder of a version in `folder` or, for `production`, of the newest bundle there.

    Raises InvalidRequest for another alias, BundleMissing if there is no bundle.
    """
    if is_version(model):
        return folder / model
    if model != "production":
        raise InvalidRequest(
            f"--offline takes a version, not the alias {shown(model)}: only the cloud knows which "
            "version that is"
        )
    bundles = [path for path in folder.glob("*") if is_version(path.name)]
    if not bundles:
        raise BundleMissing(f"no bundle in {folder}: run `device-client pull` while online")
    return max(bundles, key=lambda path: path.stat().st_mtime_ns)
