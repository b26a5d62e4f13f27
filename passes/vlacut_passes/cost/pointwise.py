"""Rules of the operators that run on vector units: pointwise, reductions, normalisation, pooling.

A rule says how many operations an element takes. A transcendental function counts as `SPECIAL`
operations. An SM of an A100 starts 16 special functions and 64 fused multiply-adds per clock (the
Ampere white paper's table of throughputs), so a special function takes the time of 4 x 2 flop.
"""

from __future__ import annotations

import math

from vlacut.pricing.roofline import Cost, Kernel
from vlacut_passes.cost.operator import Operator, Rule

SPECIAL = 8


def each_output(flops: int) -> Rule:
    """A number of operations per element written."""

    def rule(operator: Operator) -> Kernel:
        return operator.kernel("pointwise", flops * operator.output.size)

    return rule


def each_input(flops: int) -> Rule:
    """A number of operations per element of the first input: reductions and normalisations."""

    def rule(operator: Operator) -> Kernel:
        return operator.kernel("reduction", flops * operator.needed(0).size)

    return rule


def variadic(operator: Operator) -> Kernel:
    """Per element written, one operation fewer than operands: Sum, Max, Min, Mean."""
    return operator.kernel("pointwise", max(1, len(operator.inputs) - 1) * operator.output.size)


def pool(operator: Operator) -> Kernel:
    """Per element written, one operation per element of the window."""
    return operator.kernel(
        "reduction", operator.output.size * math.prod(operator.integers("kernel_shape"))
    )


def resize(operator: Operator) -> Kernel:
    """Per element written, 2 operations per neighbour: none (nearest), 2^d (linear), 4^d (cubic).

    d is the number of dimensions that change.
    """
    mode = operator.node.attributes.get_string("mode", "nearest")
    before, after = operator.needed(0).shape, operator.output.shape
    changed = sum(one != other for one, other in zip(before, after, strict=False))
    neighbours = {"linear": 2, "cubic": 4}.get(mode, 0) ** changed
    return operator.kernel("pointwise", 2 * neighbours * operator.output.size, skip=(1, 2, 3))


def grid_sample(operator: Operator) -> Kernel:
    """Per element written, 2 operations per neighbour: 2^d, or 4^d if cubic, in d dimensions."""
    mode = operator.node.attributes.get_string("mode", "linear")
    neighbours = (4 if "cubic" in mode else 2) ** (len(operator.needed(0).shape) - 2)
    return operator.kernel("pointwise", 2 * neighbours * operator.output.size)


def region_pool(operator: Operator) -> Kernel:
    """Per element written, sampling_ratio^2 samples of 8 operations (four neighbours) each."""
    samples = max(1, operator.integer("sampling_ratio", 1)) ** 2
    return operator.kernel("reduction", 8 * samples * operator.output.size)


def local_response(operator: Operator) -> Kernel:
    """Per element, a power and a quotient; per element of its window, a square and an addition."""
    window = operator.integer("size", 1)
    return operator.kernel("reduction", (2 * window + SPECIAL + 1) * operator.output.size)


def top_k(operator: Operator) -> Kernel:
    """log2(k) + 1 comparisons per element read: a heap of k."""
    depth = operator.output.shape[operator.integer("axis", -1)] if operator.output.shape else 1
    return operator.kernel(
        "reduction", operator.needed(0).size * (1 + math.ceil(math.log2(max(depth, 1))))
    )


def fourier(operator: Operator) -> Kernel:
    """5 N log2 N per transform of N points (the radix-2 FFT), for the longest N there can be."""
    points = max(operator.output.shape, default=1)
    transforms = operator.output.size // max(1, points)
    return operator.kernel(
        "reduction", 5 * transforms * points * math.ceil(math.log2(max(points, 2)))
    )


def rotary(operator: Operator) -> Kernel:
    """Per element, two products and a sum; of cached cosines and sines only the used rows move."""
    query, positions = operator.needed(0), operator.input(3)
    skip = () if positions is None else (1, 2)
    cost = operator.cost(3 * query.size, skip=skip)
    if positions is None:
        return Kernel("pointwise", cost)
    tables = (operator.needed(1), operator.needed(2))
    rows = sum(table.rows_bytes(positions.size * table.shape[-1]) for table in tables)
    return Kernel("pointwise", cost + Cost(weight_bytes=rows))


_BY_OUTPUT = (
    (
        1,
        "Abs Add And BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Clip "
        "Div Equal Floor Greater GreaterOrEqual IsInf IsNaN LeakyRelu Less LessOrEqual Mod Mul Neg "
        "Not Or PRelu Reciprocal Relu Round Sign Sub Where Xor",
    ),
    (2, "DequantizeLinear HardSigmoid QuantizeLinear Shrink ThresholdedRelu"),
    (2, "BatchNormalization"),  # a factor and an offset, both known beforehand
    (
        SPECIAL,
        "Acos Acosh Asin Asinh Atan Atanh Celu Cos Cosh Elu Erf Exp Gelu HardSwish Log Mish Pow "
        "Selu Sigmoid Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh",
    ),
    (SPECIAL + 2, "SwiGLU"),
    (6, "AffineGrid"),
    (4, "RandomUniform RandomUniformLike Bernoulli"),  # shifts and products a number drawn
    (4 + SPECIAL, "RandomNormal RandomNormalLike"),  # and a logarithm and a cosine
)
_BY_INPUT = (
    (1, "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceLogSum ArgMax ArgMin"),
    (1, "CumSum CumProd GlobalAveragePool GlobalMaxPool GlobalLpPool"),
    (2, "ReduceL1 ReduceL2 ReduceSumSquare Hardmax"),
    (2 + SPECIAL, "ReduceLogSumExp"),
    (4 + SPECIAL, "Softmax LogSoftmax"),  # largest, difference, exponential, sum, quotient
    # mean, difference, square, sum, scaling by the deviation, scale, bias
    (7, "LayerNormalization GroupNormalization InstanceNormalization"),
    (5, "MeanVarianceNormalization"),
    (4, "RMSNormalization"),  # square, sum, scaling, scale
    (3, "LpNormalization"),
    (4, "DynamicQuantizeLinear"),  # least, largest, scaling, offset
)
_OWN: dict[str, Rule] = {
    **dict.fromkeys(("Sum", "Max", "Min", "Mean"), variadic),
    **dict.fromkeys(("AveragePool", "MaxPool", "LpPool"), pool),
    **dict.fromkeys(("MaxRoiPool", "RoiAlign"), region_pool),
    **dict.fromkeys(("Resize", "Upsample"), resize),
    **dict.fromkeys(("DFT", "STFT"), fourier),
    "LRN": local_response,
    "GridSample": grid_sample,
    "TopK": top_k,
    "RotaryEmbedding": rotary,
}
RULES: dict[str, Rule] = {
    **{kind: each_output(flops) for flops, kinds in _BY_OUTPUT for kind in kinds.split()},
    **{kind: each_input(flops) for flops, kinds in _BY_INPUT for kind in kinds.split()},
    **_OWN,
}
