"""The SCN on the device: the bundle's graphs in ONNX Runtime, on buffers made once."""

from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from device_client.bundle import Bundle
from shared import bundle as files
from shared.model import ModelSettings
from shared.views import SEGMENT_VIEWS, cut_views
from shared.wire import RowCorrection

Floats = NDArray[np.float32]


def _open(path: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # thread pools ignore a container's CPU limit
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Graphs as small as these wait for the arena and for buffers used twice: 2 µs of 40.
    options.enable_cpu_mem_arena = options.enable_mem_reuse = False
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Graphs:
    """The five graphs of a bundle, opened once and shared by every session in the process."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.table = ort.OrtValue.ortvalue_from_numpy(bundle.item_table)
        self.hidden = _open(bundle.graph(files.HIDDEN_GRAPH))
        self.views = _open(bundle.graph(files.VIEWS_GRAPH))
        self.prepare = _open(bundle.graph(files.PREPARE_GRAPH))
        self.rank = _open(bundle.graph(files.RANK_GRAPH))
        self.carry = _open(bundle.graph(files.CARRY_GRAPH))
        s = bundle.manifest.model
        (none,) = self.views.run(None, {"hidden": np.zeros((1, s.dim), np.float32)})
        self.no_click: Floats = cut_views(none, s.heads)[0]
        """(3, h, 1, f + 1) What a segment keeps for a place without a click."""


class DeviceSCN:
    """One user's SCN: the clicks of the current segment, their scores, and the carried state.

    Inputs and outputs are bound to the arrays below, which are filled in place. A click's row of H
    and its views do not depend on its place: they are computed once and kept while it counts, the
    views not before they are needed, when H may be on its way.
    """

    def __init__(self, graphs: Graphs) -> None:
        self._graphs, bundle = graphs, graphs.bundle
        s = bundle.manifest.model
        h, k, f = s.heads, s.segment, s.head_dim
        self.count = 0
        """Clicks in the segment."""
        self.hidden: Floats = np.zeros((k, s.dim), np.float32)
        """(K, D) H of the segment; rows after the last click are zero."""
        windowed = s.history == "window"
        self._slides = windowed and s.length <= k
        self._room = s.length if self._slides else k
        self._window: deque[Floats] | None = None
        """H of every click in a window of several segments, which all begin elsewhere once it
        slides."""
        if windowed and not self._slides:
            self._window = deque(maxlen=s.length)
        self._click = np.zeros(1, np.int64)
        self._row: Floats = np.zeros((1, s.dim), np.float32)
        view: Floats = np.zeros((1, s.views_width), np.float32)
        kept, query = cut_views(view, h)
        self._view: Floats = kept[:, :, 0]
        self._views: Floats = np.zeros((3, h, k, f + 1), np.float32)
        """Keys and values of the segment's clicks; places without one hold those of no click."""
        self._position = np.zeros(1, np.int64)
        self._state: Floats = bundle.inner_state.copy()
        self._next_state = self._state.copy()
        before = dict(zip(SEGMENT_VIEWS, self._views, strict=True)) | {"state": self._state}
        self._to_row = self._bind(
            graphs.hidden, {"item_table": graphs.table, "clicks": self._click}
        )
        self._output(self._to_row, "hidden", self._row)
        self._to_view = self._bind(graphs.views, {"hidden": self._row})
        self._output(self._to_view, "views", view)
        self._to_prepared = self._bind(
            graphs.prepare,
            {"hidden": self.hidden, "query": query, "position": self._position, **before},
        )
        prepared: dict[str, Floats] = {
            output.name: np.zeros(output.shape, np.float32)
            for output in graphs.prepare.get_outputs()
        }
        for name, array in prepared.items():
            self._output(self._to_prepared, name, array)
        self._to_scores = self._bind(
            graphs.rank, {"item_table": graphs.table, **prepared, **self._correction(s)}
        )
        self._candidates, self._scores = np.zeros(0, np.int64), np.zeros((1, 0), np.float32)
        self._to_carry = self._bind(graphs.carry, before)
        self._output(self._to_carry, "next_state", self._next_state)
        self._is_prepared = False
        self._empty()

    def click(self, item: int) -> None:
        """Takes the number of an item: the segment grows, the window slides, or a new segment
        begins."""
        self._see()
        self._click[0] = item
        self._graphs.hidden.run_with_iobinding(self._to_row)
        if self._window is not None:
            slides = len(self._window) == self._window.maxlen
            self._window.append(self._row.copy())
            if slides:
                self._read_again(self._window)
                return
        self._put()

    def prepare(self) -> None:
        """All of `scores` that waits for neither correction nor candidates."""
        self._see()
        self._position[0] = self.count - 1
        self._graphs.prepare.run_with_iobinding(self._to_prepared)
        self._is_prepared = True

    def scores(self, candidates: NDArray[np.int64], correction: RowCorrection | None) -> Floats:
        """A score per candidate (N,), after at least one click."""
        if not self._is_prepared:
            self.prepare()
        if correction is not None:
            self._attn[...], self._bias[...] = correction
            self._gate[...] = 1.0
        elif self._gate:
            self._attn[...] = self._bias[...] = self._gate[...] = 0.0
        if len(candidates) != len(self._candidates):
            self._make_room(len(candidates))
        self._candidates[:] = candidates
        self._graphs.rank.run_with_iobinding(self._to_scores)
        # A copy: the next ranking writes where this one did.
        found: Floats = self._scores[0].copy()
        return found

    def _correction(self, s: ModelSettings) -> dict[str, Floats]:
        """Makes the arrays that a correction is put into, all zero without one: `rank`'s inputs."""
        self._gate = np.zeros((), np.float32)
        if s.gcn != "projected":
            both: Floats = np.zeros((s.heads, 1, s.segment + s.head_dim), np.float32)
            self._attn, self._bias = both[:, 0, : s.segment], both[:, 0, s.segment :]
            return {"correction": both, "gate": self._gate}
        self._attn = np.zeros((s.heads, s.segment), np.float32)
        self._bias = np.zeros((s.heads, s.head_dim), np.float32)
        digits, named = self._attn.reshape(-1), s.named_items
        return {
            "shift": self._bias.reshape(1, -1),
            "higher": digits[:named].reshape(-1, 1),
            "lower": digits[named : 2 * named].reshape(-1, 1),
            "residuals": digits[2 * named : 3 * named].reshape(1, -1),
        }

    def _make_room(self, count: int) -> None:
        """For another number of candidates: to bind arrays anew takes longer than to fill them."""
        self._candidates, self._scores = np.zeros(count, np.int64), np.zeros((1, count), np.float32)
        candidates = ort.OrtValue.ortvalue_from_numpy(self._candidates)
        self._to_scores.bind_ortvalue_input("candidates", candidates)
        self._to_scores.clear_binding_outputs()
        self._output(self._to_scores, "scores", self._scores)

    def _put(self) -> None:
        """Puts the click in `_row` after the last one, making room where the segment is full."""
        if self.count == self._room:
            if self._slides:
                self.count -= 1
                self.hidden[: self.count] = self.hidden[1 : self._room]
            else:
                self.hidden[:], self.count = 0.0, 0
            self._is_behind = True
        self.hidden[self.count] = self._row
        self.count += 1
        self._is_seen = self._is_prepared = False

    def _see(self) -> None:
        """The views of the last click, and what they need: H may be on its way before."""
        if not self._is_seen:
            if self._is_behind:
                self._follow()
            self._graphs.views.run_with_iobinding(self._to_view)
            self._views[:, :, self.count - 1] = self._view
            self._is_seen = True

    def _read_again(self, rows: Iterable[Floats]) -> None:
        """Takes clicks by their rows of H, from the state of a user without history."""
        self._state[...] = self._graphs.bundle.inner_state
        self._empty()
        for row in rows:
            self._see()
            self._row[...] = row
            self._put()

    def _follow(self) -> None:
        """Moves the views as `_put` moved H, or the carried state over the segment that ended."""
        if self._slides:
            self._views[:, :, : self._room - 1] = self._views[:, :, 1 : self._room]
        else:
            self._graphs.carry.run_with_iobinding(self._to_carry)
            self._state[...] = self._next_state
            self._views[:] = self._graphs.no_click
        self._is_behind = False

    def _empty(self) -> None:
        self.hidden[:], self._views[:] = 0.0, self._graphs.no_click
        self.count, self._is_seen = 0, True
        self._is_behind = False
        """Whether the views of a segment that has slid, or come to its end, are still those of
        before: they follow when H is on its way."""

    @staticmethod
    def _bind(
        session: ort.InferenceSession,
        inputs: Mapping[str, NDArray[np.generic] | ort.OrtValue],
    ) -> ort.IOBinding:
        binding = session.io_binding()
        for name, value in inputs.items():
            if not isinstance(value, ort.OrtValue):
                value = ort.OrtValue.ortvalue_from_numpy(value)
            binding.bind_ortvalue_input(name, value)
        return binding

    @staticmethod
    def _output(binding: ort.IOBinding, name: str, array: NDArray[np.generic]) -> None:
        binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))
