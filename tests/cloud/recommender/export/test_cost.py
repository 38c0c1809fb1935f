"""FLOPs of a graph against sums worked out by hand."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cloud_service.recommender.export.baselines import export_ranker, export_step
from cloud_service.recommender.export.cost import Flops, count_flops, count_parameters
from cloud_service.recommender.models.baselines.gru4rec import GRU4Rec
from cloud_service.recommender.models.baselines.sasrec import SASRec
from shared.errors import DataError


def graph_of(nodes, inputs, output, weights=()):
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()]
    made = helper.make_graph(
        nodes,
        "by_hand",
        values,
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(s, np.float32), n) for n, s in dict(weights).items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)])
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("node", "inputs", "weights", "wanted"),
    [
        (("MatMul", "ab", {}), {"a": [2, 3, 4]}, {"b": (4, 5)}, Flops(2 * 30 * 4)),
        (("MatMul", "ab", {}), {"a": [7, 4]}, {"b": (4,)}, Flops(2 * 7 * 4)),
        (("Gemm", "abc", {}), {"a": [3, 4]}, {"b": (4, 5), "c": (5,)}, Flops(2 * 15 * 4, 15)),
        (("Gemm", "ab", {"transA": 1}), {"a": [4, 3]}, {"b": (4, 5)}, Flops(2 * 15 * 4)),
        (
            ("Conv", "abc", {"group": 6}),
            {"a": [1, 6, 10]},
            {"b": (6, 1, 4), "c": (6,)},
            Flops(2 * 6 * 7 * 4, 6 * 7),
        ),
        (
            ("GRU", "abc", {"hidden_size": 8}),
            {"a": [10, 1, 4]},
            {"b": (1, 24, 4), "c": (1, 24, 8)},
            Flops(10 * 2 * 24 * 12, 10 * 8 * 17),
        ),
        (("Softmax", "a", {}), {"a": [2, 5]}, {}, Flops(0, 30)),
        (("LayerNormalization", "ab", {}), {"a": [2, 5]}, {"b": (5,)}, Flops(0, 70)),
        (("ReduceMean", "a", {"keepdims": 0}), {"a": [2, 5]}, {}, Flops(0, 10)),
        (("Add", "ab", {}), {"a": [2, 1], "b": [1, 5]}, {}, Flops(0, 10)),
        (("Transpose", "a", {}), {"a": [2, 5]}, {}, Flops()),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_node_costs_what_it_does_by_hand(node, inputs, weights, wanted):
    kind, names, attributes = node
    made = helper.make_node(kind, list(names), ["out"], **attributes)
    assert count_flops(graph_of([made], inputs, "out", weights)) == wanted


def test_an_open_axis_has_to_be_given_and_a_strange_node_is_an_error():
    square = helper.make_node("MatMul", ["a", "a"], ["out"])
    with pytest.raises(DataError, match="axis n of a"):
        count_flops(graph_of([square], {"a": ["n", "n"]}, "out"))
    assert count_flops(graph_of([square], {"a": ["n", "n"]}, "out"), n=3) == Flops(54)
    strange = helper.make_node("Sinh", ["a"], ["out"])
    with pytest.raises(DataError, match="Sinh"):
        count_flops(graph_of([strange], {"a": [2]}, "out"))


@pytest.mark.slow
def test_a_transformer_costs_its_formula():
    """Of n clicks: 12 d² multiply-adds a click and layer, 2 n d a click for attention."""
    n, d, layers, candidates = 12, 16, 2, 100
    torch.manual_seed(0)
    model = SASRec(50, length=n, dim=d, heads=2, layers=layers, dropout=0.0)
    found = count_flops(export_ranker(model, n), items=51, candidates=candidates)
    assert found.matrix == 2 * (layers * n * (12 * d * d + 2 * n * d) + candidates * d)
    assert 0 < found.elementwise < found.matrix
    norms, linear = 2 * d, 12 * d * d + 3 * d + d + 4 * d + d
    parameters = count_parameters(model)
    assert parameters.network == n * d + layers * (2 * norms + linear) + norms
    assert parameters.item_table == 51 * d


@pytest.mark.slow
def test_a_carried_click_costs_as_much_as_one_of_the_whole_history():
    model = GRU4Rec(50, length=20, dim=16, layers=1, dropout=0.0)
    step = count_flops(export_step(model), items=51)
    whole = count_flops(export_ranker(model, 20), items=51, candidates=100)
    assert step.matrix == 2 * 3 * 16 * 32
    assert whole.matrix == 20 * step.matrix + 2 * 100 * 16
