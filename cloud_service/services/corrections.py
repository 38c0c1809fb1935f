"""Corrections: H in, bytes for the wire out, for every model version that is in use."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from cloud_service.runtime import give_back_memory, open_session
from cloud_service.storage.store import Store
from shared import bundle as files
from shared.errors import RecommendationError, UnusableHidden, WireError
from shared.manifest import Manifest
from shared.wire import FLOAT, Wire, all_finite

Floats = NDArray[np.float32]


class Corrector:
    """The GCN of one model version, in ONNX Runtime."""

    def __init__(self, folder: Path, version: str, manifest: Manifest) -> None:
        s = manifest.model
        self._wire = Wire(s)
        self.version = version
        self.version_header = version.encode("ascii")
        self.hidden_bytes = s.hidden_bytes
        whole = (s.heads, s.segment, s.segment), (s.heads, s.segment, s.head_dim)
        last = (s.heads, s.segment), (s.heads, s.head_dim)
        shape = (1, s.segment, s.dim)
        self._full = _Graph(str(folder / files.GCN_GRAPH), shape, whole)
        self._row = _Graph(str(folder / files.GCN_ROW_GRAPH), shape, last)

    def correct(
        self, bodies: Sequence[bytes | memoryview], *, row: bool
    ) -> list[bytes | WireError]:
        """The correction of the H in each body, compact or full, computed together.

        What is wrong with one H is its answer alone.
        """
        graph = self._row if row else self._full
        if len(bodies) == 1:
            try:
                return [graph.one(self._wire.decode_hidden(bodies[0]))]
            except WireError as error:
                return [error]
        found: list[bytes | WireError] = [UnusableHidden(_NOT_FINITE)] * len(bodies)
        sound = []
        for place, body in enumerate(bodies):
            try:
                sound.append((place, self._wire.decode_hidden(body)))
            except WireError as error:
                found[place] = error
        if sound:
            answers = graph.many(np.stack([hidden for _, hidden in sound]))
            for (place, _), answer in zip(sound, answers, strict=True):
                if answer is not None:
                    found[place] = answer
        return found


_NOT_FINITE = "the GCN's answer to this H is not finite"


class _Graph:
    """A GCN's graph. Of one H, with input and outputs bound once: `attn` and then `bias` lie in
    one buffer, which is the answer."""

    def __init__(
        self, path: str, hidden: tuple[int, ...], outputs: tuple[tuple[int, ...], ...]
    ) -> None:
        self._session = open_session(path)
        self._input = np.zeros(hidden, np.float32)
        sizes = [int(np.prod(shape)) for shape in outputs]
        self._output = np.zeros(sum(sizes), np.float32)
        self._binding = self._session.io_binding()
        self._binding.bind_ortvalue_input("hidden", ort.OrtValue.ortvalue_from_numpy(self._input))
        parts = np.split(self._output, np.cumsum(sizes)[:-1])
        for name, part, shape in zip(("attn", "bias"), parts, outputs, strict=True):
            bound = ort.OrtValue.ortvalue_from_numpy(part.reshape(1, *shape))
            self._binding.bind_ortvalue_output(name, bound)

    def one(self, hidden: Floats) -> bytes:
        """The correction of H (K, D). Raises UnusableHidden."""
        self._input[0] = hidden
        self._session.run_with_iobinding(self._binding)
        if not all_finite(self._output):
            raise UnusableHidden(_NOT_FINITE)
        return self._output.astype(FLOAT, copy=False).tobytes()

    def many(self, hidden: Floats) -> list[bytes | None]:
        """The corrections of H (B, K, D); None for one that is not finite."""
        parts = self._session.run(None, {"hidden": hidden})
        rows = np.concatenate([part.reshape(len(hidden), -1) for part in parts], axis=1)
        rows = rows.astype(FLOAT, copy=False)
        return [row.tobytes() if all_finite(row) else None for row in rows]


class Corrections:
    """The correctors of a store, opened when first asked for and kept.

    A version goes on answering after another is promoted, until it is retired.
    """

    def __init__(self, store: Store, *, keep: int = 8) -> None:
        self._store, self._keep = store, keep
        self._open: dict[str, Corrector] = {}
        self._used: dict[str, float] = {}
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="models")
        """For `open` and `refresh` of a cloud that serves: memory that one thread took for a
        version is used again for the next, that of many threads adds up."""

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
        retired = [version for version in self.loaded() if self._store.is_retired(version)]
        for version in retired:
            self._open.pop(version, None)
            self._used.pop(version, None)
        if retired:
            give_back_memory()
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
            give_back_memory()
