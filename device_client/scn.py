"""The SCN on the device: the bundle's graphs in ONNX Runtime, on buffers that are made once.

shared/GRAPHS.md explains the graphs, segments, sliding and carrying. The sequence of calls:

    click(item) ──> project_last    if the click before has no projections yet
        │           hidden          item -> its row of H; H can now be sent to the cloud
        └─────────> append          if the segment is full: drop the oldest row, or clear H, and
                                    leave the projections behind until project_last
                    replay_window   instead of append, when a window of several segments moves

    prepare() ────> project_last ─> slide_or_carry   if the projections are behind: move them, or
        │               │                            run carry and begin a new segment
        │               └─────────> views            row of H -> projections of the click
        └─────────> prepare         projections, inner state -> all but correction and candidates

    Where a device keeps the inner states of all windows, each click is prepared, in order.

    scores(candidates, correction) > prepare()       if it was not called since the last click
        └─────────> rank            prepared arrays, correction, candidates -> scores

`click` does only what H needs, so that the request leaves as early as possible. `prepare` runs
while the correction is on its way.
"""

from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from device_client.bundle import Bundle
from device_client.learning.patch import AppliedPatch, PatchedUser, patch_settings
from device_client.open_graph import open_graph
from device_client.windows import InnerWindows
from shared import bundle as files
from shared.model import ModelSettings
from shared.projected import rank_inputs
from shared.projections import SEGMENT_PROJECTIONS, split_projections
from shared.wire import RowCorrection

Floats = NDArray[np.float32]


