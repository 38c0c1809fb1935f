"""The training step of the bundle in ONNX Runtime, on buffers that are made once.

    graph.begin(start)                     patch, moments and start of a round
    graph.fill(states, rows, ...)          own clicks and negatives
    graph.step(1), graph.step(2), ...      Adam; `patch` changes in place

A round of 60 clicks and 500 negatives works in half a megabyte, which the next round uses again.
"""

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from device_client.bundle import Bundle
from device_client.learning.patch import patch_size
from device_client.open_graph import open_graph
from shared import bundle as files
from shared.errors import BundleInvalid
from shared.learning import PatchSettings, adam_factors

Floats = NDArray[np.float32]
Int64 = NDArray[np.int64]

NEVER: Final = -1e9
"""Added to the score of a negative that is none: an item that the user clicked before."""
_STATE: Final = ("patch", "first", "second")


class TrainingGraph:
    """The inputs and outputs of `learn.onnx` for one user (shared/GRAPHS.md, "Learning")."""

    def __init__(self, bundle: Bundle, settings: PatchSettings) -> None:
        """Raises BundleInvalid if the bundle's graph has other inputs than its settings need."""
        self._settings, self._table = settings, bundle.item_table
        self._items = bundle.manifest.items
        self._session = _checked(bundle, settings)
        self._inputs: dict[str, Floats] = {
            value.name: np.zeros(value.shape, np.float32) for value in self._session.get_inputs()
        }
        self._outputs: dict[str, Floats] = {
            value.name: np.zeros(value.shape, np.float32) for value in self._session.get_outputs()
        }
        self._inputs["decay"][...] = settings.decay
        self._binding = self._session.io_binding()
        for name, array in self._inputs.items():
            self._binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        for name, array in self._outputs.items():
            self._binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))
        self.patch: Floats = self._inputs["patch"]
        """(P,) The patch after the last step."""

    def begin(self, start: Floats | None) -> None:
        """Begins a round at a patch (P,), or at zero."""
        for name in _STATE:
            self._inputs[name][:] = 0.0
        self._inputs["start"][:] = 0.0
        if start is not None:
            self._inputs["start"][:] = self.patch[:] = start

    def fill(
        self, states: Floats, rows: Int64, negatives: Int64, is_own: NDArray[np.bool_]
    ) -> None:
        """Fills in own clicks and negatives.

        `states` (n, D) before the clicks on `rows` (n,), at most as many as the settings' window;
        `negatives` (m,) rows, fewer if the catalogue has fewer; `is_own` (m,) those that the user
        clicked before, which do not count.
        """
        n, m = len(rows), len(negatives)
        inputs = self._inputs
        inputs["weights"][:] = 0.0
        inputs["weights"][:n] = 1.0
        inputs["positives"][:] = 0.0
        inputs["positives"][:n] = self._table[rows]
        inputs["negatives"][:] = 0.0
        inputs["negatives"][:m] = self._table[negatives]
        offsets = np.full(self._settings.negatives, NEVER, np.float32)
        # Negatives stand for the whole catalogue: log(V / m) is added to their scores.
        allowed = max(1, m - int(is_own.sum()))
        correction = math.log(self._items) - math.log(allowed)
        offsets[:m] = np.where(is_own, NEVER, 0.0) + np.float32(correction)
        if self._settings.form == "shift":
            # They stay the same for all steps.
            positive, negative = inputs["positive_scores"], inputs["negative_scores"]
            positive[:] = 0.0
            positive[:n] = (states * inputs["positives"][:n]).sum(1)
            negative[:] = 0.0
            np.matmul(states, inputs["negatives"].T, out=negative[:n])
            negative[:n] += offsets
        else:
            inputs["states"][:] = 0.0
            inputs["states"][:n] = states
            inputs["positive_offsets"][:] = 0.0
            inputs["negative_offsets"][:] = offsets

    def step(self, number: int) -> float:
        """One step of the round (from 1): the loss before it. NaN is given as it is."""
        rate, epsilon = adam_factors(number, self._settings.learning_rate)
        self._inputs["rate"][...], self._inputs["epsilon"][...] = rate, epsilon
        self._session.run_with_iobinding(self._binding)
        for name in _STATE:
            self._inputs[name][:] = self._outputs[f"next_{name}"]
        return float(self._outputs["loss"])

    def forget(self) -> None:
        """Clears everything that came from the user."""
        for array in (*self._inputs.values(), *self._outputs.values()):
            array[...] = 0.0
        self._inputs["decay"][...] = self._settings.decay


class AmortisedGraph:
    """The network that makes a shift of a long history (`amortised.onnx`)."""

    def __init__(self, bundle: Bundle) -> None:
        self._session = open_graph(bundle.graph(files.AMORTISED_GRAPH), lean=True)
        d = bundle.manifest.model.dim
        lives = self._session.get_inputs()[0].shape[0]
        _check_shapes(
            self._session,
            {"sums": (lives, d), "count": (1, 1), "state": (1, d)},
            files.AMORTISED_GRAPH,
        )

    def shift(self, sums: Floats, count: int, state: Floats) -> Floats:
        """The shift (D,) after `count` clicks, from the decayed sums (3, D) of their items."""
        feeds = {
            "sums": sums,
            "count": np.full((1, 1), count, np.float32),
            "state": state.reshape(1, -1),
        }
        shift: Floats = self._session.run(["shift"], feeds)[0][0]
        return shift


def decayed_sums(table: Floats, rows: Int64, half_lives: tuple[int, ...]) -> Floats:
    """For each half-life, the sum of the items' vectors (D,), the last click's undiminished."""
    ages = np.arange(len(rows) - 1, -1, -1, dtype=np.float64)
    weights = np.stack([0.5 ** (ages / life) for life in half_lives]).astype(np.float32)
    sums: Floats = weights @ table[rows]
    return sums


def _checked(bundle: Bundle, settings: PatchSettings) -> ort.InferenceSession:
    session = open_graph(bundle.graph(files.LEARN_GRAPH), lean=True)
    n, m, d = settings.window, settings.negatives, bundle.manifest.model.dim
    size = (patch_size(settings, bundle),)
    shapes: dict[str, tuple[int, ...]] = {
        **dict.fromkeys((*_STATE, "start"), size),
        **dict.fromkeys(("rate", "epsilon", "decay"), ()),
        "weights": (n,), "positives": (n, d), "negatives": (m, d),
    }  # fmt: skip
    if settings.form == "shift":
        shapes |= {"positive_scores": (n,), "negative_scores": (n, m)}
    else:
        shapes |= {"states": (n, d), "positive_offsets": (n,), "negative_offsets": (n, m)}
    _check_shapes(session, shapes, files.LEARN_GRAPH)
    return session


def _check_shapes(
    session: ort.InferenceSession, shapes: Mapping[str, tuple[int, ...]], name: str
) -> None:
    found = {value.name: tuple(value.shape) for value in session.get_inputs()}
    if found != shapes:
        raise BundleInvalid(f"{name} has other inputs than the bundle's settings of learning need")
