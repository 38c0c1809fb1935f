"""Runs the GCN of each model version in use: takes H, returns the correction as wire bytes."""

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from cloud_service.runtime import give_back_memory, open_session
from cloud_service.storage.port import VersionStore
from shared import bundle as files
from shared.errors import UnusableHidden, WireError
from shared.manifest import Manifest
from shared.wire import FLOAT, FORMS, HALF, Form, Wire, all_finite, check_hidden, narrowed

Floats = NDArray[np.float32]
_log = logging.getLogger(__name__)

GRAPHS: Final = (files.GCN_GRAPH, files.GCN_ROW_GRAPH)
RETRY_SECONDS: Final = 30.0
"""Seconds between two attempts to open a production version that failed to open."""
_SESSION_BYTES: Final = 600_000
"""Memory of a session in addition to the size of its graph file (measured for the GCN of the
paper)."""


class Corrector:
    """The GCN of one model version in ONNX Runtime."""

    def __init__(self, graphs: Sequence[Path], version: str, manifest: Manifest) -> None:
        """`graphs` are the paths of the files `GRAPHS`, in that order."""
        s = manifest.model
        self._wires = Wire(s), Wire(s, half=True)
        self.version = version
        self.version_header = version.encode("ascii")
        full_shapes = (s.heads, s.segment, s.segment), (s.heads, s.segment, s.head_dim)
        row_shapes = (s.heads, s.segment), (s.heads, s.head_dim)
        shape = (1, s.segment, s.dim)
        self.size = sum(path.stat().st_size + _SESSION_BYTES for path in graphs)
        """Estimated memory in bytes."""
        full = _Graph(str(graphs[0]), shape, full_shapes)
        row = _Graph(str(graphs[1]), shape, row_shapes)
        self._graphs: dict[Form, tuple[_Graph, np.dtype[Any]]] = {
            form: (row if layout.row else full, self._wires[layout.half].wire_dtype)
            for form, layout in FORMS.items()
        }

    def hidden_bytes(self, *, half: bool) -> int:
        """The size of H in bytes, in float16 if `half`, else in float32."""
        return self._wires[half].hidden_bytes

    def answer_bytes(self, form: Form) -> int:
        """The size of a correction in bytes."""
        return self._wires[FORMS[form].half].answer_bytes(form)

    def correct_one(self, body: bytes | memoryview, form: Form) -> bytes:
        """Computes the correction for one H in the requested form (the hot path).

        `body` is H in float32 or float16; the caller has checked its length. Raises WireError.
        """
        graph, wire_dtype = self._graphs[form]
        return graph.run_one(body, wire_dtype)

    def correct(self, bodies: Sequence[bytes | memoryview], form: Form) -> list[bytes | WireError]:
        """Computes the corrections for several H in one batch, in the requested form.

        The result has one entry per body. An invalid H gets a WireError as its own entry and does
        not affect the others.
        """
        graph, wire_dtype = self._graphs[form]
        batch = self._decode_batch(bodies)
        if batch is not None:
            return graph.run_batch(batch, wire_dtype)
        results: dict[int, bytes | WireError] = {}
        sound = []
        for index, body in enumerate(bodies):
            try:
                sound.append((index, self._hidden(body)))
            except WireError as error:
                results[index] = error
        if sound:
            answers = graph.run_batch(np.stack([hidden for _, hidden in sound]), wire_dtype)
            for (index, _), answer in zip(sound, answers, strict=True):
                results[index] = answer
        return [results[index] for index in range(len(bodies))]

    def _decode_batch(self, bodies: Sequence[bytes | memoryview]) -> Floats | None:
        """Decodes all H at once into (B, K, D).

        Returns None if any H is float16 or invalid: the caller then decodes them one by one, to
        find out which ones are invalid and why.
        """
        wire, _ = self._wires
        if any(len(body) != wire.hidden_bytes for body in bodies):
            return None
        shape = len(bodies), wire.settings.segment, wire.settings.dim
        hidden = np.frombuffer(b"".join(bodies), FLOAT).reshape(shape)
        return hidden if wire.are_sound(hidden) else None

    def _hidden(self, body: bytes | memoryview) -> Floats:
        """Decodes one H; its length tells float32 from float16. Raises WireError."""
        full, half = self._wires
        return (half if len(body) == half.hidden_bytes else full).decode_hidden(body)


_NOT_FINITE = "the GCN's answer to this H is not finite"