class Graphs:
    """The five graphs of a bundle, opened once and shared by all sessions of the process."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.table = ort.OrtValue.ortvalue_from_numpy(bundle.item_table)
        self.hidden = open_graph(bundle.graph(files.HIDDEN_GRAPH))
        self.projections = open_graph(bundle.graph(files.PROJECTIONS_GRAPH))
        self.prepare = open_graph(bundle.graph(files.PREPARE_GRAPH))
        self.rank = open_graph(bundle.graph(files.RANK_GRAPH))
        self.carry = open_graph(bundle.graph(files.CARRY_GRAPH))
        s = bundle.manifest.model
        (of_zeros,) = self.projections.run(None, {"hidden": np.zeros((1, s.dim), np.float32)})
        self.no_click: Floats = split_projections(of_zeros, s.heads)[0]
        """(3, h, 1, f + 1) Keys, rotated keys and values at a position without a click."""


class DeviceSCN:
    """The SCN of one user: the clicks of the current segment, and the inner state.

    Inputs and outputs of the graphs are bound to the arrays below, which are filled in place. The
    row of H and the projections of a click do not depend on its position: they are computed once
    and kept while the click counts.
    """

    def __init__(self, graphs: Graphs) -> None:
        self.graphs, bundle = graphs, graphs.bundle
        s = bundle.manifest.model
        h, k, f = s.heads, s.segment, s.head_dim
        self.count = 0
        """Clicks in the current segment."""
        self.hidden: Floats = np.zeros((k, s.dim), np.float32)
        """(K, D) H of the current segment; rows after the last click are zero."""
        windowed = s.history == "window"
        self._slides = windowed and s.length <= k
        self._capacity = s.length if self._slides else k
        self._window: deque[Floats] | None = None
        """Rows of H of a window of several segments: all segments change when the window moves."""
        if windowed and not self._slides:
            self._window = deque(maxlen=s.length)
        self._windows = InnerWindows(s, bundle.inner_state) if s.keeps_windows else None
        self._click = np.zeros(1, np.int64)
        self._row: Floats = np.zeros((1, s.dim), np.float32)
        self._projections: Floats = np.zeros((3, h, k, f + 1), np.float32)
        """Keys, rotated keys and values of the segment; `no_click` after the last click."""
        self._position = np.zeros(1, np.int64)
        self._state: Floats = bundle.inner_state.copy()
        self._next_state = self._state.copy()
        self._candidates, self._scores = np.zeros(0, np.int64), np.zeros((1, 0), np.float32)
        self._is_prepared = self._must_move_windows = False
        self.patch: AppliedPatch | None = None
        """Counts from the next ranking; another thread may set it."""
        self.offsets: Floats | None = None
        """(V + 1,) Added to the scores of items, by row."""
        self._bind_graphs(s)
        self._reset()

    def _bind_graphs(self, s: ModelSettings) -> None:
        """Binds inputs and outputs of the graphs to this user's arrays."""
        graphs = self.graphs
        projections: Floats = np.zeros((1, s.projections_width), np.float32)
        keys_and_values, query = split_projections(projections, s.heads)
        self._last_projections: Floats = keys_and_values[:, :, 0]
        segment: dict[str, Floats] = dict(zip(SEGMENT_PROJECTIONS, self._projections, strict=True))
        segment["state"] = self._state
        self._to_row = self._bind(
            graphs.hidden, {"item_table": graphs.table, "clicks": self._click}
        )
        self._output(self._to_row, "hidden", self._row)
        self._to_projections = self._bind(graphs.projections, {"hidden": self._row})
        self._output(self._to_projections, "views", projections)
        prepared = self._bind_prepare(graphs.prepare, query, segment, keys_and_values)
        self.user: Floats | None = prepared.get("user")
        """(1, D) The user state without a patch, after `prepare`; None if it needs a correction."""
        self._patched: PatchedUser | None = None
        if self.user is not None and patch_settings(graphs.bundle) is not None:
            self._patched = PatchedUser(self.user)
            prepared["user"] = self._patched.state
        self._to_scores = self._bind(
            graphs.rank, {"item_table": graphs.table, **prepared, **self._correction_inputs(s)}
        )
        self._to_carry = self._bind(graphs.carry, segment)
        self._output(self._to_carry, "next_state", self._next_state)

    def _bind_prepare(
        self,
        graph: ort.InferenceSession,
        query: Floats,
        segment: Mapping[str, Floats],
        last_click: Floats,
    ) -> dict[str, Floats]:
        """Binds `prepare`; returns its outputs that `rank` reads."""
        inputs, kept = segment, {}
        if self._windows is not None:
            of_last_click = dict(zip(SEGMENT_PROJECTIONS, last_click, strict=True))
            inputs, kept = of_last_click | self._windows.inputs, self._windows.outputs
        self._to_prepared = self._bind(
            graph, {"hidden": self.hidden, "query": query, "position": self._position, **inputs}
        )
        outputs: dict[str, Floats] = {
            output.name: kept.get(output.name, np.zeros(output.shape, np.float32))
            for output in graph.get_outputs()
        }
        for name, array in outputs.items():
            self._output(self._to_prepared, name, array)
        return {name: array for name, array in outputs.items() if name not in kept}

    def click(self, item: int) -> None:
        """Adds a click on an item (its row in the table): the segment grows, the window moves, or a
        new segment begins."""
        self._project_last()
        if self._windows is not None and self.count and not self._is_prepared:
            self.prepare()
        self._click[0] = item
        self.graphs.hidden.run_with_iobinding(self._to_row)
        if self._window is not None:
            is_full = len(self._window) == self._window.maxlen
            self._window.append(self._row.copy())
            if is_full:
                self._replay_window(self._window)
                return
        self._append()

    def prepare(self) -> None:
        """Computes everything in `scores` that needs neither the correction nor the candidates."""
        if self._is_prepared:
            return
        self._project_last()
        if self._windows is not None:
            if self._must_move_windows:
                self._windows.move()
            self._must_move_windows = True
        self._position[0] = self.count - 1
        self.graphs.prepare.run_with_iobinding(self._to_prepared)
        if self._patched is not None:
            self._patched.write(self.patch, corrected=False)
        self._is_prepared = True

    def scores(self, candidates: NDArray[np.int64], correction: RowCorrection | None) -> Floats:
        """One score for each candidate, (N,). Needs at least one click."""
        if not self._is_prepared:
            self.prepare()
        if correction is not None:
            self._attn[...], self._bias[...] = correction
            self._gate[...] = 1.0
        elif self._gate:
            self._attn[...] = self._bias[...] = self._gate[...] = 0.0
        if len(candidates) != len(self._candidates):
            self._resize(len(candidates))
        self._candidates[:] = candidates
        if self._patched is not None:
            self._patched.update(self.patch, corrected=correction is not None)
        self.graphs.rank.run_with_iobinding(self._to_scores)
        # A new array: the next ranking writes to the same one.
        if self.offsets is None:
            scores: Floats = self._scores[0].copy()
        else:
            scores = self.offsets.take(self._candidates)  # the method: half of `np.take`
            scores += self._scores[0]
        return scores

    def _correction_inputs(self, s: ModelSettings) -> dict[str, Floats]:
        """Makes the arrays for a correction, all zero without one, and the inputs of `rank` in
        their memory."""
        self._gate = np.zeros((), np.float32)
        if s.gcn != "projected":
            both: Floats = np.zeros((s.heads, 1, s.segment + s.head_dim), np.float32)
            self._attn, self._bias = both[:, 0, : s.segment], both[:, 0, s.segment :]
            return {"correction": both, "gate": self._gate}
        self._attn = np.zeros((s.heads, s.segment), np.float32)
        self._bias = np.zeros((s.heads, s.head_dim), np.float32)
        return rank_inputs(RowCorrection(self._attn, self._bias))

    def _resize(self, count: int) -> None:
        """Makes arrays for another number of candidates: binding takes longer than filling them."""
        self._candidates, self._scores = np.zeros(count, np.int64), np.zeros((1, count), np.float32)
        candidates = ort.OrtValue.ortvalue_from_numpy(self._candidates)
        self._to_scores.bind_ortvalue_input("candidates", candidates)
        self._to_scores.clear_binding_outputs()
        self._output(self._to_scores, "scores", self._scores)

    def _append(self) -> None:
        """Appends `_row` to H; a full segment slides by one click, or a new one begins."""
        if self.count == self._capacity:
            if self._slides:
                self.count -= 1
                self.hidden[: self.count] = self.hidden[1 : self._capacity]
            else:
                self.hidden[:], self.count = 0.0, 0
            self._must_slide_or_carry = True
        self.hidden[self.count] = self._row
        self.count += 1
        self._is_projected = self._is_prepared = False

    def _project_last(self) -> None:
        """Computes the projections of the last click, if `click` has left that for later."""
        if not self._is_projected:
            if self._must_slide_or_carry:
                self._slide_or_carry()
            self.graphs.projections.run_with_iobinding(self._to_projections)
            self._projections[:, :, self.count - 1] = self._last_projections
            self._is_projected = True

    def _replay_window(self, rows: Iterable[Floats]) -> None:
        """Appends clicks by their rows of H, beginning at the state of a user without history."""
        self._state[...] = self.graphs.bundle.inner_state
        self._reset()
        for row in rows:
            self._project_last()
            self._row[...] = row
            self._append()

    def _slide_or_carry(self) -> None:
        """Updates the projections after `_append` has moved H.

        Moves them by one click, or computes the inner state after the full segment and clears them.
        """
        if self._windows is not None:
            pass  # only the last click's projections are read
        elif self._slides:
            projections, end = self._projections, self._capacity
            projections[:, :, : end - 1] = projections[:, :, 1:end]
        else:
            self.graphs.carry.run_with_iobinding(self._to_carry)
            self._state[...] = self._next_state
            self._projections[:] = self.graphs.no_click
        self._must_slide_or_carry = False

    def _reset(self) -> None:
        """An empty segment. The inner state stays."""
        self.hidden[:], self._projections[:] = 0.0, self.graphs.no_click
        self.count, self._is_projected = 0, True
        self._must_slide_or_carry = False
        """True while H has moved on, but projections and inner state have not."""

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
