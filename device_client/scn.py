"""The SCN on the device: the bundle's graphs in ONNX Runtime, on buffers made once."""

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
    """The four graphs of a bundle, opened once and shared by every session in the process."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.table = ort.OrtValue.ortvalue_from_numpy(bundle.item_table)
        self.hidden = _open(bundle.graph(files.HIDDEN_GRAPH))
        self.prepare = _open(bundle.graph(files.PREPARE_GRAPH))
        self.rank = _open(bundle.graph(files.RANK_GRAPH))
        self.carry = _open(bundle.graph(files.CARRY_GRAPH))


class DeviceSCN:
    """One user's SCN: H of the current segment, its scores, and the carried state.

    Inputs and outputs are bound to the arrays below, which are filled in place.
    """

    def __init__(self, graphs: Graphs) -> None:
        self._graphs, bundle = graphs, graphs.bundle
        s = bundle.manifest.model
        self.clicks = np.zeros(s.segment, np.int64)
        """(K,) item numbers of the segment, padded with 0 at the end."""
        self.hidden: Floats = np.zeros((s.segment, s.dim), np.float32)
        """(K, D) H of `clicks`, after `compute_hidden`."""
        self._position = np.zeros((), np.int64)
        self._attn: Floats = np.zeros((s.heads, s.segment), np.float32)
        self._bias: Floats = np.zeros((s.heads, s.head_dim), np.float32)
        self._gate = np.zeros((), np.float32)
        self._weight, self._inner_bias = bundle.inner_weight.copy(), bundle.inner_bias.copy()
        self._next_weight, self._next_bias = self._weight.copy(), self._inner_bias.copy()
        state = {"inner_weight": self._weight, "inner_bias": self._inner_bias}
        self._to_hidden = self._bind(graphs.hidden, {"clicks": self.clicks})
        self._output(self._to_hidden, "hidden", self.hidden)
        self._to_prepared = self._bind(
            graphs.prepare,
            {"hidden": self.hidden, "position": self._position, **state},
            table=False,
        )
        self._prepared: dict[str, Floats] = {
            output.name: np.zeros(output.shape, np.float32)
            for output in graphs.prepare.get_outputs()
        }
        for name, array in self._prepared.items():
            self._output(self._to_prepared, name, array)
        self._is_prepared = False
        self._to_scores = self._bind(
            graphs.rank,
            {"attn": self._attn, "bias": self._bias, "gate": self._gate, **self._prepared},
        )
        self._to_carry = self._bind(graphs.carry, {"hidden": self.hidden, **state}, table=False)
        self._output(self._to_carry, "next_weight", self._next_weight)
        self._output(self._to_carry, "next_bias", self._next_bias)

    def compute_hidden(self) -> None:
        """`clicks` to `hidden`."""
        self._graphs.hidden.run_with_iobinding(self._to_hidden)
        self._is_prepared = False

    def prepare(self, position: int) -> None:
        """All of `scores` that waits for neither correction nor candidates, for a last click at
        `position` (from 0) of the segment."""
        self._position[...] = position
        self._graphs.prepare.run_with_iobinding(self._to_prepared)
        self._is_prepared = True

    def scores(
        self, position: int, candidates: NDArray[np.int64], correction: RowCorrection | None
    ) -> Floats:
        """A score per candidate (N,), for a last click at `position` (from 0) of the segment."""
        if not self._is_prepared or self._position != position:
            self.prepare(position)
        if correction is None:
            self._gate[...] = 0.0
        else:
            self._attn[...], self._bias[...] = correction
            self._gate[...] = 1.0
        self._to_scores.bind_cpu_input("candidates", candidates)
        # Bound anew each time: else ONNX Runtime writes into the scores given out before, and
        # fails where the list has another length.
        self._to_scores.clear_binding_outputs()
        self._to_scores.bind_output("scores", "cpu")
        self._graphs.rank.run_with_iobinding(self._to_scores)
        found: Floats = self._to_scores.get_outputs()[0].numpy()
        return found

    def carry(self) -> None:
        """Moves the carried state over the full segment in `hidden`."""
        self._graphs.carry.run_with_iobinding(self._to_carry)
        self._weight[...], self._inner_bias[...] = self._next_weight, self._next_bias
        self._is_prepared = False

    def reset(self) -> None:
        """Back to the state of a user without history."""
        self._weight[...] = self._graphs.bundle.inner_weight
        self._inner_bias[...] = self._graphs.bundle.inner_bias
        self._is_prepared = False

    def _bind(
        self,
        session: ort.InferenceSession,
        inputs: dict[str, NDArray[np.generic]],
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
