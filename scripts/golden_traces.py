"""Writes the golden traces: small bundles, and what a device computes from them, step by step.

    python scripts/golden_traces.py [FOLDER] [CASE ...]

Each case is a folder with a device's bundle and `trace.json`; shared/GRAPHS.md describes the file.
The traces in the repository were written once. They stand for bundles that are in use: write them
again only for a new bundle format, never to make a test pass.
"""

import base64
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cloud_service.recommender.export.device_graphs import export_device_graphs
from cloud_service.recommender.export.graphs import OPSET
from cloud_service.recommender.export.learning_graphs import learning_files
from cloud_service.recommender.learning.amortised import AmortisedPatch
from cloud_service.recommender.learning.patch import MetapatchBasis
from cloud_service.recommender.models.baselines.sasrec import SASRec
from cloud_service.recommender.models.cocorrrec import CoCorrRec, ProjectedCoCorrRec, SCNAndGCN
from cloud_service.recommender.models.gcn import TransformerGCN
from device_client.bundle import Bundle
from device_client.learning.memory import DeviceMemory
from device_client.learning.own_clicks import OwnClicks
from device_client.learning.patch import AppliedPatch, Basis
from device_client.learning.training_graph import AmortisedGraph, TrainingGraph, decayed_sums
from device_client.scn import DeviceSCN, Graphs
from shared import bundle as names
from shared.learning import HALF_LIVES, LearningSettings, MemorySettings, PatchSettings
from shared.manifest import (
    FORMAT,
    LEARNING_FORMAT,
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    TrainingData,
)
from shared.model import ModelSettings
from shared.wire import FORMS, Form, FullCorrection, RowCorrection, Wire

FOLDER = Path(__file__).parent.parent / "tests" / "shared" / "golden"
ITEMS = 30
CLICKS = 14
SMALL = {"dim": 16, "heads": 2, "segment": 4}
CASES = {
    "causal-sliding": ModelSettings(gcn="causal", length=4, **SMALL),
    "causal-window-of-two-segments": ModelSettings(gcn="causal", length=8, readout="mlp", **SMALL),
    "causal-carrying": ModelSettings(gcn="causal", length=4, history="carry", **SMALL),
    "released-carrying-tower": ModelSettings(
        gcn="released", length=8, history="carry", scoring="tower", **SMALL
    ),
    "shift-sliding-readout": ModelSettings(
        gcn="transformer", gcn_dim=16, fusion="shift", length=3, readout="mlp", **SMALL
    ),
    "projected": ModelSettings(),
    "projected-readout": ModelSettings(length=4, readout="mlp", **SMALL),
    "projected-inner-step-of-1": ModelSettings(inner_step=1),
    "projected-inner-step-of-2": ModelSettings(length=4, readout="mlp", inner_step=2, **SMALL),
    "causal-inner-step-of-2": ModelSettings(
        gcn="causal", length=8, history="carry", inner_step=2, **SMALL
    ),
    "learning-shift": ModelSettings(length=4, **SMALL),
    "learning-metapatch": ModelSettings(length=4, readout="mlp", **SMALL),
}
_ROUND = {"window": 8, "steps": 6, "negatives": 12}
_MEMORY = MemorySettings(base=0.4, count=0.3, age=0.2)
LEARNING = {
    "learning-shift": LearningSettings(
        patch=PatchSettings(size=16, start="amortised", **_ROUND), memory=_MEMORY,
        corrected_share=0.5,
    ),
    "learning-metapatch": LearningSettings(
        patch=PatchSettings(form="metapatch", size=5, **_ROUND), memory=_MEMORY,
        corrected_share=0.5,
    ),
}  # fmt: skip


