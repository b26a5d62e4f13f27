"""ONNX's operators that compute, by ATen's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from vlacut_backends.aten.shaping import axes_of

Inputs = list[Any]
Attributes = Mapping[str, Any]
Operator = Callable[[Inputs, Attributes], Any]


def unary(function: Callable[[torch.Tensor], torch.Tensor]) -> Operator:
    """Of one tensor."""
    return lambda given, attributes: function(given[0].tensor)


def binary(function: Callable[..., torch.Tensor]) -> Operator:
    """Of two, of one type."""
    return lambda given, attributes: function(given[0].tensor, given[1].tensor)


def folded(function: Callable[..., torch.Tensor]) -> Operator:
    """Of any number, two at a time from the left."""

    def fold(given: Inputs, attributes: Attributes) -> torch.Tensor:
        made: torch.Tensor = given[0].tensor
        for item in given[1:]:
            made = function(made, item.tensor)
        return made

    return fold


def reduced(function: Callable[..., torch.Tensor]) -> Operator:
    """Over axes, all of them where none are named."""

    def reduce(given: Inputs, attributes: Attributes) -> torch.Tensor:
        tensor = given[0].tensor
        axes = axes_of(given, attributes)
        if not axes and attributes.get("noop_with_empty_axes", 0):
            kept: torch.Tensor = tensor
            return kept
        axes = axes or list(range(tensor.dim()))
        made: torch.Tensor = function(tensor, axes, bool(attributes.get("keepdims", 1)))
        return made.to(tensor.dtype)  # PyTorch adds 32-bit whole numbers up in 64

    return reduce


def product_over(tensor: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    """Over several axes; PyTorch has it over one."""
    for axis in sorted((axis % tensor.dim() for axis in axes), reverse=True):
        tensor = torch.prod(tensor, axis, keepdim=keep)
    return tensor


def extreme_place(function: Callable[..., torch.Tensor]) -> Operator:
    """ArgMax and ArgMin: the first of equals, or the last."""

    def place(given: Inputs, attributes: Attributes) -> torch.Tensor:
        tensor, axis = given[0].tensor, attributes.get("axis", 0)
        keep = bool(attributes.get("keepdims", 1))
        if attributes.get("select_last_index", 0):
            found = function(tensor.flip(axis), axis, keep)
            last: torch.Tensor = tensor.shape[axis] - 1 - found
            return last
        made: torch.Tensor = function(tensor, axis, keep)
        return made

    return place


def clip(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Limits are inputs from operator set 11 on, attributes before."""
    tensor = given[0].tensor
    low, high = (given[i].tensor if len(given) > i and given[i] else None for i in (1, 2))
    if low is None and "min" in attributes:
        low = torch.tensor(attributes["min"], dtype=tensor.dtype, device=tensor.device)
    if high is None and "max" in attributes:
        high = torch.tensor(attributes["max"], dtype=tensor.dtype, device=tensor.device)
    tensor = tensor if low is None else torch.maximum(tensor, low)
    return tensor if high is None else torch.minimum(tensor, high)


