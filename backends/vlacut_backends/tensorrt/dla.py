"""What Orin's deep-learning accelerator (DLA) cannot do: the rules of `vlacut check --dla`.

Engines are built for the GPU; these rules say why a part cannot go to the DLA instead. Sources,
NVIDIA's TensorRT documentation: "DLA Supported Layers and Restrictions" (latest) for the layers,
and "Strongly Typed Networks for DLA" of 11.3.0 and 11.4.1 for the releases: 10.7 was the last to
have it before 11.4.1 on AGX Orin; Thor has none.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from vlacut.backend import Finding
from vlacut.ir.graphs import dtype_name
from vlacut_backends.tensorrt.recipe import Recipe, parse_version

_WITH_DLA = frozenset({87})
_LAST_BEFORE, _FIRST_AGAIN = "10.7", "11.4.1"
_TYPES = frozenset({ir.DataType.FLOAT16, ir.DataType.INT8})
_OPERATORS = frozenset(
    {
        *("Relu", "Sigmoid", "Tanh", "Clip", "LeakyRelu", "PRelu"),
        *("Equal", "Greater", "Less", "Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"),
        *("Concat", "Conv", "ConvTranspose", "LRN", "MaxPool", "AveragePool"),
        *("GlobalAveragePool", "GlobalMaxPool", "ReduceMax", "Resize", "BatchNormalization"),
        *("Reshape", "Flatten", "Transpose", "Slice", "Softmax", "Abs", "Cos", "Sin", "Atan"),
        *("QuantizeLinear", "DequantizeLinear", "Constant", "Identity"),
    }
)


def broken_dla_rules(model: ir.Model, recipe: Recipe) -> Iterator[Finding]:
    """Why a part cannot go to a DLA, operator by operator, the first reason each."""
    if recipe.sm not in _WITH_DLA:
        yield Finding("dla", "the part", f"cannot go to a DLA: {recipe.device} has none")
        return
    newest, again = parse_version(recipe.newest), parse_version(_FIRST_AGAIN)
    if newest > parse_version(_LAST_BEFORE) and parse_version(recipe.oldest) < again:
        yield Finding(
            "dla",
            "the part",
            f"cannot go to a DLA with every TensorRT of the recipe ({recipe.oldest} to "
            f"{recipe.newest}): none after {_LAST_BEFORE} and before {_FIRST_AGAIN} has it",
        )
    for node in model.graph.all_nodes():
        said = _reason(node)
        if said:
            yield Finding("dla", f"{node.op_type} {node.name}", said)


def _reason(node: ir.Node) -> str:
    if node.domain != "" or node.op_type not in _OPERATORS:
        return "is not among the layers of a DLA"
    for value in (*node.inputs, *node.outputs):
        dtype = value.dtype if value is not None else None
        if dtype is not None and dtype.is_floating_point() and dtype not in _TYPES:
            return f"is of {dtype_name(dtype)}; a DLA computes in float16 and int8"
    return ""
