"""From a module to an ONNX graph; what is in them: `cloud_graphs.py`, `device_graphs.py`."""

import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import torch
from torch import Tensor, nn

OPSET = 20

# It says at every export that torchvision, which no graph here uses, is not installed.
logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)


def export_module(
    module: nn.Module,
    inputs: Mapping[str, Tensor | Mapping[str, Tensor]],
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[Any, Any]],
    published_names: Mapping[str, str] | None = None,
) -> bytes:
    """Exports one module as a checked ONNX model in a single file.

    `inputs` are examples of the arguments of `forward`, by name; each entry of a mapping becomes an
    input of its own. `published_names` gives the names of inputs in the graph that differ from
    those of the arguments.
    """
    published = published_names or {}
    names = [
        published.get(name, name)
        for key, value in inputs.items()
        for name in (value if isinstance(value, Mapping) else [key])
    ]
    # The exporter compiles a loop for every GRU; what one leaves in the cache breaks the next.
    torch.compiler.reset()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own deprecations are not ours to mend
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
    assert program is not None  # with dynamo=True and no file there always is one
    buffer = io.BytesIO()
    onnx.save(program.model_proto, buffer)
    onnx.checker.check_model(buffer.getvalue())
    return buffer.getvalue()