def cumulated(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """CumSum, exclusive or not, from either end."""
    tensor, axis = given[0].tensor, int(given[1].number)
    backwards = bool(attributes.get("reverse", 0))
    tensor = tensor.flip(axis) if backwards else tensor
    made = torch.cumsum(tensor, axis, dtype=tensor.dtype)
    if attributes.get("exclusive", 0):
        # Not the sum less its last term: of floating-point numbers that is another one.
        first = torch.zeros_like(made.narrow(axis, 0, 1))
        made = torch.cat([first, made.narrow(axis, 0, made.shape[axis] - 1)], axis)
    return made.flip(axis) if backwards else made


def divide(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Whole numbers are cut off towards zero, as in C."""
    left, right = given[0].tensor, given[1].tensor
    whole = not left.is_floating_point()
    return torch.div(left, right, rounding_mode="trunc" if whole else None)


def modulo(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """The sign is the divisor's, as in Python, or with `fmod` the dividend's, as in C."""
    function = torch.fmod if attributes.get("fmod", 0) else torch.remainder
    return function(given[0].tensor, given[1].tensor)


def power(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Of the type of the base."""
    base = given[0].tensor
    return torch.pow(base, given[1].tensor).to(base.dtype)


def layer_normalization(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """The first output."""
    tensor = given[0].tensor
    shape = list(tensor.shape[attributes.get("axis", -1) % tensor.dim() :])
    weight, bias = (item.tensor if item else None for item in [*given, None][1:3])
    return torch.nn.functional.layer_norm(
        tensor, shape, weight, bias, attributes.get("epsilon", 1e-5)
    )


def rms_normalization(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """In float32, as `stash_type` has it unless it says otherwise."""
    tensor = given[0].tensor
    axis = attributes.get("axis", -1) % tensor.dim()
    axes = list(range(axis, tensor.dim()))
    exact = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
    mean = torch.mean(exact * exact, axes, keepdim=True)
    normal = exact * torch.rsqrt(mean + attributes.get("epsilon", 1e-5))
    made: torch.Tensor = normal.to(tensor.dtype) * given[1].tensor
    return made


def group_normalization(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """With a scale for each channel."""
    tensor, scale, bias = (item.tensor for item in given)
    groups, epsilon = attributes["num_groups"], attributes.get("epsilon", 1e-5)
    return torch.nn.functional.group_norm(tensor, groups, scale, bias, epsilon)


def instance_normalization(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Of each channel of each example."""
    tensor, scale, bias = (item.tensor for item in given)
    epsilon = attributes.get("epsilon", 1e-5)
    return torch.nn.functional.instance_norm(tensor, weight=scale, bias=bias, eps=epsilon)


def batch_normalization(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """As it is in inference."""
    tensor, scale, bias, mean, variance = (item.tensor for item in given)
    epsilon = attributes.get("epsilon", 1e-5)
    return torch.nn.functional.batch_norm(tensor, mean, variance, scale, bias, eps=epsilon)


def gemm(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Alpha A B + beta C."""
    left, right = given[0].tensor, given[1].tensor
    left = left.t() if attributes.get("transA", 0) else left
    right = right.t() if attributes.get("transB", 0) else right
    made: torch.Tensor = left @ right
    if attributes.get("alpha", 1.0) != 1.0:
        made = attributes["alpha"] * made
    if len(given) > 2 and given[2] is not None:
        more, beta = given[2].tensor, attributes.get("beta", 1.0)
        made = made + (more if beta == 1.0 else beta * more)
    return made


def convolution(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Of any number of axes; pads may differ at the two ends."""
    tensor, weight = given[0].tensor, given[1].tensor
    bias = given[2].tensor if len(given) > 2 and given[2] else None
    spatial = tensor.dim() - 2
    pads = list(attributes.get("pads", [0] * 2 * spatial))
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


def pooled(function: Callable[..., torch.Tensor]) -> Operator:
    """MaxPool and AveragePool, without pads."""

    def pool(given: Inputs, attributes: Attributes) -> torch.Tensor:
        tensor, size = given[0].tensor, list(attributes["kernel_shape"])
        strides = list(attributes.get("strides", [1] * len(size)))
        one = len(size) == 1
        made = function(tensor.unsqueeze(-2) if one else tensor, *_square(size, strides, one))
        return made.squeeze(-2) if one else made

    return pool


def _square(size: list[int], strides: list[int], one: bool) -> tuple[list[int], list[int]]:
    return ([1, *size], [1, *strides]) if one else (size, strides)


def averaged(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """GlobalAveragePool."""
    tensor = given[0].tensor
    return torch.mean(tensor, list(range(2, tensor.dim())), keepdim=True)


def gelu(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """Exact, or by tanh."""
    approximate = attributes.get("approximate", "none")
    return torch.nn.functional.gelu(given[0].tensor, approximate=approximate)


def swish(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """X sigmoid(alpha X)."""
    tensor, alpha = given[0].tensor, attributes.get("alpha", 1.0)
    made: torch.Tensor = tensor * torch.sigmoid(alpha * tensor)
    return made


def hard_sigmoid(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """max(0, min(1, alpha X + beta))."""
    alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    return torch.clamp(alpha * given[0].tensor + beta, 0, 1)


def quantized(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """QuantizeLinear: half to even, saturated."""
    tensor, scale, zero = given[0].tensor, given[1].tensor, given[2].tensor
    axis = attributes.get("axis", 1)
    share = tensor / _along(scale, tensor, axis)
    if zero.dtype.is_floating_point:
        most = torch.finfo(zero.dtype).max
        return torch.clamp(share.float(), -most, most).to(zero.dtype)
    kind = torch.iinfo(zero.dtype)
    whole = torch.round(share) + _along(zero, tensor, axis).to(share.dtype)
    return torch.clamp(whole, kind.min, kind.max).to(zero.dtype)


def dequantized(given: Inputs, attributes: Attributes) -> torch.Tensor:
    """DequantizeLinear, of the type of its scale."""
    tensor, scale = given[0].tensor, given[1].tensor
    axis = attributes.get("axis", 1)
    exact = tensor.to(scale.dtype)
    if len(given) > 2 and given[2] is not None:
        exact = exact - _along(given[2].tensor, tensor, axis).to(scale.dtype)
    made: torch.Tensor = exact * _along(scale, tensor, axis)
    return made


def _along(scale: torch.Tensor, tensor: torch.Tensor, axis: int) -> torch.Tensor:
    """A scale for each place of an axis, so that it spreads over the others."""
    if scale.numel() == 1:
        return scale.reshape(())
    shape = [1] * tensor.dim()
    shape[axis] = -1
    return scale.reshape(shape)
