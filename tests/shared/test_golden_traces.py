"""Golden traces: what bundles in use compute, click by click, is what a device computes today.

Each is replayed twice: by this project's device, and by `BareDevice`, which knows shared/GRAPHS.md
and nothing of this project's code.
"""

import base64
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from device_client.bundle import Bundle
from device_client.scn import DeviceSCN, Graphs
from shared.wire import FORMS, Wire
from tests.instruments.bare_device import BareDevice

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.parent for path in GOLDEN.glob("*/trace.json"))
LEARNING = [folder for folder in CASES if folder.name.startswith("learning")]
TOLERANCE = 1e-5


class OurDevice:
    """The same of this project's device."""

    def __init__(self, folder):
        self.scn = DeviceSCN(Graphs(Bundle.open(folder)))
        self.click, self.settings = self.scn.click, self.scn.graphs.bundle.manifest.model

    @property
    def count(self):
        return self.scn.count

    @property
    def hidden(self):
        return self.scn.hidden

    def scores(self, candidates, correction):
        row = None
        if correction is not None:
            form = FORMS[correction["form"]]
            wire, body = Wire(self.settings, half=form.half), base64.b64decode(correction["body"])
            row = wire.decode_row(body) if form.row else wire.decode_row_at(body, self.count - 1)
        return self.scn.scores(np.array(candidates), row)


@pytest.mark.parametrize("device_class", [OurDevice, BareDevice])
@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_a_device_computes_what_the_golden_trace_says(folder, device_class):
    device = device_class(folder)
    for step in json.loads((folder / "trace.json").read_text())["steps"]:
        device.click(step["click"])
        assert device.count == step["count"]
        body = base64.b64decode(step["hidden"])
        hidden = np.array(struct.unpack(f"<{len(body) // 4}f", body)).reshape(device.hidden.shape)
        np.testing.assert_allclose(device.hidden, hidden, rtol=0, atol=TOLERANCE)
        for name, correction in (("scores", None), ("corrected_scores", step["correction"])):
            scores = device.scores(step["candidates"], correction)
            np.testing.assert_allclose(scores, step[name], rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("folder", LEARNING, ids=lambda folder: folder.name)
def test_a_device_written_from_the_page_learns_what_the_golden_trace_says(folder):
    device, trace = BareDevice(folder), json.loads((folder / "trace.json").read_text())
    for step in trace["steps"]:
        device.click(step["click"])
    learning, last = trace["learning"], trace["steps"][-1]
    start = device.start(learning["end"])
    assert (start is None) == (learning["start"] is None)
    if start is not None:
        np.testing.assert_allclose(start, learning["start"], rtol=0, atol=TOLERANCE)
    patch, losses = device.learn(learning["end"], learning["negatives"])
    np.testing.assert_allclose(losses, learning["losses"], rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_allclose(patch, learning["patch"], rtol=0, atol=TOLERANCE)
    offsets = device.memory(last["candidates"])
    for name, correction in (("scores", None), ("corrected_scores", last["correction"])):
        scores = device.scores(last["candidates"], correction, patch) + offsets
        np.testing.assert_allclose(scores, learning[name], rtol=TOLERANCE, atol=TOLERANCE)
        assert np.abs(np.subtract(last[name] + offsets, learning[name])).max() > 100 * TOLERANCE


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_on_one_machine_both_devices_agree_exactly(folder):
    ours, bare = OurDevice(folder), BareDevice(folder)
    for step in json.loads((folder / "trace.json").read_text())["steps"]:
        scores = []
        for device in (ours, bare):
            device.click(step["click"])
            scores.append(device.scores(step["candidates"], step["correction"]))
        np.testing.assert_array_equal(*scores)


def test_the_traces_reach_every_kind_of_model_and_every_form():
    assert len(CASES) == 12
    settings = [json.loads((folder / "manifest.json").read_text())["model"] for folder in CASES]
    for name, kinds in {
        "gcn": {"causal", "released", "transformer", "projected"},
        "fusion": {"moments", "shift"},
        "history": {"window", "carry"},
        "readout": {"norm", "mlp"},
        "scoring": {"tied", "tower"},
    }.items():
        assert {model[name] for model in settings} == kinds
    assert {model.get("inner_step") for model in settings} == {None, 1, 2}
    for folder in CASES:
        steps = json.loads((folder / "trace.json").read_text())["steps"]
        assert {step["correction"]["form"] for step in steps} == set(FORMS)
        for step in steps:  # each correction changes its scores by far more than the tolerance
            change = np.subtract(step["scores"], step["corrected_scores"])
            assert np.abs(change).max() > 100 * TOLERANCE, folder.name
