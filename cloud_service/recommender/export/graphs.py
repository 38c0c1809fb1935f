"""Exports a torch module as an ONNX graph; see `cloud_graphs.py` and `device_graphs.py`."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import torch
from torch import Tensor, nn

OPSET = 20

# The exporter warns every time that torchvision is not installed; no graph here uses it.
logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)


def export_module(
    module: nn.Module,
    inputs: Mapping[str, Tensor | Mapping[str, Tensor]],
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[Any, Any]],
    published_names: Mapping[str, str] | None = None,
    *,
    optimise: bool = True,
) -> bytes:
    """Exports a module as the bytes of an ONNX model, which is checked.

    `inputs` are examples of the arguments of `forward`, by name; tensors in a mapping become inputs
    under their own names. `published_names` gives the names of inputs in the graph that differ from
    those of the arguments. `optimise` lets the exporter simplify the graph.
    """
    published = published_names or {}
    names = [
        published.get(name, name)
        for key, value in inputs.items()
        for name in (value if isinstance(value, Mapping) else [key])
    ]
    # The exporter compiles a loop for every GRU, and a cached one breaks the next export.
    torch.compiler.reset()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecations within the exporter
        program = torch.onnx.export(
            module.eval(),
            (),
            kwargs=dict(inputs),
            input_names=names,
            output_names=list(outputs),
            dynamic_shapes={name: dynamic.get(name) for name in inputs},
            dynamo=True,
            opset_version=OPSET,
            optimize=optimise,
            verbose=False,
        )
    assert program is not None  # always a program with dynamo=True and no file
    model = program.model_proto
    _drop_notes(model)
    for function in model.functions:
        _drop_notes(function)
    _drop_notes_of_graph(model.graph)
    graph = model.SerializeToString(deterministic=True)
    onnx.checker.check_model(graph)
    return bytes(graph)


def _drop_notes_of_graph(graph: onnx.GraphProto) -> None:
    """Drops the exporter's notes: they hold stack traces with paths of the machine it ran on."""
    _drop_notes(graph)
    for value in (*graph.value_info, *graph.input, *graph.output, *graph.initializer):
        _drop_notes(value)
    for node in graph.node:
        _drop_notes(node)
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                if body.node:
                    _drop_notes_of_graph(body)


def _drop_notes(proto: Any) -> None:
    del proto.metadata_props[:]
    proto.ClearField("doc_string")
