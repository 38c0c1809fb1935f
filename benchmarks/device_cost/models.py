"""The models that are compared, and what a device runs of each for one new click.

Shapes are CoCorrRec's (Table 3): D = 64, 4 heads, segments of 10 clicks, 100 candidates. Layers are
those of the models' own code: one of GRU4Rec and Mamba4Rec, two of SASRec, BERT4Rec and DIN's MLP.
Weights are random: a cost does not depend on them.

`carried` is a model that keeps a state of fixed size from click to click. Without it, all clicks
are read again. The SCN carries once in 10 clicks: the first click of a new segment, the dearest,
pays for carrying the one before it too, and is measured apart from the nine others. The projected
SCN is what `make demo` serves: a window of 10 clicks, which slides. The transformers work out their
last layer at every click, though only the last is read. ONNX has no selective scan: Mamba4Rec's
whole history goes by chunks, faster than click by click and larger.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from benchmarks.device_cost.plan import NOTHING, TABLE, Arrays, Call, Plan
from cloud_service.recommender.export.baselines import export_ranker, export_scorer, export_step
from cloud_service.recommender.export.cost import Flops, Parameters, count_flops, count_parameters
from cloud_service.recommender.export.device_graphs import export_device_graphs
from cloud_service.recommender.export.graphs import export_module
from cloud_service.recommender.models.baselines.bert4rec import BERT4Rec
from cloud_service.recommender.models.baselines.din import DIN
from cloud_service.recommender.models.baselines.gru4rec import GRU4Rec
from cloud_service.recommender.models.baselines.mamba4rec import Mamba4Rec
from cloud_service.recommender.models.baselines.sasrec import SASRec
from cloud_service.recommender.models.recommender import Recommender, Stepwise
from cloud_service.recommender.models.scn import SCN
from cloud_service.runtime import open_session
from shared.model import GCNForm, ModelSettings
from shared.projections import SEGMENT_PROJECTIONS

ITEMS, DIM, HEADS, CANDIDATES = 30_000, 64, 4, 100
"""As many items as give the SCN the paper's 1.95 million parameters."""
CARRIED = " (carried)"
NEW_SEGMENT = ", new segment"
SEGMENTED = ", segments of "
_SEGMENT = ModelSettings().segment

_BASELINES: dict[str, Callable[[int], Recommender]] = {
    "gru4rec": lambda length: GRU4Rec(ITEMS, layers=1, **_shape(length)),
    "sasrec": lambda length: SASRec(ITEMS, heads=HEADS, layers=2, **_shape(length)),
    "bert4rec": lambda length: BERT4Rec(ITEMS, heads=HEADS, layers=2, **_shape(length)),
    "mamba4rec": lambda length: Mamba4Rec(ITEMS, layers=1, **_shape(length)),
    "din": lambda length: DIN(ITEMS, layers=2, **_shape(length)),
}

NAMES = (
    f"scn{CARRIED}",
    f"scn{CARRIED}{NEW_SEGMENT}",
    "projected scn (window)",
    "scn",
    "din",
    f"gru4rec{CARRIED}",
    "gru4rec",
    "sasrec",
    "bert4rec",
    f"mamba4rec{CARRIED}",
    "mamba4rec",
)
"""What is measured where nothing else is said."""
SEGMENTS = tuple(f"scn{SEGMENTED}{size}" for size in (1, 2, 5, 10, 20))
"""The SCN with other segments, over all clicks of the history (CoCorrRec, Figure 6)."""


def plan(name: str, clicks: int) -> Plan:
    """What a device runs for the last of so many clicks."""
    network = network_of(name)
    if network == "projected scn":
        return _sliding_scn_plan()
    if network == "scn":
        if CARRIED in name:
            return _carried_scn_plan(new=name.endswith(NEW_SEGMENT))
        return _scn_plan(clicks, _segment_of(name))
    return _carried_plan(network) if network != name else _ranker_plan(network, clicks)


def network_of(name: str) -> str:
    """The network of a name, without how it is run."""
    return name.partition(",")[0].partition(" (")[0]


def _segment_of(name: str) -> int:
    return int(name.partition(SEGMENTED)[2] or _SEGMENT)


def flops(plan: Plan) -> Flops:
    """What the runs of a plan cost together."""

    @cache
    def cost(graph: str, clicks: int) -> Flops:
        sizes = {"items": ITEMS + 1, "candidates": CANDIDATES, "clicks": clicks}
        return count_flops(plan.graphs[graph], **sizes)

    def clicks(call: Call) -> int:
        name = "hidden" if call.graph == "views" else "clicks"
        read = plan.arrays.get(call.inputs.get(name, name))
        return 0 if read is None else len(read)

    return sum((cost(call.graph, clicks(call)) for call in plan.calls), Flops())


def parameters(name: str, clicks: int) -> Parameters:
    """What the model of a plan has learned."""
    network = network_of(name)
    if network in _BASELINES:
        return count_parameters(_BASELINES[network](clicks))
    return count_parameters(scn(_segment_of(name)))


def write_common(folder: Path) -> None:
    """What all plans in a folder share: a table of the right size, and a graph of one node."""
    table = np.random.default_rng(0).normal(0, 0.02, (ITEMS + 1, DIM)).astype(np.float32)
    table[0] = 0.0
    np.save(folder / TABLE, table)
    nothing = export_module(torch.nn.ReLU(), {"input": torch.zeros(1)}, ["output"], {})
    (folder / NOTHING).write_bytes(nothing)


