"""What the cloud needs of a store of model versions: streams and names, never the store's paths.

`store.py` keeps versions in a folder. Another kind, an object store say, implements the same and
passes the same tests (`tests/cloud/storage/test_port.py`).
"""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from shared.manifest import FileEntry, Manifest

PRODUCTION = "production"
"""The alias of the version that devices take where they name none."""


@dataclass(frozen=True)
class StoreFile:
    """A file to publish, before it has a hash."""

    content: bytes
    role: Literal["device", "cloud"]


def entries_of(files: Mapping[str, StoreFile]) -> tuple[FileEntry, ...]:
    """The entries of a manifest for files to publish, by name."""
    return tuple(
        FileEntry(
            name=name,
            size=len(file.content),
            sha256=hashlib.sha256(file.content).hexdigest(),
            role=file.role,
        )
        for name, file in sorted(files.items())
    )


class VersionStore(Protocol):
    """Model versions by their content, and aliases for those in use.

    Several processes may use one store at once. A reader sees a version whole or not at all.
    """

    def publish(
        self,
        files: Mapping[str, StoreFile],
        describe: Callable[[tuple[FileEntry, ...]], Manifest],
    ) -> str:
        """Writes a version and gives its name; `describe` makes the manifest of its files.

        The same content twice is one version. Raises OSError, leaving nothing behind.
        """

    def versions(self) -> list[str]:
        """Every published version, the last published first."""

    def has(self, version: str) -> bool:
        """Whether this version was published. Raises UnknownModel for what names no version."""

    def manifest(self, version: str) -> Manifest:
        """A version's manifest. Raises UnknownModel or a BundleError."""

    def manifest_bytes(self, version: str) -> bytes:
        """The manifest as it was published, byte for byte: its hash is the version's name.

        Raises UnknownModel.
        """

    def checked(self, version: str, names: Collection[str] | None = None) -> Manifest:
        """A version's manifest, after checking that it may answer, and its files, or `names`.

        Raises UnknownModel, RetiredModel or a BundleError.
        """

    def open(self, version: str, name: str) -> BinaryIO:
        """A file of a version as a seekable stream. Raises UnknownModel or BundleMissing."""

    def local_path(self, version: str, name: str) -> Path:
        """A file of a version as a local file, for what maps it into memory or sends it by path.

        A store that keeps versions elsewhere makes a copy, which stays until the process ends.
        The file is not to be changed. Raises UnknownModel; the file may be missing.
        """

    def promote(self, version: str, alias: str = PRODUCTION) -> None:
        """Points an alias at a version. Raises InvalidAlias, and as `checked` does."""

    def production(self) -> str | None:
        """The version in use, or None where nothing has been promoted yet."""

    def pointed_at(self, alias: str) -> str | None:
        """The version behind an alias, or None where it points nowhere."""

    def aliases(self) -> dict[str, str]:
        """Every alias and the version it points at, `production` first, then by name."""

    def retire(self, version: str) -> None:
        """Ends a version's answers. Raises UnknownModel, or InUse where an alias points at it."""

    def is_retired(self, version: str) -> bool:
        """Whether a version no longer answers. Raises UnknownModel for what names no version."""

    def replay(self, version: str) -> bytes | None:
        """The clicks of a version's held-out users, where there are any. Raises UnknownModel."""

    def local_pool(self, version: str) -> Path | None:
        """The pool of samples of a version as a local file, where there is one.

        It may be replaced at any time, by another file and never in place. Raises UnknownModel.
        """

    def write_pool(self, version: str, content: bytes | None) -> None:
        """Replaces the pool of samples of a version, or removes it. Raises OSError."""

    def write_replay(self, version: str, content: bytes) -> None:
        """Keeps the clicks of held-out users, for simulated devices. Raises OSError."""
