"""The exported training step computes what autograd and torch's Adam compute."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch.nn import functional

from cloud_service.recommender.export.learning_graphs import export_training_step
from cloud_service.recommender.learning.patch import MetapatchBasis
from cloud_service.recommender.learning.step import MetapatchScores, ShiftScores, StateMapScores
from cloud_service.recommender.models.scn import SCN
from shared.learning import JUNCTIONS, PatchSettings, adam_factors
from shared.model import ModelSettings

ITEMS, DECAY, RATE = 200, 0.1, 0.03
MODEL = ModelSettings(dim=16, heads=2, segment=5, length=5)
FORMS = {
    "shift": PatchSettings(size=16, window=8, negatives=40),
    "metapatch-state": PatchSettings(form="metapatch", size=6, window=8, negatives=40),
    "metapatch-all": PatchSettings(
        form="metapatch", size=6, window=8, negatives=40, junctions=JUNCTIONS
    ),
    "metapatch-output": PatchSettings(
        form="metapatch", size=6, window=8, negatives=40, junctions=("output",)
    ),
}


@pytest.fixture(scope="module")
def exported():
    """For each form: an SCN, the scores module, and the training step in ONNX Runtime."""
    torch.manual_seed(0)
    made = {}
    for name, settings in FORMS.items():
        readout = "mlp" if name == "metapatch-output" else "norm"
        scn = SCN(ITEMS, MODEL.model_copy(update={"readout": readout}), init_std=0.3).eval()
        basis = None
        if settings.form == "metapatch":
            basis = MetapatchBasis(16, settings.size, settings.junctions)
        graph = export_training_step(scn, settings, basis)
        if basis is None:
            scores = ShiftScores()
        elif settings.junctions == ("state",):
            scores = StateMapScores(basis)
        else:
            scores = MetapatchScores(scn, basis)
        made[name] = scn, scores, ort.InferenceSession(graph), graph
    return made


def own_clicks(case: str):
    """Windows (8, 5) and positives (8,) of a case, and the weights of the samples."""
    random = np.random.default_rng(3)
    windows, positives = random.integers(1, ITEMS, (8, 5)), random.integers(1, ITEMS, 8)
    weights = np.ones(8, np.float32)
    lengths = np.full(8, 5)
    if case == "one sample":
        weights[1:] = 0
    elif case == "repeated items":
        positives[:] = positives[0]
        windows[:] = windows[0, 0]
    elif case == "padding":
        lengths = np.array([1, 2, 3, 4, 5, 1, 2, 3])
        weights[5:] = 0
        windows[np.arange(5) >= lengths[:, None]] = 0
        positives[5:] = 0
    return torch.from_numpy(windows), lengths, torch.from_numpy(positives), weights


def batch(scn, scores, case):
    """The inputs of a step for one case, by the graph's names."""
    windows, lengths, positives, weights = own_clicks(case)
    negatives = torch.from_numpy(np.random.default_rng(4).integers(1, ITEMS, 40))
    if case == "repeated items":
        negatives[:] = negatives[0]
    table = scn.item_embedding.detach()
    with torch.no_grad():
        hidden = scn.hidden(windows)
        states = scn.last_states(windows, torch.zeros(8, dtype=torch.int64))
    inputs = {
        "weights": torch.from_numpy(weights),
        "positives": table[positives],
        "negatives": table[negatives],
    }
    if isinstance(scores, ShiftScores):
        inputs["positive_scores"] = (states * inputs["positives"]).sum(1)
        inputs["negative_scores"] = states @ inputs["negatives"].T
        return inputs
    if isinstance(scores, StateMapScores):
        inputs["states"] = states
    else:
        inputs["hidden"] = hidden
        inputs["is_last"] = functional.one_hot(torch.from_numpy(lengths - 1), 5).float()
    return inputs | {
        "positive_offsets": torch.zeros(8),
        "negative_offsets": torch.full((8, 40), 0.5),
    }


@pytest.mark.parametrize("case", ["full batch", "one sample", "repeated items", "padding"])
@pytest.mark.parametrize("form", FORMS)
def test_two_hundred_steps_are_those_of_autograd(exported, form, case):
    scn, scores, session, _ = exported[form]
    settings = FORMS[form]
    inputs = batch(scn, scores, case)
    patch = torch.zeros(settings.size, requires_grad=True)
    start = torch.full((settings.size,), 0.05)
    optimiser = torch.optim.Adam([patch], lr=RATE)
    device = {name: np.zeros(settings.size, np.float32) for name in ("patch", "first", "second")}
    feed = {name: tensor.numpy() for name, tensor in inputs.items()}
    feed |= {"start": start.numpy(), "decay": np.asarray(DECAY, np.float32)}
    others = [inputs[name] for name in ("positives", "negatives", *scores.inputs)]
    for step in range(1, 201):
        optimiser.zero_grad()
        positive, negative = scores(patch, *others)
        table = torch.cat((positive.unsqueeze(1), negative), 1)
        each = functional.cross_entropy(table, torch.zeros(8, dtype=torch.int64), reduction="none")
        weights = inputs["weights"]
        loss = (each * weights).sum() / weights.sum()
        loss = loss + 0.5 * DECAY * (patch - start).square().sum()
        loss.backward()
        optimiser.step()
        rate, epsilon = (np.asarray(x, np.float32) for x in adam_factors(step, RATE))
        outputs = session.run(None, feed | device | {"rate": rate, "epsilon": epsilon})
        device = dict(zip(("patch", "first", "second"), outputs[:3], strict=True))
        assert abs(outputs[3] - loss.item()) < 1e-5 * max(1, abs(loss.item()))
    moments = optimiser.state[patch]
    np.testing.assert_allclose(device["patch"], patch.detach(), atol=1e-5)
    np.testing.assert_allclose(device["first"], moments["exp_avg"], atol=1e-5)
    np.testing.assert_allclose(device["second"], moments["exp_avg_sq"], atol=1e-5)
    assert np.abs(device["patch"]).max() > 0.01


@pytest.mark.parametrize("form", FORMS)
def test_a_training_graph_has_no_control_flow_and_no_chance(exported, form):
    model = onnx.load_from_string(exported[form][3])
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"If", "Loop", "Scan", "RandomNormal", "RandomUniform", "Dropout"}
    assert not model.functions


def test_a_zero_metapatch_changes_no_bit(exported):
    scn, scores, _, _ = exported["metapatch-all"]
    windows, _, _, _ = own_clicks("padding")
    with torch.no_grad():
        states = scn.last_states(windows, torch.zeros(8, dtype=torch.int64))
        inputs = batch(scn, scores, "padding")
        maps = scores.basis.maps(torch.zeros(8, 6))
        patched = scores.patched(inputs["hidden"], inputs["is_last"], maps)
    assert torch.equal(patched, states)


def test_a_form_needs_its_basis():
    scn = SCN(ITEMS, MODEL)
    with pytest.raises(ValueError, match="needs a basis of its size"):
        export_training_step(scn, FORMS["metapatch-all"])
    with pytest.raises(ValueError, match="shift acts on the user state"):
        PatchSettings(junctions=("hidden",))
