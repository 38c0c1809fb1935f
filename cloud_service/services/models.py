"""Model versions for the API: the list, manifests, files, promotion, retirement."""

import hashlib
import logging
import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from cloud_service.storage.port import PRODUCTION, VersionStore
from cloud_service.storage.store import log_alias
from shared.errors import BundleError, NotReady, RecommendationError, RetiredModel, UnknownModel
from shared.manifest import MANIFEST_NAME, VERSION_PATTERN, Manifest, Version

_VERSION = re.compile(VERSION_PATTERN)

_log = logging.getLogger(__name__)


class ModelSummary(BaseModel):
    """One entry of the list of model versions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Version
    production: bool
    aliases: tuple[str, ...] = Field((), description="what points at it, `production` included")
    log_alias: str = Field("", description="the alias of its log, whatever that points at")
    retired: bool
    data: str
    synthetic: bool
    metrics: dict[str, float]
    created: AwareDatetime


class UnknownFile(RecommendationError):
    """The version has no such file, or devices may not download it."""

    code = "unknown-file"
    status = 404
    title = "No such file in this model version"


class NoReplay(RecommendationError):
    """This version was trained without held-out users."""

    code = "no-replay"
    status = 404
    title = "This version has no clicks of held-out users"


class Download(NamedTuple):
    """A file to send, and its sha256 in hex as the manifest names it."""

    path: Path
    sha256: str


class ModelRegistry:
    """The model versions of a store. Reads each manifest once, because manifests never change."""

    def __init__(self, store: VersionStore) -> None:
        self._store = store
        self._manifests: dict[str, Manifest] = {}

    def list(self) -> list[ModelSummary]:
        """Returns all versions with a readable manifest, newest first."""
        summaries = []
        for version in self._store.versions():
            # A request for that version reports the error.
            with suppress(BundleError):
                summaries.append(self.summary(version))
        return summaries

    def summary(self, version: str) -> ModelSummary:
        """Returns the entry of one version. Raises UnknownModel or BundleError."""
        manifest = self.manifest(version)
        aliases = tuple(name for name, at in self._store.aliases().items() if at == version)
        return ModelSummary(
            version=version,
            production=PRODUCTION in aliases,
            aliases=aliases,
            log_alias=log_alias(manifest.data.name),
            retired=self._store.is_retired(version),
            data=manifest.data.name,
            synthetic=manifest.data.synthetic,
            metrics=manifest.metrics,
            created=manifest.created,
        )

    def named(self, name: str) -> str:
        """Returns the version that an alias names, or `name` itself if it is a version.

        Raises NotReady if no version is in production, and UnknownModel for any other unknown name.
        """
        if self.is_version(name):
            if not self._store.has(name):
                raise UnknownModel(f"no version {name} here")
            return name
        version = self._store.pointed_at(name)
        if version is not None:
            return version
        if name == PRODUCTION:
            raise NotReady("no model has been promoted yet: run a training job")
        known_aliases = ", ".join(self._store.aliases()) or "none yet"
        raise UnknownModel(
            f"no version and no alias {name[:64]!r} here: a version is 16 hex digits, and the "
            f"aliases are {known_aliases}"
        )

    @staticmethod
    def is_version(name: str) -> bool:
        """Returns whether a name is a version and not an alias."""
        return _VERSION.fullmatch(name) is not None

    def local_path(self, version: str, name: str) -> Path:
        """Returns the local path of a file, which callers must not change. Raises UnknownModel."""
        return self._store.local_path(version, name)

    def checked(self, version: str, names: Collection[str]) -> Manifest:
        """Checks those of the files `names` that a version has; returns its manifest.

        Raises UnknownModel, RetiredModel or BundleError.
        """
        manifest = self.manifest(version)
        present = {entry.name for entry in manifest.files} & set(names)
        return self._store.checked(version, present)

    def manifest(self, version: str) -> Manifest:
        """Returns the manifest of a version. Raises UnknownModel or BundleError."""
        if version not in self._manifests:
            self._manifests[version] = self._store.manifest(version)
        return self._manifests[version]

    def manifest_bytes(self, version: str) -> bytes:
        """Returns the bytes of the manifest as published: their hash is the name of the version."""
        self.manifest(version)
        return self._store.manifest_bytes(version)

    def check_answers(self, version: str) -> None:
        """Raises UnknownModel or RetiredModel for a version that must not be served."""
        if not self._store.has(version):
            raise UnknownModel(f"no version {version} here")
        if self._store.is_retired(version):
            raise RetiredModel(f"version {version} was retired: download the production bundle")

    def download(self, version: str, name: str) -> Download:
        """Returns a file for devices. Raises UnknownFile, UnknownModel or RetiredModel."""
        self.check_answers(version)
        if name == MANIFEST_NAME:
            digest = hashlib.sha256(self.manifest_bytes(version)).hexdigest()
            return Download(self.local_path(version, name), digest)
        for entry in self.manifest(version).device_files():
            if entry.name == name:
                return Download(self.local_path(version, name), entry.sha256)
        raise UnknownFile(f"version {version} has no file for devices of this name")

    def replay(self, version: str) -> bytes:
        """Returns the clicks of held-out users as safetensors.

        Raises NoReplay, UnknownModel or RetiredModel.
        """
        self.check_answers(version)
        clicks = self._store.replay(version)
        if clicks is None:
            raise NoReplay(f"version {version} was trained without held-out users")
        return clicks

    def promote(self, version: str, alias: str = PRODUCTION) -> None:
        """Points an alias at a version.

        Raises UnknownModel, RetiredModel, BundleError or InvalidAlias.
        """
        self._store.promote(version, alias)
        _log.info("%s is version %s by an admin call", alias, version)

    def retire(self, version: str) -> None:
        """Retires a version for good. Raises UnknownModel, or InUse if an alias points at it."""
        self._store.retire(version)
        _log.info("version %s was retired by an admin call", version)
