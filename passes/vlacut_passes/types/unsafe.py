"""Which operators lose too many digits in 16 bits, and so compute in float32.

float16 ends at 65504 and has 11 significant bits, bfloat16 has 8: sums over many elements, squares
and exponentials overflow or drown in rounding, and 256 and 257 are one bfloat16. The seeds below
are the operators that torch.autocast runs in float32 (its table "CUDA Ops that can autocast to
float32"), by their names in ONNX; with them go:

- what lies between two of them, pointwise, up to `_BETWEEN` operators: the epsilon and the root in
  a normalisation spelled out;
- what applies a statistic they made to a larger tensor: (x - mean) * rsqrt;
- what makes the argument of sine and cosine: positions and frequencies;
- what joins the last pointwise operators to an output that stays in float32: a sum over the steps
  of a sampler is kept in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import onnx_ir as ir

NORMALISATIONS = frozenset(
    {
        *("LayerNormalization", "RMSNormalization", "GroupNormalization", "BatchNormalization"),
        *("InstanceNormalization", "MeanVarianceNormalization", "LpNormalization", "LRN"),
    }
)
SUMS = frozenset(
    {
        *("ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare"),
        *("ReduceLogSum", "ReduceLogSumExp", "CumSum", "GlobalAveragePool", "GlobalLpPool"),
    }
)
SOFTMAXES = frozenset({"Softmax", "LogSoftmax"})
STEEP = frozenset({"Exp", "Log", "Pow", "Reciprocal", "Softplus", "Tan", "Sinh", "Cosh"})
ANGLES = frozenset({"Sin", "Cos"})
SEEDS = NORMALISATIONS | SUMS | SOFTMAXES | STEEP | ANGLES

_POINTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Sqrt", "Neg", "Abs", "Max", "Min", "Clip", "Where", "Sum"}
)
_VIEWS = frozenset({"Reshape", "Unsqueeze", "Squeeze", "Expand", "Identity", "Transpose"})
_MOVES = frozenset({"Concat", "Slice", "Gather", "Cast", "CastLike", "Tile", "Range", "Split"})
_BETWEEN = 4


def unsafe_operators(graph: ir.Graph, kept: Iterable[ir.Value]) -> set[ir.Node]:
    """The operators of a graph that compute in float32; `kept` are outputs that stay in it."""
    seeds = {node for node in graph if node.domain == "" and node.op_type in SEEDS}
    found = seeds | _between(seeds)
    for node in graph:
        if node not in found and _applies_statistic(node, found):
            found.add(node)
    angles = [node for node in seeds if node.op_type in ANGLES]
    return found | _behind(angles, _makes_angles) | _before(kept, _is_pointwise)


def _is_pointwise(node: ir.Node) -> bool:
    return node.domain == "" and node.op_type in _POINTWISE | _VIEWS


def _makes_angles(node: ir.Node) -> bool:
    if node.domain == "" and node.op_type == "MatMul":
        return _depth(node) == 1  # the outer product of positions and frequencies
    return node.domain == "" and node.op_type in _POINTWISE | _VIEWS | _MOVES | STEEP | SUMS


def _depth(node: ir.Node) -> int:
    """How many products a product sums; 0 if not known."""
    value = node.inputs[0]
    shape = value.shape if value is not None else None
    return int(str(shape[-1])) if shape is not None and shape.is_static() and len(shape) else 0


def _between(seeds: set[ir.Node]) -> set[ir.Node]:
    """Pointwise operators on a path of at most `_BETWEEN` of them from one seed to another."""
    after = _distances(seeds, _readers)
    before = _distances(seeds, _makers)
    return {
        node
        for node, steps in after.items()
        if steps + before.get(node, _BETWEEN + 1) - 1 <= _BETWEEN
    }


def _distances(
    seeds: Iterable[ir.Node], next_to: Callable[[ir.Node], Iterable[ir.Node]]
) -> dict[ir.Node, int]:
    """How many pointwise operators after a seed each one is, itself counted, up to `_BETWEEN`."""
    found: dict[ir.Node, int] = {}
    edge = list(seeds)
    for steps in range(1, _BETWEEN + 1):
        reached = {near for node in edge for near in next_to(node)}
        edge = [node for node in reached if _is_pointwise(node) and node not in found]
        found.update(dict.fromkeys(edge, steps))
    return found


def _applies_statistic(node: ir.Node, found: set[ir.Node]) -> bool:
    """Whether a pointwise operator reads a smaller tensor that one of the found made."""
    if not _is_pointwise(node) or node.op_type in _VIEWS:
        return False
    size = _size(node.outputs[0])
    makers = ((value, value.producer()) for value in node.inputs if value is not None)
    made = (value for value, maker in makers if maker in found and maker.op_type not in ANGLES)
    return any(_size(value) < size for value in made)


def _size(value: ir.Value) -> int:
    shape = value.shape
    if shape is None or not shape.is_static():
        return 0
    return math.prod(int(str(dim)) for dim in shape)


def _behind(nodes: Iterable[ir.Node], passes: Callable[[ir.Node], bool]) -> set[ir.Node]:
    """What makes the inputs of some operators, as far as it passes."""
    found: set[ir.Node] = set()
    waiting = list(nodes)
    while waiting:
        for maker in _makers(waiting.pop()):
            if maker not in found and passes(maker):
                found.add(maker)
                waiting.append(maker)
    return found


def _before(values: Iterable[ir.Value], passes: Callable[[ir.Node], bool]) -> set[ir.Node]:
    """What makes some values, as far as it passes."""
    makers = (value.producer() for value in values)
    last = {maker for maker in makers if maker is not None and passes(maker)}
    return last | _behind(last, passes)


def _makers(node: ir.Node) -> Iterable[ir.Node]:
    values = (value for value in node.inputs if value is not None)
    return [maker for value in values if (maker := value.producer()) is not None]


def _readers(node: ir.Node) -> Iterable[ir.Node]:
    return [user for value in node.outputs for user, _ in value.uses()]