class _Graph:
    """One GCN graph. Its input and outputs for a single H are bound once: `attn` and then `bias`
    are in one buffer, which is the correction as it is sent."""

    def __init__(
        self, path: str, hidden: tuple[int, ...], outputs: tuple[tuple[int, ...], ...]
    ) -> None:
        self._session = open_session(path)
        hidden_buffer = np.zeros(hidden, np.float32)
        self._input = hidden_buffer.reshape(-1)
        self._bytes = hidden_buffer.data.cast("B")
        sizes = [int(np.prod(shape)) for shape in outputs]
        self._output = np.zeros(sum(sizes), np.float32)
        self._binding = self._session.io_binding()
        bound_input = ort.OrtValue.ortvalue_from_numpy(hidden_buffer)
        self._binding.bind_ortvalue_input("hidden", bound_input)
        buffers = np.split(self._output, np.cumsum(sizes)[:-1])
        for name, buffer, shape in zip(("attn", "bias"), buffers, outputs, strict=True):
            bound = ort.OrtValue.ortvalue_from_numpy(buffer.reshape(1, *shape))
            self._binding.bind_ortvalue_output(name, bound)

    def run_one(self, body: bytes | memoryview, wire_dtype: np.dtype[Any]) -> bytes:
        """Computes the correction for one H and encodes it as `wire_dtype` (FLOAT or HALF).

        The length of `body` tells float32 from float16. Raises NotFinite, EmptyHidden or
        UnusableHidden.
        """
        if len(body) == len(self._bytes):
            self._bytes[:] = body
        else:
            self._input[:] = np.frombuffer(body, HALF)
        check_hidden(self._input)
        self._session.run_with_iobinding(self._binding)
        encoded = _encode(self._output, wire_dtype)
        if encoded is None:
            raise UnusableHidden(_NOT_FINITE)
        return encoded

    def run_batch(self, hidden: Floats, wire_dtype: np.dtype[Any]) -> list[bytes | WireError]:
        """Computes the corrections for valid H (B, K, D).

        An H whose correction is not finite gets an UnusableHidden as its own entry.
        """
        outputs = self._session.run(None, {"hidden": hidden})
        rows = np.concatenate([output.reshape(len(hidden), -1) for output in outputs], axis=1)
        encoded = _encode(rows, wire_dtype)
        if encoded is None:  # at least one correction is not finite
            return [_encode(row, wire_dtype) or UnusableHidden(_NOT_FINITE) for row in rows]
        size = len(encoded) // len(rows)
        return [encoded[at : at + size] for at in range(0, len(encoded), size)]


def _encode(correction: Floats, wire_dtype: np.dtype[Any]) -> bytes | None:
    """Encodes a correction; returns None if it is not finite or too large for `wire_dtype`."""
    narrow = narrowed(correction, wire_dtype) if all_finite(correction) else None
    return None if narrow is None else narrow.tobytes()


class CorrectorCache:
    """Opens the corrector of a version at its first use and keeps it while memory allows.

    A version keeps answering after another one is promoted, until it is retired.
    """

    def __init__(self, store: VersionStore, *, room: int) -> None:
        """`room` is the approximate memory limit, in bytes, of all open correctors together."""
        self._store, self._room = store, room
        self._open: dict[str, Corrector] = {}
        self._used: dict[str, float] = {}
        self._changing = threading.Lock()
        self._unopened = "", 0.0
        """The production version that failed to open, and the time of the next attempt."""
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="models")
        """Runs `open` and `refresh` in a server. A single thread, because glibc reuses the memory
        that a thread freed only within that thread."""

    def get(self, version: str) -> Corrector | None:
        """Returns the corrector of a version, or None if it is not open (the hot path)."""
        corrector = self._open.get(version)
        if corrector is not None:
            self._used[version] = time.monotonic()
        return corrector

    def open(self, version: str) -> Corrector:
        """Returns the corrector of a version; checks and loads it first if needed. Thread-safe.

        Raises UnknownModel, RetiredModel, or BundleError if its files are damaged.
        """
        with self._changing:  # many devices request a new version at once: load it only once
            return self.get(version) or self._load(version)

    def refresh(self) -> None:
        """Opens the production version and closes retired ones; called about once a second.

        A version that failed to open is not tried again for RETRY_SECONDS, because each attempt
        reads and hashes its files. A request for it gets the reason.
        """
        retired = [version for version in self.loaded() if self._store.is_retired(version)]
        for version in retired:
            self._open.pop(version, None)
            self._used.pop(version, None)
        if retired:
            give_back_memory()
        production = self._store.production()
        if production is None or production in self._open:
            return
        failed_version, retry_at = self._unopened
        if production == failed_version and time.monotonic() < retry_at:
            return
        try:
            self.open(production)
        except Exception as error:
            self._unopened = production, time.monotonic() + RETRY_SECONDS
            _log.warning("version %s cannot be opened: %s", production, error)

    def loaded(self) -> list[str]:
        """Returns the versions that are open."""
        return list(self._open)

    def _load(self, version: str) -> Corrector:
        # Check only the two graphs: for a million items, all files together are nearly 1 GB.
        manifest = self._store.checked(version, GRAPHS)
        graphs = [self._store.local_path(version, name) for name in GRAPHS]
        corrector = Corrector(graphs, version, manifest)
        self._open[version], self._used[version] = corrector, time.monotonic()
        self._make_room(version)
        return corrector

    def _make_room(self, newest: str) -> None:
        """Closes the least recently used versions until the rest fit into memory.

        Never closes `newest` or the production version, however large they are.
        """
        protected = {newest, self._store.production()}
        open_bytes = sum(corrector.size for corrector in list(self._open.values()))
        for version in sorted(self.loaded(), key=lambda candidate: self._used.get(candidate, 0.0)):
            if open_bytes <= self._room:
                return
            if version not in protected and (closed := self._open.pop(version, None)) is not None:
                self._used.pop(version, None)
                open_bytes -= closed.size
                del closed
                give_back_memory()
