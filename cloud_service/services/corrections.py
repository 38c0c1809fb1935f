"""Corrections: H in, bytes for the wire out, for every model version that is in use."""

import time
from pathlib import Path

from cloud_service.runtime import open_session
from cloud_service.storage.store import Store
from shared import bundle as files
from shared.errors import NotFinite, RecommendationError, UnusableHidden
from shared.manifest import Manifest
from shared.wire import FullCorrection, RowCorrection, Wire


class Corrector:
    """The GCN of one model version, in ONNX Runtime."""

    def __init__(self, folder: Path, version: str, manifest: Manifest) -> None:
        self.version = version
        self.wire = Wire(manifest.model)
        self.hidden_bytes = manifest.model.hidden_bytes
        self._gcn = open_session(str(folder / files.GCN_GRAPH))
        self._gcn_row = open_session(str(folder / files.GCN_ROW_GRAPH))
        self.version_header = version.encode("ascii")

    def full(self, body: bytes) -> bytes:
        """The full correction of the H in `body`. Raises a WireError."""
        hidden = self.wire.decode_hidden(body)
        attn, bias = self._gcn.run(None, {"hidden": hidden[None]})
        try:
            return self.wire.encode_full(FullCorrection(attn[0], bias[0]))
        except NotFinite as error:
            raise UnusableHidden("the GCN's answer to this H is not finite") from error

    def row(self, body: bytes) -> bytes:
        """The compact correction of the H in `body`. Raises a WireError."""
        hidden = self.wire.decode_hidden(body)
        attn, bias = self._gcn_row.run(None, {"hidden": hidden[None]})
        try:
            return self.wire.encode_row(RowCorrection(attn[0], bias[0]))
        except NotFinite as error:
            raise UnusableHidden("the GCN's answer to this H is not finite") from error


class Corrections:
    """The correctors of a store, opened when first asked for and kept.

    A version goes on answering after another is promoted, until it is retired.
    """

    def __init__(self, store: Store, *, keep: int = 8) -> None:
        self._store, self._keep = store, keep
        self._open: dict[str, Corrector] = {}
        self._used: dict[str, float] = {}

    def get(self, version: str) -> Corrector | None:
        """The corrector of a version if it is open: what the hot path asks first."""
        found = self._open.get(version)
        if found is not None:
            self._used[version] = time.monotonic()
        return found

    def open(self, version: str) -> Corrector:
        """The corrector of a version, checked and loaded if it was not.

        Raises UnknownModel, RetiredModel, or a BundleError where its files are damaged.
        """
        found = self._open.get(version)
        if found is None:
            manifest = self._store.checked(version)
            found = Corrector(self._store.version_folder(version), version, manifest)
            self._open[version] = found
            self._close_surplus()
        self._used[version] = time.monotonic()
        return found

    def refresh(self) -> None:
        """Opens the production version and closes retired ones; called about once a second.

        A version that cannot be opened is left alone: asking for it says why.
        """
        for version in self.loaded():
            if self._store.is_retired(version):
                self._open.pop(version, None)
                self._used.pop(version, None)
        production = self._store.production()
        if production is not None and production not in self._open:
            try:
                self.open(production)
            except RecommendationError:
                return

    def loaded(self) -> list[str]:
        """The versions that are open."""
        return list(self._open)

    def _close_surplus(self) -> None:
        """Keeps memory bounded: the version asked for longest ago goes, never production."""
        production = self._store.production()
        while len(self._open) > self._keep:
            spare = [v for v in self._open if v != production]
            oldest = min(spare, key=lambda version: self._used.get(version, 0.0))
            self._open.pop(oldest, None)
            self._used.pop(oldest, None)
