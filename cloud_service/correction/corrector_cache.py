"""Correctors of the model versions in use: H in, bytes for the wire out."""

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
from cloud_service.storage.store import Store
from shared import bundle as files
from shared.errors import UnusableHidden, WireError
from shared.manifest import Manifest
from shared.wire import FLOAT, FORMS, HALF, Form, Wire, all_finite, check_hidden, narrowed

Floats = NDArray[np.float32]
_log = logging.getLogger(__name__)

GRAPHS: Final = (files.GCN_GRAPH, files.GCN_ROW_GRAPH)
RETRY_SECONDS: Final = 30.0
"""After which a production version that could not be opened is tried again unasked."""
_SESSION_BYTES: Final = 600_000
"""What a session takes beside what its graph's file holds: measured, for the paper's GCN."""


class Corrector:
    """The GCN of one model version, in ONNX Runtime."""

    def __init__(self, folder: Path, version: str, manifest: Manifest) -> None:
        s = manifest.model
        self._wires = Wire(s), Wire(s, half=True)
        self.version = version
        self.version_header = version.encode("ascii")
        whole = (s.heads, s.segment, s.segment), (s.heads, s.segment, s.head_dim)
        last = (s.heads, s.segment), (s.heads, s.head_dim)
        shape = (1, s.segment, s.dim)
        self.size = sum((folder / name).stat().st_size + _SESSION_BYTES for name in GRAPHS)
        """Bytes of memory it takes, about."""
        full = _Graph(str(folder / files.GCN_GRAPH), shape, whole)
        row = _Graph(str(folder / files.GCN_ROW_GRAPH), shape, last)
        self._graphs: dict[Form, tuple[_Graph, np.dtype[Any]]] = {
            form: (row if layout.row else full, self._wires[layout.half].wire_dtype)
            for form, layout in FORMS.items()
        }

    def hidden_bytes(self, *, half: bool) -> int:
        """Bytes of H in float32, or in float16."""
        return self._wires[half].hidden_bytes

    def answer_bytes(self, form: Form) -> int:
        """Bytes of a correction."""
        return self._wires[FORMS[form].half].answer_bytes(form)

    def one(self, body: bytes | memoryview, form: Form) -> bytes:
        """The correction of the H in `body`, in the form wanted: what devices ask all day.

        `body` has the length of an H, in float32 or float16. Raises a WireError.
        """
        graph, wire_dtype = self._graphs[form]
        return graph.one(body, wire_dtype)

    def correct(self, bodies: Sequence[bytes | memoryview], form: Form) -> list[bytes | WireError]:
        """The correction of the H in each body, in the form wanted, computed together.

        What is wrong with one H is its answer alone.
        """
        graph, wire_dtype = self._graphs[form]
        together = self._together(bodies)
        if together is not None:
            return graph.many(together, wire_dtype)
        cached: dict[int, bytes | WireError] = {}
        sound = []
        for index, body in enumerate(bodies):
            try:
                sound.append((index, self._hidden(body)))
            except WireError as error:
                cached[index] = error
        if sound:
            answers = graph.many(np.stack([hidden for _, hidden in sound]), wire_dtype)
            for (index, _), answer in zip(sound, answers, strict=True):
                cached[index] = answer
        return [cached[index] for index in range(len(bodies))]

    def _together(self, bodies: Sequence[bytes | memoryview]) -> Floats | None:
        """All H at once, (B, K, D), where all are float32 and sound; else they are read one by one,
        which says what is wrong with which."""
        wire, _ = self._wires
        if any(len(body) != wire.hidden_bytes for body in bodies):
            return None
        shape = len(bodies), wire.settings.segment, wire.settings.dim
        hidden = np.frombuffer(b"".join(bodies), FLOAT).reshape(shape)
        return hidden if wire.are_sound(hidden) else None

    def _hidden(self, body: bytes | memoryview) -> Floats:
        """H, float32 or float16 by its length, which the head has announced. Raises WireError."""
        full, half = self._wires
        return (half if len(body) == half.hidden_bytes else full).decode_hidden(body)


_NOT_FINITE = "the GCN's answer to this H is not finite"


