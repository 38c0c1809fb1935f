"""Counts the floating-point operations and parameters of a graph.

A multiply-add counts 2 (CoCorrRec's formula for a transformer counts it once). Every node of the
exported graph is counted, in two sums: `matrix`, the products of MatMul, Gemm, Conv and GRU, and
`elementwise`, all other arithmetic, where a function of one number (exp, tanh, GELU) counts 1.
Moving, looking up and comparing numbers, and all integer operations, count 0.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import onnx
from onnx import NodeProto, TensorProto, shape_inference

from cloud_service.recommender.export.baselines import table_name
from cloud_service.recommender.models.recommender import Recommender
from shared.errors import DataError

Shape = tuple[int, ...]

_EACH_OUTPUT = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Neg", "Pow", "Sqrt", "Reciprocal", "Clip"), 1),
    **dict.fromkeys(("Exp", "Log", "Tanh", "Sigmoid", "Softplus", "Gelu", "Erf", "CumSum"), 1),
    **dict.fromkeys(("Relu", "LeakyRelu", "PRelu"), 1),
    "Softmax": 3,  # exp, sum, division
    "LayerNormalization": 7,  # mean, difference, square, mean, division, weight, bias
}
"""Operations per element of the output."""

_EACH_INPUT = {"ReduceSum": 1, "ReduceMean": 1, "ReduceMax": 1, "ReduceL2": 2}
"""Operations per element of the input."""

_FREE = {
    *("Cast", "Concat", "Constant", "ConstantOfShape", "Expand", "Gather", "GatherND", "Identity"),
    *("Pad", "Reshape", "ScatterElements", "Shape", "Slice", "Split", "Squeeze", "Transpose"),
    *(
        "Trilu",
        "Unsqueeze",
        "Where",
        "And",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "IsNaN",
        "Less",
        "Not",
    ),
}

_GRU_UNIT = 17
"""Elementwise operations per unit and step of a GRU: 6 biases, 3 sums, 3 functions, 5 to mix."""


@dataclass(frozen=True)
class Flops:
    """Floating-point operations."""

    matrix: int = 0
    elementwise: int = 0

    @property
    def total(self) -> int:
        """Matrix and elementwise operations together."""
        return self.matrix + self.elementwise

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.matrix + other.matrix, self.elementwise + other.elementwise)


@dataclass(frozen=True)
class Parameters:
    """Numbers of trained parameters: the item table, and all others."""

    network: int
    item_table: int


def count_parameters(model: Recommender) -> Parameters:
    """Counts the parameters of a model with an item table."""
    table = model.get_parameter(table_name(model)).numel()
    return Parameters(sum(parameter.numel() for parameter in model.parameters()) - table, table)


def count_flops(graph: bytes, **sizes: int) -> Flops:
    """Operations of one run of a graph; `sizes` are the lengths of its dynamic axes, by name.

    Raises DataError for an unknown kind of node, or a shape that cannot be inferred.
    """
    model = _sized(onnx.load_from_string(graph), sizes)
    shapes, element_types = _shapes(model)
    total = Flops()
    for node in model.graph.node:
        if node.op_type in _FREE or element_types.get(node.output[0]) not in _FLOATS:
            continue
        count = _PRODUCTS.get(node.op_type, _elementwise)
        total += count(node, shapes)
    return total


_FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}


def _sized(model: onnx.ModelProto, sizes: Mapping[str, int]) -> onnx.ModelProto:
    """The model with its dynamic axes fixed and the shapes of all values inferred."""
    for value in model.graph.input:
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                if axis.dim_param not in sizes:
                    raise DataError(f"how long is the axis {axis.dim_param} of {value.name}?")
                axis.dim_value = sizes[axis.dim_param]
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def _shapes(model: onnx.ModelProto) -> tuple[dict[str, Shape], dict[str, int]]:
    """The shape and the element type of every value, by name."""
    graph = model.graph
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    element_types = {weight.name: weight.data_type for weight in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        element_types[value.name] = tensor.elem_type
        axes = tensor.shape.dim
        if tensor.HasField("shape") and all(axis.HasField("dim_value") for axis in axes):
            shapes[value.name] = tuple(axis.dim_value for axis in axes)
    for node in graph.node:
        if node.op_type not in _FREE and node.output[0] not in shapes:
            raise DataError(f"the shape of {node.output[0]} ({node.op_type}) cannot be told")
    return shapes, element_types


def _elementwise(node: NodeProto, shapes: Mapping[str, Shape]) -> Flops:
    if node.op_type in _EACH_INPUT:
        return Flops(elementwise=_EACH_INPUT[node.op_type] * prod(shapes[node.input[0]]))
    if node.op_type not in _EACH_OUTPUT:
        raise DataError(f"what a {node.op_type} costs is not known")
    return Flops(elementwise=_EACH_OUTPUT[node.op_type] * prod(shapes[node.output[0]]))


def _matmul(node: NodeProto, shapes: Mapping[str, Shape]) -> Flops:
    return Flops(2 * prod(shapes[node.output[0]]) * shapes[node.input[0]][-1])


def _gemm(node: NodeProto, shapes: Mapping[str, Shape]) -> Flops:
    first_shape, out = shapes[node.input[0]], prod(shapes[node.output[0]])
    inner = first_shape[0] if _attribute(node, "transA") else first_shape[1]
    return Flops(2 * out * inner, out if len(node.input) > 2 else 0)


def _conv(node: NodeProto, shapes: Mapping[str, Shape]) -> Flops:
    out = prod(shapes[node.output[0]])
    # A weight is (channels, channels of its group, kernel ...).
    return Flops(2 * out * prod(shapes[node.input[1]][1:]), out if len(node.input) > 2 else 0)


def _gru(node: NodeProto, shapes: Mapping[str, Shape]) -> Flops:
    steps, batch, width = shapes[node.input[0]]
    directions, _, units = shapes[node.input[2]]
    runs = steps * batch * directions
    return Flops(runs * 2 * 3 * units * (width + units), runs * units * _GRU_UNIT)


def _attribute(node: NodeProto, name: str) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)


_PRODUCTS: dict[str, Callable[[NodeProto, Mapping[str, Shape]], Flops]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "GRU": _gru,
}
