"""Opening a bundle: checked whole, then mapped into memory."""

from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from shared import bundle as files
from shared.bundle import check_files, find_item, read_manifest, version_of
from shared.errors import BundleInvalid, UnknownItem
from shared.manifest import MANIFEST_NAME, Manifest


class Bundle:
    """A model version on the device. Make it with `Bundle.open`."""

    def __init__(self, folder: Path, version: str, manifest: Manifest) -> None:
        self.folder, self.version, self.manifest = folder, version, manifest
        s, rows = manifest.model, manifest.items + 1
        self.item_table = self._table(files.ITEM_TABLE, (rows, s.dim), "f4")
        """(items + 1, dim) float32, mapped from disk; row 0 is padding."""
        shape = s.heads, s.head_dim + 1, s.head_dim
        self.inner_state = self._table(files.INNER_STATE, shape, "f4").astype(np.float32)
        """The state a user without history begins with, (h, f + 1, f): weight and bias."""
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

    def index(self, item: str | int) -> int:
        """The number (from 1) of a catalogue id, or a number as it is.

        Raises UnknownItem for what is not in the catalogue, whatever it is.
        """
        if isinstance(item, str):
            found = find_item(self._ids, item)
            if not found:
                raise UnknownItem(f"item {item!r} is not in the catalogue of {self.version}")
            return found
        number = isinstance(item, Integral) and not isinstance(item, bool)
        if not number or not 1 <= item <= self.manifest.items:
            raise UnknownItem(f"items are numbered 1 to {self.manifest.items:,}, got {item!r}")
        return int(item)

    def item_id(self, index: int) -> str:
        """The catalogue id of an item number."""
        return bytes(self._ids[index - 1]).decode()

    def title(self, index: int) -> str | None:
        """The title of an item number, where the bundle has titles."""
        if self._titles is None:
            path = self.folder / files.TITLES
            self._titles = path.read_text("utf-8").split("\n") if path.exists() else ()
        return self._titles[index - 1] if self._titles else None

    def _table(self, name: str, shape: tuple[int, ...], kind: str) -> NDArray[np.generic]:
        try:
            table = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise BundleInvalid(f"{name} is not a numpy array: {error}") from error
        if table.shape != shape or not table.dtype.str[1:].startswith(kind):
            raise BundleInvalid(f"{name} holds {table.dtype} {table.shape}, not {kind} {shape}")
        found: NDArray[np.generic] = table
        return found