class _Graph:
    """A GCN's graph. Of one H, with input and outputs bound once: `attn` and then `bias` lie in
    one buffer, which is the answer."""

    def __init__(
        self, path: str, hidden: tuple[int, ...], outputs: tuple[tuple[int, ...], ...]
    ) -> None:
        self._session = open_session(path)
        read = np.zeros(hidden, np.float32)
        self._input, self._bytes = read.reshape(-1), read.data.cast("B")
        sizes = [int(np.prod(shape)) for shape in outputs]
        self._output = np.zeros(sum(sizes), np.float32)
        self._binding = self._session.io_binding()
        self._binding.bind_ortvalue_input("hidden", ort.OrtValue.ortvalue_from_numpy(read))
        parts = np.split(self._output, np.cumsum(sizes)[:-1])
        for name, output, shape in zip(("attn", "bias"), parts, outputs, strict=True):
            bound = ort.OrtValue.ortvalue_from_numpy(output.reshape(1, *shape))
            self._binding.bind_ortvalue_output(name, bound)

    def one(self, body: bytes | memoryview, wire_dtype: np.dtype[Any]) -> bytes:
        """The correction of the H in `body`, float32 or float16 by its length, as FLOAT or HALF.

        Raises NotFinite, EmptyHidden or UnusableHidden.
        """
        if len(body) == len(self._bytes):
            self._bytes[:] = body
        else:
            self._input[:] = np.frombuffer(body, HALF)
        check_hidden(self._input)
        self._session.run_with_iobinding(self._binding)
        cached = _sent(self._output, wire_dtype)
        if cached is None:
            raise UnusableHidden(_NOT_FINITE)
        return cached

    def many(self, hidden: Floats, wire_dtype: np.dtype[Any]) -> list[bytes | WireError]:
        """As `one`, of sound H (B, K, D); an error for one is its answer alone."""
        outputs = self._session.run(None, {"hidden": hidden})
        rows = np.concatenate([output.reshape(len(hidden), -1) for output in outputs], axis=1)
        full = _sent(rows, wire_dtype)
        if full is None:  # one of them is not finite
            return [_sent(row, wire_dtype) or UnusableHidden(_NOT_FINITE) for row in rows]
        size = len(full) // len(rows)
        return [full[at : at + size] for at in range(0, len(full), size)]


def _sent(correction: Floats, wire_dtype: np.dtype[Any]) -> bytes | None:
    """The bytes of a correction; None where it is not finite, or too large for `number`."""
    narrow = narrowed(correction, wire_dtype) if all_finite(correction) else None
    return None if narrow is None else narrow.tobytes()


class CorrectorCache:
    """The correctors of a store, opened when first asked for and kept while there is room.

    A version goes on answering after another is promoted, until it is retired.
    """

    def __init__(self, store: Store, *, room: int) -> None:
        """`room`: bytes that all open correctors together may take, about."""
        self._store, self._room = store, room
        self._open: dict[str, Corrector] = {}
        self._used: dict[str, float] = {}
        self._changing = threading.Lock()
        self._unopened = "", 0.0
        """The production version that could not be opened, and when that may be tried again."""
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="models")
        """For `open` and `refresh` of a cloud that serves: memory that one thread took for a
        version is used again for the next, that of many threads adds up."""

    def get(self, version: str) -> Corrector | None:
        """The corrector of a version if it is open: what the hot path asks first."""
        cached = self._open.get(version)
        if cached is not None:
            self._used[version] = time.monotonic()
        return cached

    def open(self, version: str) -> Corrector:
        """The corrector of a version, checked and loaded if it was not. For any thread.

        Raises UnknownModel, RetiredModel, or a BundleError where its files are damaged.
        """
        with self._changing:  # many devices ask for a new version at once: it is loaded once
            return self.get(version) or self._load(version)

    def refresh(self) -> None:
        """Opens the production version and closes retired ones; called about once a second.

        A version that cannot be opened is left alone for a while, for its files are read and
        hashed before one knows; asking for it says why.
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
        version, attempts = self._unopened
        if production == version and time.monotonic() < attempts:
            return
        try:
            self.open(production)
        except Exception as error:
            self._unopened = production, time.monotonic() + RETRY_SECONDS
            _log.warning("version %s cannot be opened: %s", production, error)

    def loaded(self) -> list[str]:
        """The versions that are open."""
        return list(self._open)

    def _load(self, version: str) -> Corrector:
        # Only what is opened is checked: of a million items all files are nearly a gigabyte.
        manifest = self._store.checked(version, GRAPHS)
        cached = Corrector(self._store.version_folder(version), version, manifest)
        self._open[version], self._used[version] = cached, time.monotonic()
        self._make_room(version)
        return cached

    def _make_room(self, newest: str) -> None:
        """Keeps memory bounded: the version asked for longest ago goes, never the newest one or
        production, however large."""
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
