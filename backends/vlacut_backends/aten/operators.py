"""ATen's operators with the semantics of ONNX's specification, up to operator set 24, and what
stands against one of a part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch

from vlacut_backends.aten import computing, shaping
from vlacut_backends.aten.computing import Operator, binary, folded, reduced, unary
from vlacut_backends.aten.weights import DTYPES


class AnyNode(Protocol):
    """An operator, of a file or of the compiler's IR."""

    @property
    def kind(self) -> str:
        """Its type."""

    @property
    def domain(self) -> str:
        """Empty for ONNX's own."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Plain values by name."""


OPERATORS: dict[str, Operator] = {
    "Abs": unary(torch.abs),
    "Acos": unary(torch.acos),
    "Add": binary(torch.add),
    "And": binary(torch.logical_and),
    "ArgMax": computing.extreme_place(torch.argmax),
    "ArgMin": computing.extreme_place(torch.argmin),
    "Asin": unary(torch.asin),
    "Atan": unary(torch.atan),
    "AveragePool": computing.pooled(torch.nn.functional.avg_pool2d),
    "BatchNormalization": computing.batch_normalization,
    "Cast": shaping.cast,
    "Ceil": unary(torch.ceil),
    "Clip": computing.clip,
    "Concat": shaping.concat,
    "ConstantOfShape": shaping.filled,
    "Conv": computing.convolution,
    "Cos": unary(torch.cos),
    "CumSum": computing.cumulated,
    "DepthToSpace": shaping.depth_to_space,
    "DequantizeLinear": computing.dequantized,
    "Div": computing.divide,
    "Elu": lambda given, named: torch.nn.functional.elu(given[0].tensor, named.get("alpha", 1.0)),
    "Equal": binary(torch.eq),
    "Erf": unary(torch.erf),
    "Exp": unary(torch.exp),
    "Expand": shaping.expand,
    "Flatten": shaping.flatten,
    "Floor": unary(torch.floor),
    "Gather": shaping.gather,
    "GatherElements": shaping.gather_elements,
    "GatherND": shaping.gather_nd,
    "Gelu": computing.gelu,
    "Gemm": computing.gemm,
    "GlobalAveragePool": computing.averaged,
    "Greater": binary(torch.gt),
    "GreaterOrEqual": binary(torch.ge),
    "GroupNormalization": computing.group_normalization,
    "HardSigmoid": computing.hard_sigmoid,
    "HardSwish": unary(torch.nn.functional.hardswish),
    "Identity": unary(lambda tensor: tensor.view_as(tensor)),
    "InstanceNormalization": computing.instance_normalization,
    "IsInf": unary(torch.isinf),
    "IsNaN": unary(torch.isnan),
    "LayerNormalization": computing.layer_normalization,
    "LeakyRelu": lambda given, named: torch.nn.functional.leaky_relu(
        given[0].tensor, named.get("alpha", 0.01)
    ),
    "Less": binary(torch.lt),
    "LessOrEqual": binary(torch.le),
    "Log": unary(torch.log),
    "LogSoftmax": lambda given, named: torch.log_softmax(given[0].tensor, named.get("axis", -1)),
    "MatMul": binary(torch.matmul),
    "Max": folded(torch.maximum),
    "MaxPool": computing.pooled(torch.nn.functional.max_pool2d),
    "Min": folded(torch.minimum),
    "Mod": computing.modulo,
    "Mul": binary(torch.mul),
    "Neg": unary(torch.neg),
    "Not": unary(torch.logical_not),
    "OneHot": shaping.one_hot,
    "Or": binary(torch.logical_or),
    "PRelu": lambda given, _: torch.where(
        given[0].tensor < 0, given[0].tensor * given[1].tensor, given[0].tensor
    ),
    "Pad": shaping.pad,
    "Pow": computing.power,
    "QuantizeLinear": computing.quantized,
    "RMSNormalization": computing.rms_normalization,
    "Range": shaping.arange,
    "Reciprocal": unary(torch.reciprocal),
    "ReduceL2": reduced(lambda tensor, axes, keep: torch.linalg.vector_norm(tensor, 2, axes, keep)),
    "ReduceMax": reduced(torch.amax),
    "ReduceMean": reduced(torch.mean),
    "ReduceMin": reduced(torch.amin),
    "ReduceProd": reduced(computing.product_over),
    "ReduceSum": reduced(torch.sum),
    "ReduceSumSquare": reduced(lambda tensor, axes, keep: torch.sum(tensor * tensor, axes, keep)),
    "Relu": unary(torch.relu),
    "Reshape": shaping.reshape,
    "Round": unary(torch.round),
    "ScatterElements": shaping.scatter_elements,
    "ScatterND": shaping.scatter_nd,
    "Shape": shaping.shape_of,
    "Sigmoid": unary(torch.sigmoid),
    "Sign": unary(torch.sign),
    "Sin": unary(torch.sin),
    "Slice": shaping.slices,
    "Softmax": lambda given, named: torch.softmax(given[0].tensor, named.get("axis", -1)),
    "Softplus": unary(torch.nn.functional.softplus),
    "Split": shaping.split,
    "Sqrt": unary(torch.sqrt),
    "Squeeze": shaping.squeeze,
    "Sub": binary(torch.sub),
    "Sum": folded(torch.add),
    "Swish": computing.swish,
    "Tan": unary(torch.tan),
    "Tanh": unary(torch.tanh),
    "Tile": lambda given, _: given[0].tensor.repeat(given[1].numbers),
    "TopK": shaping.top_k,
    "Transpose": shaping.transpose,
    "Trilu": shaping.trilu,
    "Unsqueeze": shaping.unsqueeze,
    "Where": lambda given, _: torch.where(*(item.tensor for item in given)),
    "Xor": binary(torch.logical_xor),
}

# What of an operator is not had: the attribute, and the values it may have.
_LIMITS: dict[str, dict[str, tuple[Any, ...]]] = {
    "AveragePool": {"auto_pad": ("NOTSET",), "ceil_mode": (0,)},
    "BatchNormalization": {"training_mode": (0,)},
    "Conv": {"auto_pad": ("NOTSET",)},
    "DequantizeLinear": {"block_size": (0,)},
    "GatherND": {"batch_dims": (0,)},
    "IsInf": {"detect_negative": (1,), "detect_positive": (1,)},
    "MaxPool": {"auto_pad": ("NOTSET",), "ceil_mode": (0,), "storage_order": (0,)},
    "Pad": {"mode": ("constant",)},
    "QuantizeLinear": {"block_size": (0,)},
    "ScatterElements": {"reduction": ("none",)},
    "ScatterND": {"reduction": ("none",)},
}
_UNPADDED = ("AveragePool", "MaxPool")


def why_not(node: AnyNode) -> str:
    """Why PyTorch cannot compute an operator here, as the rest of a sentence; empty if it can."""
    if node.domain or node.kind not in OPERATORS:
        return "is not known as an operator of PyTorch here"
    named = node.attributes
    for name, allowed in _LIMITS.get(node.kind, {}).items():
        if named.get(name, allowed[0]) not in allowed:
            return f"with {name} {named[name]} is not known as an operator of PyTorch here"
    if node.kind in _UNPADDED and any((*named.get("pads", ()), *_dilated(named))):
        return "with pads or dilations is not known as an operator of PyTorch here"
    if node.kind == "Cast" and named["to"] not in DTYPES:
        return f"to element type {named['to']} is not known as an operator of PyTorch here"
    return ""


def _dilated(named: Mapping[str, Any]) -> list[int]:
    return [int(one) - 1 for one in named.get("dilations", ())]