def main() -> int:
    """Writes every case into the folder given, or into that of the tests."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for seed, (case, settings) in enumerate(CASES.items()):
        if sys.argv[2:] and case not in sys.argv[2:]:
            continue
        shutil.rmtree(folder / case, ignore_errors=True)
        (folder / case).mkdir(parents=True)
        model = _model(settings, seed)
        _write_bundle(model, folder / case, LEARNING.get(case))
        done = list(_steps(model, folder / case, seed))
        steps = ",\n".join(json.dumps(step) for step in done)
        learning = ""
        if case in LEARNING:
            learning = f',\n"learning": {json.dumps(_learning(folder / case, done, seed))}'
        (folder / case / "trace.json").write_text(f'{{"steps": [\n{steps}\n]{learning}}}\n')
    return 0


def _model(settings: ModelSettings, seed: int) -> SCNAndGCN:
    """An untrained model, but without the zeros and ones that an initialisation leaves."""
    torch.manual_seed(seed)
    model: SCNAndGCN
    if settings.gcn == "projected":
        teacher = SASRec(ITEMS, length=settings.length, dim=16, heads=2, layers=1, dropout=0.0)
        model = ProjectedCoCorrRec(ITEMS, settings, init_std=0.5, teachers=[teacher])
    else:
        model = CoCorrRec(ITEMS, settings, init_std=0.5)
    with torch.no_grad():
        for name, parameter in model.scn.named_parameters():
            if name != "item_embedding":
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.scn.block.fusion_attn.fill_(0.7)
        if isinstance(model.gcn, TransformerGCN):  # its output layers are initialised with zeros
            model.gcn.attn.weight.normal_()
            model.gcn.bias.weight.normal_()
    return model.eval().requires_grad_(False)


def _write_bundle(model: SCNAndGCN, folder: Path, learning: LearningSettings | None) -> None:
    """Writes the files that a device downloads."""
    block = model.scn.block
    files = {f"{name}.onnx": graph for name, graph in export_device_graphs(model.scn).items()}
    files[names.ITEM_TABLE] = _npy(model.scn.item_embedding.numpy())
    files[names.INNER_STATE] = _npy(torch.cat((block.inner_weight, block.inner_bias), 1).numpy())
    files[names.ITEM_IDS] = _npy(np.array([f"item-{n:02}".encode() for n in range(1, ITEMS + 1)]))
    if learning is not None:
        files |= _learning_files(model, learning)
    entries = []
    for name, content in files.items():
        (folder / name).write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        entries.append(FileEntry(name=name, size=len(content), sha256=sha256, role="device"))
    manifest = Manifest(
        format=FORMAT if learning is None else LEARNING_FORMAT,
        learning=learning,
        model=model.settings,
        items=ITEMS,
        opset=OPSET,
        data=TrainingData(
            name="none", users=1, items=ITEMS, clicks=1, synthetic=True, preprocessing="untrained"
        ),
        metrics={},
        created=datetime(2026, 1, 1, tzinfo=UTC),
        files=tuple(entries),
    )
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=1) + "\n")


def _learning_files(model: SCNAndGCN, learning: LearningSettings) -> dict[str, bytes]:
    """The files of learning, from networks that were not trained but are not zero."""
    patch, dim = learning.patch, model.settings.dim
    assert patch is not None
    basis, amortised = None, None
    if patch.form == "metapatch":
        basis = MetapatchBasis(dim, patch.size)
    else:
        amortised = AmortisedPatch(dim, width=8)
        torch.nn.init.normal_(amortised.second.weight, std=0.1)
    return learning_files(model.scn, learning, amortised, basis)


def _learning(folder: Path, steps: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """A round of learning on the clicks of a trace but for the last 3, and rankings with it."""
    bundle = Bundle.open(folder)
    graphs, learning = Graphs(bundle), bundle.manifest.learning
    assert learning is not None
    patch = learning.patch
    assert patch is not None
    random, clicks = np.random.default_rng(seed), OwnClicks(graphs, CLICKS)
    for step in steps:
        clicks.add(step["click"], None)
    for _ in clicks.replay():
        pass
    end = CLICKS - 3
    own_states, rows = clicks.newest(end - patch.window, end)
    negatives = random.permutation(np.arange(1, ITEMS + 1))[: patch.negatives]
    graph, start = TrainingGraph(bundle, patch), None
    if patch.start == "amortised":
        sums = decayed_sums(np.asarray(bundle.item_table), clicks.rows(end), HALF_LIVES)
        start = AmortisedGraph(bundle).shift(sums, end, clicks.newest(end, end + 1)[0])
    graph.begin(start)
    graph.fill(own_states, rows, negatives, np.isin(negatives, clicks.rows(end)))
    losses = [graph.step(number) for number in range(1, patch.steps + 1)]
    return {
        "end": end,
        "negatives": negatives.tolist(),
        "start": None if start is None else _plain(start),
        "losses": losses,
        "patch": _plain(graph.patch),
        **_learned_scores(graphs, learning, steps, graph.patch),
    }


def _learned_scores(
    graphs: Graphs, learning: LearningSettings, steps: list[dict[str, Any]], patch: Any
) -> dict[str, Any]:
    """Scores of the last step's candidates with patch and memory, and with its correction too."""
    scn, bundle = DeviceSCN(graphs), graphs.bundle
    assert learning.memory is not None
    assert learning.patch is not None
    memory = DeviceMemory(learning.memory, ITEMS + 1)
    for step in steps:
        scn.click(step["click"])
        memory.note(step["click"])
    matrix, shift = None, patch[None]
    if learning.patch.form == "metapatch":
        matrix, shift = Basis(bundle, learning.patch).map(patch)
    scn.patch, scn.offsets = AppliedPatch(shift, matrix, learning.corrected_share), memory.offsets
    candidates, correction = np.array(steps[-1]["candidates"]), steps[-1]["correction"]
    body = base64.b64decode(correction["body"])
    row = _last_row(body, correction["form"], scn.count - 1, bundle.manifest.model)
    return {
        "scores": _plain(scn.scores(candidates, None)),
        "corrected_scores": _plain(scn.scores(candidates, row)),
    }


