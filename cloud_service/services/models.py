"""Model versions as the API hands them out: the list, manifests, files, promotion."""

import hashlib
import logging
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from cloud_service.storage.store import PRODUCTION, Store, log_alias
from shared.errors import BundleError, NotReady, RecommendationError, RetiredModel, UnknownModel
from shared.manifest import MANIFEST_NAME, VERSION_PATTERN, Manifest, Version

_VERSION = re.compile(VERSION_PATTERN)

_log = logging.getLogger(__name__)


class ModelSummary(BaseModel):
    """One line of the list of model versions."""

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
    """The version has no such file, or it is not one that devices download."""

    code = "unknown-file"
    status = 404
    title = "No such file in this model version"


class NoReplay(RecommendationError):
    """No users were held out when this version was trained."""

    code = "no-replay"
    status = 404
    title = "This version has no clicks of held-out users"


class Download(NamedTuple):
    """A file to hand out and the sha256 its manifest names, in hex."""

    path: Path
    sha256: str


class ModelRegistry:
    """The versions of a store. Manifests never change, so each is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._manifests: dict[str, Manifest] = {}

    def list(self) -> list[ModelSummary]:
        """Every version whose manifest can be read, the newest first."""
        infos = []
        for version in self._store.versions():
            # Asking for the version itself says what is wrong with it.
            with suppress(BundleError):
                infos.append(self.summary(version))
        return infos

    def summary(self, version: str) -> ModelSummary:
        """One version's line. Raises UnknownModel or a BundleError."""
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
        """The version behind an alias, or `name` itself where it is a version.

        Raises NotReady where nothing is in production, UnknownModel for no version and no alias.
        """
        if self.is_version(name):
            if not self.folder(name).is_dir():
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
        """Whether a name is a version's own, and not an alias."""
        return _VERSION.fullmatch(name) is not None

    def folder(self, version: str) -> Path:
        """Where a version's files are. Raises UnknownModel."""
        return self._store.version_folder(version)

    def manifest(self, version: str) -> Manifest:
        """A version's manifest. Raises UnknownModel or a BundleError."""
        if version not in self._manifests:
            self._manifests[version] = self._store.manifest(version)
        return self._manifests[version]

    def manifest_bytes(self, version: str) -> bytes:
        """The manifest as it was published, byte for byte: its hash is the version's name."""
        self.manifest(version)
        return (self.folder(version) / MANIFEST_NAME).read_bytes()

    def check_answers(self, version: str) -> None:
        """Raises UnknownModel or RetiredModel for a version that must not answer."""
        if not self.folder(version).is_dir():
            raise UnknownModel(f"no version {version} here")
        if self._store.is_retired(version):
            raise RetiredModel(f"version {version} was retired: download the production bundle")

    def download(self, version: str, name: str) -> Download:
        """A file that devices download. Raises UnknownFile, UnknownModel or RetiredModel."""
        self.check_answers(version)
        if name == MANIFEST_NAME:
            digest = hashlib.sha256(self.manifest_bytes(version)).hexdigest()
            return Download(self.folder(version) / name, digest)
        for entry in self.manifest(version).device_files():
            if entry.name == name:
                return Download(self.folder(version) / name, entry.sha256)
        raise UnknownFile(f"version {version} has no file for devices of this name")

    def replay(self, version: str) -> Path:
        """The clicks of held-out users. Raises NoReplay, UnknownModel or RetiredModel."""
        self.check_answers(version)
        path = self._store.replay_path(version)
        if not path.is_file():
            raise NoReplay(f"version {version} was trained without held-out users")
        return path

    def promote(self, version: str, alias: str = PRODUCTION) -> None:
        """Points an alias at a version.

        Raises UnknownModel, RetiredModel, BundleError or InvalidAlias.
        """
        self._store.promote(version, alias)
        _log.info("%s is version %s by an admin call", alias, version)

    def retire(self, version: str) -> None:
        """Ends a version's answers. Raises UnknownModel, or InUse where an alias points at it."""
        self._store.retire(version)
        _log.info("version %s was retired by an admin call", version)
