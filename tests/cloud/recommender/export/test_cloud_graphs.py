"""The cloud's graphs of the paper's GCN, written out for ONNX Runtime, against the module."""

import numpy as np
import onnx
import pytest
import torch

from cloud_service.recommender.export.cloud_graphs import export_cloud_graphs
from cloud_service.recommender.models.gcn import GCN
from cloud_service.runtime import open_session
from shared.model import ModelSettings

pytestmark = pytest.mark.slow

SMALL = {"length": 8, "dim": 24, "heads": 3, "segment": 4}


@pytest.fixture(
    scope="module",
    params=[{}, {"gcn": "released"}, SMALL, {"gcn": "released", **SMALL}],
    ids=["causal", "released", "causal-small", "released-small"],
)
def gcn(request):
    torch.manual_seed(5)
    return GCN(ModelSettings(**{"gcn": "causal"} | request.param)).eval()


@pytest.fixture(scope="module")
def graphs(gcn):
    return export_cloud_graphs(gcn)


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 9])
def test_they_answer_as_the_module_does_after_any_number_of_clicks(gcn, graphs, batch):
    full, row = (open_session(graphs[name]) for name in ("gcn", "gcn_row"))
    s = gcn.settings
    random = np.random.default_rng(batch)
    for clicks in range(1, s.segment + 1):
        hidden = random.normal(size=(batch, s.segment, s.dim)).astype(np.float32)
        hidden[0, clicks:] = 0
        for number in range(1, batch):  # every H of a batch has its own last click
            hidden[number, 1 + number % s.segment :] = 0
        given = torch.from_numpy(hidden)
        for session, wanted in ((full, gcn(given)), (row, gcn.last_row(given))):
            found = session.run(None, {"hidden": hidden})
            for name, one, other in zip(("attn", "bias"), found, wanted, strict=True):
                np.testing.assert_allclose(one, other.numpy(), atol=1e-6, err_msg=name)
                assert np.abs(one).max() > 1e-3


def test_a_row_of_zeros_between_clicks_is_a_click(gcn, graphs):
    s = gcn.settings
    hidden = np.random.default_rng(0).normal(size=(1, s.segment, s.dim)).astype(np.float32)
    hidden[0, 1] = 0
    hidden[0, 3:] = 0
    found = open_session(graphs["gcn_row"]).run(None, {"hidden": hidden})
    with torch.no_grad():
        for one, other in zip(found, gcn.last_row(torch.from_numpy(hidden)), strict=True):
            np.testing.assert_allclose(one, other.numpy(), atol=1e-6)


def test_they_compute_nothing_about_shapes(graphs):
    """What the exporter adds to every GRU takes as long as the GRU."""
    for graph in graphs.values():
        operators = [node.op_type for node in onnx.load_from_string(graph).graph.node]
        assert not {"Shape", "Slice", "Expand", "Concat"} & set(operators)
        assert operators.count("GRU") == 2
        assert len(operators) <= 31