def _steps(model: SCNAndGCN, folder: Path, seed: int) -> Iterator[dict[str, Any]]:
    """Clicks one after the other; after each, a rerank without a correction and one with it."""
    random = np.random.default_rng(seed)
    scn, wire = DeviceSCN(Graphs(Bundle.open(folder))), Wire(model.settings)
    forms = list(FORMS)
    for index in range(CLICKS):
        click = int(random.integers(1, ITEMS + 1))
        scn.click(click)
        candidates = random.permutation(np.arange(1, ITEMS + 1))[: 5 + index]
        form = forms[index % len(forms)]
        correction = _correction(model, scn, form)
        row = _last_row(correction, form, scn.count - 1, model.settings)
        yield {
            "click": click,
            "count": scn.count,
            "hidden": _base64(wire.encode_hidden(scn.hidden)),
            "candidates": candidates.tolist(),
            "scores": _plain(scn.scores(candidates, None)),
            "correction": {"form": form, "body": _base64(correction)},
            "corrected_scores": _plain(scn.scores(candidates, row)),
        }


def _correction(model: SCNAndGCN, scn: DeviceSCN, form: Form) -> bytes:
    """The body of a correction for the H of the device."""
    wire, hidden = Wire(model.settings, half=FORMS[form].half), torch.from_numpy(scn.hidden[None])
    if FORMS[form].row:
        return wire.encode_row(RowCorrection(*(x[0].numpy() for x in model.gcn.last_row(hidden))))
    return wire.encode_full(FullCorrection(*(x[0].numpy() for x in model.gcn(hidden))))


def _last_row(body: bytes, form: Form, position: int, settings: ModelSettings) -> RowCorrection:
    wire = Wire(settings, half=FORMS[form].half)
    return wire.decode_row(body) if FORMS[form].row else wire.decode_row_at(body, position)


def _npy(array: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _plain(scores: NDArray[np.float32]) -> list[float]:
    """Scores as the shortest decimals that give the same float32 again."""
    return [float(str(score)) for score in scores]


if __name__ == "__main__":
    sys.exit(main())
