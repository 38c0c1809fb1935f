"""The SCN on the device: the bundle's graphs in ONNX Runtime, on buffers made once."""

from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from device_client.bundle import Bundle
from shared import bundle as files
from shared.wire import RowCorrection

Floats = NDArray[np.float32]


def _open(path: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # thread pools ignore a container's CPU limit
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
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


class DeviceSCN:
    """One user's SCN: the clicks of the current segment, their scores, and the carried state.

    Inputs and outputs are bound to the arrays below, which are filled in place. A click's row of H
    and its views do not depend on its place: they are computed once and kept while it counts, the
    views not before they are needed, when H may be on its way.
    """

    def __init__(self, graphs: Graphs) -> None:
        self._graphs, bundle = graphs, graphs.bundle
        s = bundle.manifest.model
        self.count = 0
        """Clicks in the segment."""
        self.hidden: Floats = np.zeros((s.segment, s.dim), np.float32)
        """(K, D) H of the segment; rows after the last click are zero."""
        self._views: Floats = np.zeros((s.segment, s.views_width), np.float32)
        windowed = s.history == "window"
        self._slides = windowed and s.length <= s.segment
        self._room = s.length if self._slides else s.segment
        self._window: deque[Floats] | None = None
        """H of every click in a window of several segments, which all begin elsewhere once it
        slides."""
        if windowed and not self._slides:
            self._window = deque(maxlen=s.length)
        self._click = np.zeros(1, np.int64)
        self._row: Floats = np.zeros((1, s.dim), np.float32)
        self._view: Floats = np.zeros((1, s.views_width), np.float32)
        self._position = np.zeros((), np.int64)
        self._attn: Floats = np.zeros((s.heads, 1, s.segment), np.float32)
        self._bias: Floats = np.zeros((s.heads, 1, s.head_dim), np.float32)
        self._gate = np.zeros((), np.float32)
        self._weight, self._inner_bias = bundle.inner_weight.copy(), bundle.inner_bias.copy()
        self._next_weight, self._next_bias = self._weight.copy(), self._inner_bias.copy()
        before = {
            "views": self._views,
            "inner_weight": self._weight,
            "inner_bias": self._inner_bias,
        }
        self._to_row = self._bind(graphs.hidden, {"clicks": self._click})
        self._output(self._to_row, "hidden", self._row)
        self._to_view = self._bind(graphs.views, {"hidden": self._row}, table=False)
        self._output(self._to_view, "views", self._view)
        self._to_prepared = self._bind(
            graphs.prepare,
            {"hidden": self.hidden, "position": self._position, **before},
            table=False,
        )
        self._prepared: dict[str, Floats] = {
            output.name: np.zeros(output.shape, np.float32)
            for output in graphs.prepare.get_outputs()
        }
        for name, array in self._prepared.items():
            self._output(self._to_prepared, name, array)
        self._slid, self._is_seen, self._is_prepared = False, True, False
        self._to_scores = self._bind(
            graphs.rank,
            {"attn": self._attn, "bias": self._bias, "gate": self._gate, **self._prepared},
        )
        self._to_carry = self._bind(graphs.carry, before, table=False)
        self._output(self._to_carry, "next_weight", self._next_weight)
        self._output(self._to_carry, "next_bias", self._next_bias)

    def click(self, item: int) -> None:
        """Takes the number of an item: the segment grows, the window slides, or the state is
        carried on."""
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
        self._position[...] = self.count - 1
        self._graphs.prepare.run_with_iobinding(self._to_prepared)
        self._is_prepared = True

    def scores(self, candidates: NDArray[np.int64], correction: RowCorrection | None) -> Floats:
        """A score per candidate (N,), after at least one click."""
        if not self._is_prepared:
            self.prepare()
        if correction is None:
            self._gate[...] = 0.0
        else:
            self._attn[:, 0], self._bias[:, 0] = correction
            self._gate[...] = 1.0
        self._to_scores.bind_cpu_input("candidates", candidates)
        # Bound anew each time: else ONNX Runtime writes into the scores given out before, and
        # fails where the list has another length.
        self._to_scores.clear_binding_outputs()
        self._to_scores.bind_output("scores", "cpu")
        self._graphs.rank.run_with_iobinding(self._to_scores)
        found: Floats = self._to_scores.get_outputs()[0].numpy()
        return found

    def _put(self) -> None:
        """Puts the click in `_row` after the last one, making room where the segment is full."""
        if self.count == self._room:
            if self._slides:
                self.count -= 1
                self.hidden[: self.count] = self.hidden[1 : self._room]
                self._slid = True  # the views follow when H is on its way
            else:
                self._carry()
        self.hidden[self.count] = self._row
        self.count += 1
        self._is_seen = self._is_prepared = False

    def _see(self) -> None:
        """The views of the last click."""
        if not self._is_seen:
            if self._slid:
                self._views[: self._room - 1] = self._views[1 : self._room]
                self._slid = False
            self._graphs.views.run_with_iobinding(self._to_view)
            self._views[self.count - 1] = self._view
            self._is_seen = True

    def _read_again(self, rows: Iterable[Floats]) -> None:
        """Takes clicks by their rows of H, from the state of a user without history."""
        self._weight[...] = self._graphs.bundle.inner_weight
        self._inner_bias[...] = self._graphs.bundle.inner_bias
        self._empty()
        for row in rows:
            self._see()
            self._row[...] = row
            self._put()

    def _carry(self) -> None:
        """Moves the carried state over the full segment, and empties it."""
        self._graphs.carry.run_with_iobinding(self._to_carry)
        self._weight[...], self._inner_bias[...] = self._next_weight, self._next_bias
        self._empty()

    def _empty(self) -> None:
        self.hidden[:], self._views[:] = 0.0, 0.0
        self.count, self._is_seen = 0, True

    def _bind(
        self,
        session: ort.InferenceSession,
        inputs: Mapping[str, NDArray[np.generic]],
        *,
        table: bool = True,
    ) -> ort.IOBinding:
        binding = session.io_binding()
        if table:
            binding.bind_ortvalue_input("item_table", self._graphs.table)
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        return binding

    @staticmethod
    def _output(binding: ort.IOBinding, name: str, array: NDArray[np.generic]) -> None:
        binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))
