"""One point of the measurement, in a process of its own: time and memory of a written plan.

    python -m benchmarks.device_cost.point FOLDER SECONDS

Prints JSON: the time of every rerank in ms, and by how many bytes the process grew at its peak,
graphs and runs, over what it had once ONNX Runtime, the item table and the inputs were loaded. A
first session of a graph that does nothing belongs to that loading: it costs 10 MB, the same for
all. Linux only: the peak is VmHWM, which is set back after loading.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.device_cost.plan import ARRAYS, NOTHING, TABLE, Arrays, Call, read_calls
from cloud_service.runtime import open_session
from shared.projections import SEGMENT_PROJECTIONS, split_projections

WARM, LEAST = 5, 20
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class Bound:
    """A call on buffers made once, as `device_client/scn.py` holds them."""

    def __init__(self, session: ort.InferenceSession, call: Call, arrays: Arrays) -> None:
        names = [argument.name for argument in session.get_inputs()]
        feeds = {name: arrays[call.inputs.get(name, name)] for name in names}
        names = [output.name for output in session.get_outputs()]
        self.outputs: Arrays = dict(zip(names, session.run(names, feeds), strict=True))
        self._session, self._binding = session, session.io_binding()
        for name, array in feeds.items():
            self._binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        for name, array in self.outputs.items():
            self._binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))
        row = ... if call.row is None else slice(call.row, call.row + 1)
        self._after = [
            (arrays[array][row], self.outputs[name]) for array, name in call.after.items()
        ]
        if call.query is not None:
            self._after += _laid_out(self.outputs["views"], call.query, row, arrays)
        slid = [arrays[name] for name in call.slides]
        self._before = [(array[..., :-1, :], array[..., 1:, :]) for array in slid]

    def run(self) -> None:
        """Runs the graph and hands on what it gave."""
        for offset, next_place in self._before:
            offset[...] = next_place
        self._session.run_with_iobinding(self._binding)
        for array, output in self._after:
            array[...] = output


def _laid_out(
    views: NDArray[np.generic], query: int, row: Any, arrays: Arrays
) -> list[tuple[NDArray[np.generic], NDArray[np.generic]]]:
    """Where the parts of views go."""
    kept_projections, queries = split_projections(views, len(arrays["values"]))
    copies = [
        (arrays[name][:, row], projection)
        for name, projection in zip(SEGMENT_PROJECTIONS, kept_projections, strict=True)
    ]
    return [*copies, (arrays["query"], queries[:, :, query : query + 1])]


def load_arrays(folder: Path) -> Arrays:
    """The arrays of a plan that was written, and the item table."""
    arrays: Arrays = {"item_table": np.load(folder.parent / TABLE)}
    with np.load(folder / ARRAYS) as stored:
        return arrays | {name: stored[name].copy() for name in stored}


def bind(folder: Path, calls: Sequence[Call], arrays: Arrays) -> list[Bound]:
    """The calls of a plan, ready to run; calls of one graph share its session."""
    sessions = {call.graph: open_session(str(folder / f"{call.graph}.onnx")) for call in calls}
    return [Bound(sessions[call.graph], call, arrays) for call in calls]


def measure(folder: Path, seconds: float) -> dict[str, object]:
    """Times in ms and growth in bytes."""
    calls, fresh = read_calls(folder)
    arrays = load_arrays(folder)
    clicks, candidates = arrays[fresh].reshape(-1), arrays["candidates"]
    last_click, items = np.count_nonzero(clicks) - 1, len(arrays["item_table"]) - 1
    random = np.random.default_rng(0)
    open_session(str(folder.parent / NOTHING))
    _CLEAR.write_text(_RESET_PEAK)
    before = _kilobytes("VmRSS")
    bound = bind(folder, calls, arrays)
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < WARM + LEAST or time.perf_counter() - begun < seconds:
        clicks[last_click] = random.integers(1, items + 1)
        candidates[...] = random.integers(1, items + 1, len(candidates))
        start = time.perf_counter_ns()
        for call in bound:
            call.run()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return {"ms": times[WARM:], "memory_bytes": 1024 * (_kilobytes("VmHWM") - before)}


def _kilobytes(name: str) -> int:
    for line in _STATUS.read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise RuntimeError(f"{_STATUS} does not say {name}: this benchmark needs Linux")


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), float(sys.argv[2]))))
