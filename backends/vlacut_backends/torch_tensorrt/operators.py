"""ATen's operators with the semantics of ONNX's specification, operator set 20.

Shapes are constants in a part, so whatever a shape or an axis is read from is known when a module
is traced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from vlacut.errors import BackendError

Inputs = list[Any]
Attributes = dict[str, Any]
DTYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.BOOL: torch.bool,
}


def _unary(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., Any]:
    return lambda given, attributes: function(given[0].tensor)


def _binary(function: Callable[..., torch.Tensor]) -> Callable[..., Any]:
    return lambda given, attributes: function(given[0].tensor, given[1].tensor)


def _axes(given: Inputs, attributes: Attributes) -> list[int]:
    """Axes: an input from operator set 13 on, an attribute before."""
    if len(given) > 1 and given[1] is not None:
        numbers: list[int] = given[1].numbers
        return numbers
    return [int(axis) for axis in attributes.get("axes", ())]


def _reduce(function: Callable[..., torch.Tensor]) -> Callable[..., Any]:
    def reduce(given: Inputs, attributes: Attributes) -> torch.Tensor:
        tensor = given[0].tensor
        axes = _axes(given, attributes)
        if not axes and attributes.get("noop_with_empty_axes", 0):
            kept: torch.Tensor = tensor
            return kept
        axes = axes or list(range(tensor.dim()))
        keep = bool(attributes.get("keepdims", 1))
        made: torch.Tensor = function(tensor, dim=axes, keepdim=keep)
        return made

    return reduce


def _reshape(given: Inputs, attributes: Attributes) -> torch.Tensor:
    tensor = given[0].tensor
    shape = given[1].numbers
    if not attributes.get("allowzero", 0):  # 0 keeps the input's
        shape = [tensor.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    made: torch.Tensor = tensor.reshape(shape)
    return made


def _slice(given: Inputs, attributes: Attributes) -> torch.Tensor:
    tensor = given[0].tensor
    starts, ends = given[1].numbers, given[2].numbers
    axes = given[3].numbers if len(given) > 3 and given[3] else range(len(starts))
    steps = given[4].numbers if len(given) > 4 and given[4] else [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        chosen = range(tensor.shape[axis])[start:end:step]
        if step > 0:
            tensor = torch.ops.aten.slice.Tensor(tensor, axis, start, end, step)
        else:
            tensor = torch.index_select(tensor, axis, torch.tensor(list(chosen)).to(tensor.device))
    made: torch.Tensor = tensor
    return made


def _squeeze(given: Inputs, attributes: Attributes) -> torch.Tensor:
    tensor = given[0].tensor
    axes = _axes(given, attributes) or [i for i, size in enumerate(tensor.shape) if size == 1]
    made: torch.Tensor = torch.squeeze(tensor, [axis % tensor.dim() for axis in axes])
    return made


def _unsqueeze(given: Inputs, attributes: Attributes) -> torch.Tensor:
    tensor, axes = given[0].tensor, _axes(given, attributes)
    rank = tensor.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        tensor = tensor.unsqueeze(axis)
    made: torch.Tensor = tensor
    return made


def _gather(given: Inputs, attributes: Attributes) -> torch.Tensor:
    tensor, indices = given[0].tensor, given[1].tensor
    axis = attributes.get("axis", 0) % tensor.dim()
    wrapped = torch.where(indices < 0, indices + tensor.shape[axis], indices)
    taken = torch.index_select(tensor, axis, wrapped.reshape(-1))
    return taken.reshape((*tensor.shape[:axis], *indices.shape, *tensor.shape[axis + 1 :]))


def _gather_nd(given: Inputs, attributes: Attributes) -> torch.Tensor:
    if attributes.get("batch_dims", 0):
        raise BackendError("GatherND with batch_dims is not known as an operator of PyTorch here")
    tensor, indices = given[0].tensor, given[1].tensor
    made: torch.Tensor = tensor[tuple(indices.unbind(-1))]
    return made


def _pad(given: Inputs, attributes: Attributes) -> torch.Tensor:
    mode = attributes.get("mode", "constant")
    if mode not in ("constant", b"constant") or (len(given) > 3 and given[3]):
        raise BackendError("Pad but by constants is not known as an operator of PyTorch here")
    tensor, pads = given[0].tensor, given[1].numbers
    rank = tensor.dim()
    around = [pads[axis + end] for axis in reversed(range(rank)) for end in (0, rank)]
    if len(given) < 3 or given[2] is None:
        return torch.nn.functional.pad(tensor, around)
    # What fills may be made by another operator, so it is no number yet.
    inside = torch.ones(tensor.shape, dtype=torch.bool, device=tensor.device)
    inside = torch.nn.functional.pad(inside, around)
    return torch.where(inside, torch.nn.functional.pad(tensor, around), given[2].tensor)


def _range(given: Inputs, attributes: Attributes) -> torch.Tensor:
    like = given[0].tensor
    return torch.arange(*(item.number for item in given), dtype=like.dtype, device=like.device)


def _layer_normalization(given: Inputs, attributes: Attributes) -> torch.Tensor:
    tensor = given[0].tensor
    shape = list(tensor.shape[attributes.get("axis", -1) % tensor.dim() :])
    weight, bias = (item.tensor if item else None for item in [*given, None][1:3])
    return torch.nn.functional.layer_norm(
        tensor, shape, weight, bias, attributes.get("epsilon", 1e-5)
    )


def _gemm(given: Inputs, attributes: Attributes) -> torch.Tensor:
    left, right = given[0].tensor, given[1].tensor
    left = left.t() if attributes.get("transA", 0) else left
    right = right.t() if attributes.get("transB", 0) else right
    made: torch.Tensor = attributes.get("alpha", 1.0) * (left @ right)
    if len(given) > 2 and given[2] is not None:
        made = made + attributes.get("beta", 1.0) * given[2].tensor
    return made


def _conv(given: Inputs, attributes: Attributes) -> torch.Tensor:
    tensor, weight = given[0].tensor, given[1].tensor
    bias = given[2].tensor if len(given) > 2 and given[2] else None
    spatial = tensor.dim() - 2
    pads = list(attributes.get("pads", [0] * 2 * spatial))
    if attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise BackendError("Conv with auto_pad is not known as an operator of PyTorch")
    around = [pads[axis + end] for axis in reversed(range(spatial)) for end in (0, spatial)]
    padded = torch.nn.functional.pad(tensor, around) if any(pads) else tensor
    ones = [1] * spatial
    strides, dilations = attributes.get("strides", ones), attributes.get("dilations", ones)
    return torch.convolution(
        padded,
        weight,
        bias,
        list(strides),
        [0] * spatial,
        list(dilations),
        False,
        [0] * spatial,
        attributes.get("group", 1),
    )


def _cast(given: Inputs, attributes: Attributes) -> torch.Tensor:
    wanted = ir.DataType(attributes["to"])
    if wanted not in DTYPES:
        raise BackendError(f"Cast to {wanted} is not known as an operator of PyTorch here")
    made: torch.Tensor = given[0].tensor.to(DTYPES[wanted])
    return made


def _concat(given: Inputs, attributes: Attributes) -> torch.Tensor:
    return torch.cat([item.tensor for item in given], attributes["axis"])


def _transpose(given: Inputs, attributes: Attributes) -> torch.Tensor:
    tensor = given[0].tensor
    made: torch.Tensor = tensor.permute(attributes.get("perm", range(tensor.dim())[::-1]))
    return made


def _expand(given: Inputs, attributes: Attributes) -> torch.Tensor:
    tensor, wanted = given[0].tensor, given[1].numbers
    shape = np.broadcast_shapes(tuple(tensor.shape), tuple(wanted))
    made: torch.Tensor = tensor.expand(shape)
    return made


def _gelu(given: Inputs, attributes: Attributes) -> torch.Tensor:
    approximate = attributes.get("approximate", "none")
    return torch.nn.functional.gelu(given[0].tensor, approximate=approximate)


OPERATORS: dict[str, Callable[[Inputs, Attributes], Any]] = {
    "Add": _binary(torch.add),
    "And": _binary(torch.logical_and),
    "Cast": _cast,
    "Concat": _concat,
    "Conv": _conv,
    "Cos": _unary(torch.cos),
    "Div": lambda given, _: _divide(given[0].tensor, given[1].tensor),
    "Equal": _binary(torch.eq),
    "Exp": _unary(torch.exp),
    "Expand": _expand,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "Identity": lambda given, _: given[0].tensor.clone(),
    "IsNaN": _unary(torch.isnan),
    "LayerNormalization": _layer_normalization,
    "MatMul": _binary(torch.matmul),
    "Mul": _binary(torch.mul),
    "Neg": _unary(torch.neg),
    "Pad": _pad,
    "Pow": _binary(torch.pow),
    "Reciprocal": _unary(torch.reciprocal),
    "Range": _range,
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": _unary(torch.relu),
    "Reshape": _reshape,
    "Sigmoid": _unary(torch.sigmoid),
    "Sin": _unary(torch.sin),
    "Slice": _slice,
    "Softmax": lambda given, named: torch.softmax(given[0].tensor, named.get("axis", -1)),
    "Sqrt": _unary(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _binary(torch.sub),
    "Tanh": _unary(torch.tanh),
    "Tile": lambda given, _: given[0].tensor.repeat(given[1].numbers),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": lambda given, _: torch.where(*(item.tensor for item in given)),
}


def _divide(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Whole numbers are cut off towards zero, as in C."""
    whole = not left.is_floating_point()
    return torch.div(left, right, rounding_mode="trunc" if whole else None)