def _ranker_plan(network: str, clicks: int) -> Plan:
    graph = export_ranker(_BASELINES[network](clicks), clicks)
    arrays = _candidates() | {"clicks": _history(clicks)}
    return Plan((Call("ranker"),), {"ranker": graph}, arrays, "clicks")


@cache
def _carried_plan(network: str) -> Plan:
    model = _BASELINES[network](1)
    assert isinstance(model, Stepwise)
    state = (array[0].numpy() for array in model.initial_state(1))
    carried = dict(zip(model.carried, state, strict=True))
    after = {name: f"next_{name}" for name in carried} | {"user_state": "user_state"}
    return Plan(
        (Call("step", after=after), Call("scorer")),
        {"step": export_step(model), "scorer": export_scorer(model)},
        _candidates() | carried | {"click": np.array(1), "user_state": np.zeros(DIM, np.float32)},
        "click",
    )


def _carried_scn_plan(*, new: bool) -> Plan:
    """A click in the midst of a segment; or, `new`, the full segment is carried and the click is
    the first of the next one."""
    model = scn(_SEGMENT)
    arrays = _candidates() | _scn_inputs(model) | {"clicks": _history(1)}
    carry = [Call("carry", after={"carried": "next_state"})] if new else []
    position = 0 if new else _SEGMENT // 2
    calls = (*carry, Call("hidden", after={"row": "hidden"}), _one_view(position))
    return _scn_ranks(model, calls, arrays, {"state": "carried"} if new else {}, position)


def _sliding_scn_plan() -> Plan:
    """A click on a full window, whose first click goes."""
    model = scn(_SEGMENT, "projected")
    arrays = _candidates() | _scn_inputs(model) | {"clicks": _history(1)}
    hidden = Call("hidden", after={"row": "hidden"}, slides=("hidden", *SEGMENT_PROJECTIONS))
    position = _SEGMENT - 1
    return _scn_ranks(model, (hidden, _one_view(position)), arrays, {}, position)


def _one_view(position: int) -> Call:
    return Call("views", {"hidden": "row"}, row=position, query=0)


def _scn_plan(clicks: int, segment: int) -> Plan:
    """Every full segment before the last is read and carried, the last is read and ranks."""
    earlier = (clicks - 1) // segment
    calls: list[Call] = []
    state: dict[str, str] = {}
    model = scn(segment)
    arrays = _candidates() | _scn_inputs(model)
    for segment_index in range(earlier):
        arrays[f"clicks_{segment_index}"] = _history(segment)
        calls += [
            Call("hidden", {"clicks": f"clicks_{segment_index}"}, {"hidden": "hidden"}),
            Call("views", query=segment - 1),
            Call("carry", state, {"carried": "next_state"}),
        ]
        state = {"state": "carried"}
    in_last_segment = clicks - earlier * segment
    arrays["clicks"] = np.resize(_history(in_last_segment), segment)
    arrays["clicks"][in_last_segment:] = 0
    calls += [Call("hidden", after={"hidden": "hidden"}), Call("views", query=in_last_segment - 1)]
    return _scn_ranks(model, calls, arrays, state, in_last_segment - 1)


def _scn_ranks(
    model: SCN, calls: Sequence[Call], arrays: Arrays, state: dict[str, str], position: int
) -> Plan:
    """These calls, then a ranking after the click at `position`."""
    graphs = _scn_graphs(model)
    prepared = _zeros(open_session(graphs["prepare"]).get_outputs())
    ranking = Call("prepare", state, {name: name for name in prepared}), Call("rank")
    inputs = open_session(graphs["rank"]).get_inputs()
    corrections = [
        argument for argument in inputs if argument.name not in {*arrays, *prepared, "item_table"}
    ]
    arrays = arrays | prepared | _zeros(corrections) | {"position": np.array([position])}
    return Plan((*calls, *ranking), graphs, arrays, "clicks")


@cache
def scn(segment: int, gcn: GCNForm = "causal") -> SCN:
    """The SCN whose graphs the plans hold."""
    return SCN(ITEMS, ModelSettings(dim=DIM, heads=HEADS, length=segment, segment=segment, gcn=gcn))


@cache
def _scn_graphs(model: SCN) -> dict[str, bytes]:
    return export_device_graphs(model)


def _zeros(tensors: Sequence[ort.NodeArg]) -> Arrays:
    """What `prepare` leaves for `rank`, or no correction."""
    return {tensor.name: np.zeros(tensor.shape, np.float32) for tensor in tensors}


def _scn_inputs(model: SCN) -> Arrays:
    """H, and the state a user begins with, twice: the second is overwritten."""
    s = model.settings
    begun = torch.cat([array[0] for array in model.block.initial_state(1)], 1).detach().numpy()
    h, k, f = s.heads, s.segment, s.head_dim
    views = {name: np.zeros((h, k, f + 1), np.float32) for name in SEGMENT_PROJECTIONS}
    return {
        "hidden": np.zeros((s.segment, s.dim), np.float32),
        "row": np.zeros((1, s.dim), np.float32),
        **views,
        "query": np.zeros((2, h, 1, f + 1), np.float32),
        "state": begun,
        "carried": begun.copy(),
    }


def _shape(length: int) -> Any:
    return {"length": length, "dim": DIM, "dropout": 0.0}


def _history(clicks: int) -> NDArray[np.int64]:
    return np.random.default_rng(clicks).integers(1, ITEMS + 1, clicks)


def _candidates() -> Arrays:
    return {"candidates": np.arange(1, CANDIDATES + 1)}
