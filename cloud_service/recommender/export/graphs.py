"""Exports a torch module as an ONNX graph; see `cloud_graphs.py` and `device_graphs.py`."""

import io
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
) -> bytes:
    """Exports a module as the bytes of an ONNX model, which is checked.

    `inputs` are example arguments of `forward`, by name; tensors in a mapping become inputs of the
    graph under their own names.
    """
    names = [
        name
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
            optimize=True,
            verbose=False,
        )
    assert program is not None  # always a program with dynamo=True and no file
    buffer = io.BytesIO()
    onnx.save(program.model_proto, buffer)
    onnx.checker.check_model(buffer.getvalue())
    return buffer.getvalue()
