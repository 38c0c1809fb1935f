"""The store: model versions by their content, and aliases for those in use.

versions/VERSION/     manifest.json and the files it names; written whole or not at all
aliases/production    the version in use, one line
aliases/NAME          the same for one log: the version that serves its items
retired/VERSION       an empty mark: this version no longer answers
replays/VERSION.npz   clicks of held-out users, for simulated devices
pools/VERSION         samples for devices that learn; gone when the version is retired
data/                 data sets fetched from their publishers
"""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from cloud_service.storage.port import PRODUCTION, StoreFile, VersionStore, entries_of
from shared.bundle import check_file, check_files, mark_newest, read_manifest, version_of
from shared.errors import (
    BundleError,
    BundleInvalid,
    BundleMissing,
    RecommendationError,
    RetiredModel,
    UnknownModel,
)
from shared.manifest import ALIAS_PATTERN, MANIFEST_NAME, VERSION_PATTERN, FileEntry, Manifest
from shared.whole_file import is_held, put_in_place, sync, write_durable, write_whole

DRAFT_SECONDS = 3600
VERSION = re.compile(VERSION_PATTERN)
ALIAS = re.compile(ALIAS_PATTERN)
_NO_SLUG = re.compile(r"[^a-z0-9._-]+")


class Store(VersionStore):
    """A folder of model versions. Several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in ("versions", "aliases", "retired", "replays", "pools", "data"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for draft in (folder / "versions").glob(".draft-*"):  # of a process that was killed
            with suppress(FileNotFoundError):  # published, or swept by another, at this moment
                old = time.time() - draft.stat().st_mtime > DRAFT_SECONDS
                if old and not is_held(draft):  # a clock that was set forward makes all look old
                    shutil.rmtree(draft, ignore_errors=True)

    def publish(
        self,
        files: Mapping[str, StoreFile],
        describe: Callable[[tuple[FileEntry, ...]], Manifest],
    ) -> str:
        """Writes a version and gives its name; `describe` makes the manifest of its files.

        A reader sees all of it or nothing: it is written beside the others and renamed. The
        same content twice is one version. Raises OSError, leaving nothing behind, where the disk
        is full.
        """
        manifest = describe(entries_of(files)).model_dump_json(indent=1).encode()
        version = version_of(manifest)
        target = self.version_folder(version)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=self.folder / "versions"))
        held = os.open(draft, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_SH)
            for name, file in files.items():
                write_durable(draft / name, file.content)
            write_durable(draft / MANIFEST_NAME, manifest)
            draft.chmod(0o755)
            mark_newest(draft, self._folders())
            sync(draft)
            try:
                put_in_place(draft, target)
            except OSError:
                if not target.is_dir():  # else the same content has been published before
                    raise
        finally:
            os.close(held)
            shutil.rmtree(draft, ignore_errors=True)
        return version

    def version_folder(self, version: str) -> Path:
        """Where a version's files are. Raises UnknownModel for what cannot be a version's name."""
        if not VERSION.fullmatch(version):
            raise UnknownModel("a version is 16 hex digits")
        return self.folder / "versions" / version

    def versions(self) -> list[str]:
        """Every published version, the newest first: the last to be published, whatever the clock
        said then."""
        found = sorted(self._folders(), key=lambda f: f.stat().st_mtime_ns, reverse=True)
        return [folder.name for folder in found]

    def _folders(self) -> list[Path]:
        return [f for f in (self.folder / "versions").iterdir() if VERSION.fullmatch(f.name)]

    def has(self, version: str) -> bool:
        """Whether this version was published. Raises UnknownModel for what names no version."""
        return self.version_folder(version).is_dir()

    def open(self, version: str, name: str) -> BinaryIO:
        """A file of a version as a seekable stream. Raises UnknownModel or BundleMissing."""
        try:
            return self.local_path(version, name).open("rb")
        except OSError as error:
            raise BundleMissing(f"{name} cannot be read: {error.strerror}") from error

    def local_path(self, version: str, name: str) -> Path:
        """The file itself: not to be changed. Raises UnknownModel."""
        if Path(name).name != name:
            raise UnknownModel("a file of a version is named without a folder")
        return self.version_folder(version) / name

    def manifest_bytes(self, version: str) -> bytes:
        """The manifest as it was published, byte for byte. Raises UnknownModel."""
        try:
            return (self.version_folder(version) / MANIFEST_NAME).read_bytes()
        except FileNotFoundError:
            raise UnknownModel(f"no version {version} here") from None

    def manifest(self, version: str) -> Manifest:
        """A version's manifest. Raises UnknownModel or a BundleError."""
        folder = self.version_folder(version)
        if not folder.is_dir():
            raise UnknownModel(f"no version {version} here")
        return read_manifest(folder, version)

    def checked(self, version: str, names: Collection[str] | None = None) -> Manifest:
        """A version's manifest, after checking that it may answer, and every file it names, or
        those of `names`.

        Raises UnknownModel, RetiredModel or a BundleError; BundleInvalid where the manifest has no
        file of such a name.
        """
        manifest = self.manifest(version)
        if self.is_retired(version):
            raise RetiredModel(f"version {version} was retired")
        if names is None:
            check_files(self.version_folder(version), manifest, None)
            return manifest
        entries = {entry.name: entry for entry in manifest.files}
        for name in names:
            if name not in entries:
                raise BundleInvalid(f"the manifest of version {version} names no {name}")
            check_file(self.version_folder(version) / name, entries[name])
        return manifest

    def promote(self, version: str, alias: str = PRODUCTION) -> None:
        """Points an alias at a version. Raises InvalidAlias, and as `checked` does."""
        if not ALIAS.fullmatch(alias):
            raise InvalidAlias(
                f"{alias[:64]!r} cannot be an alias: use 1 to 64 of a-z, 0-9 and . _ -, begin with "
                "a letter or a digit, and take no 16 hex digits, which would be a version"
            )
        self.checked(version)
        write_whole(self.folder / "aliases" / alias, f"{version}\n".encode())

    def production(self) -> str | None:
        """The version in use, or None where nothing has been promoted yet."""
        return self.pointed_at(PRODUCTION)

    def pointed_at(self, alias: str) -> str | None:
        """The version behind an alias, or None where it points nowhere."""
        if not ALIAS.fullmatch(alias):
            return None
        try:
            version = (self.folder / "aliases" / alias).read_text("ascii").strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        return version if VERSION.fullmatch(version) else None

    def aliases(self) -> dict[str, str]:
        """Every alias and the version it points at, `production` first, then by name."""
        names = sorted(path.name for path in (self.folder / "aliases").iterdir())
        names.sort(key=lambda name: name != PRODUCTION)
        return {name: version for name in names if (version := self.pointed_at(name))}

    def retire(self, version: str) -> None:
        """Ends a version's answers. Raises UnknownModel, or BundleError for one in use."""
        if not self.version_folder(version).is_dir():
            raise UnknownModel(f"no version {version} here")
        for alias, used in self.aliases().items():
            if used == version:
                raise InUse(
                    f"version {version} is what {alias} points at: promote another one to "
                    f"{alias} first"
                )
        (self.folder / "retired" / version).touch()
        self.write_pool(version, None)

    def is_retired(self, version: str) -> bool:
        """Whether a version no longer answers. Raises UnknownModel for what names no version."""
        self.version_folder(version)
        return (self.folder / "retired" / version).exists()

    def local_pool(self, version: str) -> Path | None:
        """The file of the samples of a version, where there is one. Raises UnknownModel."""
        self.version_folder(version)
        path = self.folder / "pools" / version
        return path if path.is_file() else None

    def write_pool(self, version: str, content: bytes | None) -> None:
        """Replaces the samples of a version, or removes them. Raises OSError."""
        self.version_folder(version)
        path = self.folder / "pools" / version
        if content is None:
            path.unlink(missing_ok=True)
        else:
            write_whole(path, content, mode=0o600)

    def replay_path(self, version: str) -> Path:
        """Where the clicks of a version's held-out users are, if there are any."""
        self.version_folder(version)
        return self.folder / "replays" / f"{version}.npz"

    def replay(self, version: str) -> bytes | None:
        """The clicks of a version's held-out users, where there are any. Raises UnknownModel."""
        try:
            return self.replay_path(version).read_bytes()
        except FileNotFoundError:
            return None

    def write_replay(self, version: str, content: bytes) -> None:
        """Keeps the clicks of held-out users for simulated devices."""
        write_whole(self.replay_path(version), content)


class InUse(BundleError):
    """An alias points at the version."""

    code = "in-use"
    status = 409
    title = "This version is in use"


class InvalidAlias(RecommendationError):
    """No alias can have this name."""

    code = "invalid-alias"
    status = 422
    title = "This cannot be the name of an alias"


def log_alias(name: str) -> str:
    """The alias of the log of this name: the name itself where it can be one.

    Any other name becomes one with a short hash of it, so that no two logs share an alias.
    """
    if ALIAS.fullmatch(name) and name != PRODUCTION:
        return name
    plain = _NO_SLUG.sub("-", name.lower()).strip("-._")[:50] or "log"
    return f"{plain}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
