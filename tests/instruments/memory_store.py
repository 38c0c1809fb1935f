"""Model versions in memory: that `VersionStore` is all the cloud needs of a store."""

import io
import secrets
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import BinaryIO

from cloud_service.storage.port import PRODUCTION, StoreFile, VersionStore, entries_of
from cloud_service.storage.store import ALIAS, VERSION, InUse, InvalidAlias
from shared.bundle import check_file, parse_manifest, version_of
from shared.errors import BundleInvalid, BundleMissing, RetiredModel, UnknownModel
from shared.manifest import MANIFEST_NAME, FileEntry, Manifest


class MemoryStore(VersionStore):
    """Keeps versions in a dict. `copies` is a folder for what has to be a file."""

    def __init__(self, copies: Path) -> None:
        self._copies = copies
        self._files: dict[str, dict[str, bytes]] = {}
        self._aliases: dict[str, str] = {}
        self._retired: set[str] = set()
        self._replays: dict[str, bytes] = {}
        self._pools: dict[str, Path] = {}

    def publish(
        self,
        files: Mapping[str, StoreFile],
        describe: Callable[[tuple[FileEntry, ...]], Manifest],
    ) -> str:
        contents = {name: file.content for name, file in files.items()}
        manifest = describe(entries_of(files)).model_dump_json(indent=1).encode()
        version = version_of(manifest)
        self._files.setdefault(version, contents | {MANIFEST_NAME: manifest})
        return version

    def versions(self) -> list[str]:
        return list(reversed(self._files))

    def has(self, version: str) -> bool:
        if not VERSION.fullmatch(version):
            raise UnknownModel("a version is 16 hex digits")
        return version in self._files

    def manifest(self, version: str) -> Manifest:
        return parse_manifest(self.manifest_bytes(version))

    def manifest_bytes(self, version: str) -> bytes:
        return self._known(version)[MANIFEST_NAME]

    def checked(self, version: str, names: Collection[str] | None = None) -> Manifest:
        manifest = self.manifest(version)
        if self.is_retired(version):
            raise RetiredModel(f"version {version} was retired")
        entries = {entry.name: entry for entry in manifest.files}
        for name in entries if names is None else names:
            if name not in entries:
                raise BundleInvalid(f"the manifest of version {version} names no {name}")
            check_file(self.local_path(version, name), entries[name])
        return manifest

    def open(self, version: str, name: str) -> BinaryIO:
        files = self._known(version)
        if name not in files:
            raise BundleMissing(f"{name} cannot be read")
        return io.BytesIO(files[name])

    def local_path(self, version: str, name: str) -> Path:
        path = self._copies / f"{version}-{name}"
        if name in self._known(version) and not path.exists():
            path.write_bytes(self._files[version][name])
        return path

    def promote(self, version: str, alias: str = PRODUCTION) -> None:
        if not ALIAS.fullmatch(alias):
            raise InvalidAlias(f"{alias[:64]!r} cannot be an alias")
        self.checked(version)
        self._aliases[alias] = version

    def production(self) -> str | None:
        return self.pointed_at(PRODUCTION)

    def pointed_at(self, alias: str) -> str | None:
        return self._aliases.get(alias)

    def aliases(self) -> dict[str, str]:
        names = sorted(self._aliases, key=lambda name: (name != PRODUCTION, name))
        return {name: self._aliases[name] for name in names}

    def retire(self, version: str) -> None:
        self._known(version)
        for alias, pointed in self._aliases.items():
            if pointed == version:
                raise InUse(f"version {version} is what {alias} points at")
        self._retired.add(version)
        self.write_pool(version, None)

    def is_retired(self, version: str) -> bool:
        self.has(version)
        return version in self._retired

    def replay(self, version: str) -> bytes | None:
        self.has(version)
        return self._replays.get(version)

    def local_pool(self, version: str) -> Path | None:
        self.has(version)
        return self._pools.get(version)

    def write_pool(self, version: str, content: bytes | None) -> None:
        self.has(version)
        self._pools.pop(version, None)
        if content is not None:
            self._pools[version] = self._copies / f"{version}-pool-{secrets.token_hex(4)}"
            self._pools[version].write_bytes(content)

    def write_replay(self, version: str, content: bytes) -> None:
        self.has(version)
        self._replays[version] = content

    def _known(self, version: str) -> dict[str, bytes]:
        if not self.has(version):
            raise UnknownModel(f"no version {version} here")
        return self._files[version]
