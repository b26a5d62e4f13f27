"""Rules of the operators that run on matrix units: products, convolutions, attention, recurrence.

A multiply-add counts as two. Biases and activations ride along in the epilogue of the product and
are not counted; so the figures are those of `torch.utils.flop_counter`.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace

from vlacut.pricing.roofline import Cost, Kernel
from vlacut_passes.cost.operator import Operand, Operator, reads


def matmul(operator: Operator) -> Kernel:
    """Y = A B: 2 x elements of Y x K, with K the last dimension of A.

    If B is one matrix, all rows of A are one product; else there is one product per matrix of B.
    Also MatMulInteger and QLinearMatMul.
    """
    left = operator.needed(0).shape
    right = operator.needed(3 if operator.node.op_type == "QLinearMatMul" else 1).shape
    depth, size = left[-1], operator.output.size
    columns = right[-1] if len(right) > 1 else 1
    batch = math.prod(right[:-2])
    cost = operator.cost(2 * size * depth)
    return _product("gemm", operator, cost, size // max(1, columns * batch), columns, depth, batch)


def gemm(operator: Operator) -> Kernel:
    """Y = A B + C: 2 M N K, with K the first dimension of A where transA is set."""
    depth = operator.needed(0).shape[0 if operator.integer("transA", 0) else -1]
    rows, columns = operator.output.shape
    return _product(
        "gemm", operator, operator.cost(2 * rows * columns * depth), rows, columns, depth
    )


def conv(operator: Operator) -> Kernel:
    """2 x elements of Y x (channels of X / groups) x kernel; W is [M, C / groups, kernel...].

    Also ConvInteger; QLinearConv's W is its fourth input.
    """
    weight = operator.needed(3 if operator.node.op_type == "QLinearConv" else 1)
    depth, groups = math.prod(weight.shape[1:]), operator.integer("group", 1)
    size, columns = operator.output.size, weight.shape[0] // groups
    cost = operator.cost(2 * size * depth)
    return _product("conv", operator, cost, size // weight.shape[0], columns, depth, groups)


def conv_transpose(operator: Operator) -> Kernel:
    """2 x elements of X x (channels of Y / groups) x kernel; W is [C, M / groups, kernel...]."""
    image, weight = operator.needed(0), operator.needed(1)
    columns, groups = math.prod(weight.shape[1:]), operator.integer("group", 1)
    cost = operator.cost(2 * image.size * columns)
    rows, depth = image.size // image.shape[1], image.shape[1] // groups
    return _product("conv", operator, cost, rows, columns, depth, groups)


def deform_conv(operator: Operator) -> Kernel:
    """As Conv, and 8 operations per sampled input: four neighbours, each weighted and added."""
    taps = (
        operator.output.size // operator.output.shape[1] * math.prod(operator.needed(1).shape[2:])
    )
    product = conv(operator)
    sampling = Cost(flops=8 * taps * operator.needed(0).shape[1])
    return replace(product, cost=product.cost + sampling)


def attention(operator: Operator) -> Kernel:
    """2 B H L S (D + Dv): Q K' and P V, with S the past and the present length.

    A causal mask gives no discount. The softmax runs beside the products and is not counted. Scores
    stay on the chip (flash attention): only Q, K, V, the mask, the past and the results move.
    Shapes are [B, H, L, D], or [B, L, H D] with the numbers of heads as attributes.
    """
    query, key, value = (operator.needed(index) for index in range(3))
    if len(query.shape) == 4:
        batch, heads, length, depth = query.shape
        value_depth = value.shape[3]
    else:
        batch, length, width = query.shape
        heads = operator.integer("q_num_heads", 1)
        depth, value_depth = width // heads, value.shape[2] // operator.integer("kv_num_heads", 1)
    past = operator.input(4)
    total = key.shape[-2] + (past.shape[2] if past is not None else 0)
    columns = depth + value_depth
    cost = operator.cost(2 * batch * heads * length * total * columns)
    return _product("attention", operator, cost, length, columns, total, batch * heads)


_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(operator: Operator) -> Kernel:
    """2 T B directions G H (I + H), with G gates: 4 of an LSTM, 3 of a GRU, 1 of an RNN.

    X is [T, B, I] (or [B, T, I] by layout), R is [directions, G H, H]. The product with X is one
    kernel. The product with R is one kernel per time step, and reads R every time.
    """
    steps, batch, inputs = operator.needed(0).shape
    if operator.integer("layout", 0):
        steps, batch = batch, steps
    recurrence: Operand = operator.needed(2)
    directions, rows, hidden = recurrence.shape
    assert rows == _GATES[operator.node.op_type] * hidden, "the schema says so"
    flops = 2 * steps * batch * directions * rows * (inputs + hidden)
    again = reads(recurrence, (steps - 1) * recurrence.nbytes)
    cost = operator.cost(flops, kernels=directions * (1 + steps)) + again
    return _product("gemm", operator, cost, batch, rows, hidden)


def einsum(operator: Operator) -> Kernel:
    """For n operands: 2 (n - 1) x the product of all named dimensions; half if none is summed.

    A single operand takes one addition per element read. Operands are multiplied pair by pair, each
    pair over every dimension; for n > 2 that is an upper bound of the work. In the matrix product
    that it is priced as, a label of only the first operand counts to the rows, one of only another
    operand to the columns, a summed one to the depth, and one of all operands to the batch.
    """
    equation = operator.node.attributes.get_string("equation", "").replace(" ", "")
    terms, arrow, result = equation.partition("->")
    first, _, others = terms.partition(",")
    sizes = _sizes(operator, terms)
    everything = math.prod(sizes.values())
    kept = {label: size for label, size in sizes.items() if label in result or label == "..."}
    summed = not arrow or math.prod(kept.values()) != everything
    factors = len(operator.inputs) - 1
    flops = (1 + summed) * factors * everything if factors else everything
    rows = math.prod(size for label, size in kept.items() if label not in others)
    columns = math.prod(size for label, size in kept.items() if label not in first)
    batch = math.prod(kept.values()) // max(1, rows * columns)
    depth = everything // max(1, math.prod(kept.values()))
    return _product("gemm", operator, operator.cost(flops), rows, columns, depth, batch)


def _sizes(operator: Operator, terms: str) -> dict[str, int]:
    """Size of every label of an einsum."""
    named: dict[str, int] = {}
    for term, operand in zip(terms.split(","), operator.inputs, strict=True):
        if operand is not None:
            for label, size in _labels(term, operand.shape):
                named[label] = max(named.get(label, 1), size)
    return named


def _product(
    kind: str, operator: Operator, cost: Cost, m: int, n: int, k: int, batch: int = 1
) -> Kernel:
    sizes = (max(1, m), max(1, n), max(1, k), max(1, batch))
    return Kernel(kind, cost, operator.rate, *sizes, form=operator.form)


def _labels(term: str, shape: tuple[int, ...]) -> list[tuple[str, int]]:
    """Label and size of every dimension of a term; those that `...` covers are one."""
    labels = re.findall(r"\.\.\.|[A-Za-z]", term)
    if "..." not in labels:
        return list(zip(labels, shape, strict=True))
    at, covered = labels.index("..."), len(shape) - len(labels) + 1
    sizes = (*shape[:at], math.prod(shape[at : at + covered]), *shape[at + covered :])
    return list(zip(labels, sizes, strict=True))


RULES = {
    "MatMul": matmul,
    "MatMulInteger": matmul,
    "QLinearMatMul": matmul,
    "Gemm": gemm,
    "Conv": conv,
    "ConvInteger": conv,
    "QLinearConv": conv,
    "ConvTranspose": conv_transpose,
    "DeformConv": deform_conv,
    "Attention": attention,
    "LSTM": recurrent,
    "GRU": recurrent,
    "RNN": recurrent,
    "Einsum": einsum,
}
