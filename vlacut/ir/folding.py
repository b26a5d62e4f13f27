"""Constant folding that changes no bit and no weight.

An operator is folded if it depends only on constants and static shapes, is small, and gives the
same result on every implementation. Those are data movement, integer arithmetic, and the float
operations that IEEE 754 rounds correctly. Weights stay as they are, under their names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from vlacut.ir.rewriting import constant, is_named_by_content, replace_value

MOST_ELEMENTS = 1 << 18  # of a folded value: a mask over 512 tokens, not a weight
_MOST_UNSEEN = 64  # of the inputs of an operator whose output's size is not known beforehand

_MOVES = frozenset(
    [
        "And",
        "Cast",
        "CastLike",
        "Concat",
        "ConstantOfShape",
        "Equal",
        "Expand",
        "EyeLike",
        "Flatten",
        "Gather",
        "GatherElements",
        "GatherND",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "IsNaN",
        "IsInf",
        "Less",
        "LessOrEqual",
        "Neg",
        "NonZero",
        "Not",
        "OneHot",
        "Or",
        "Pad",
        "Reshape",
        "ScatterND",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Trilu",
        "Unsqueeze",
        "Where",
        "Xor",
    ]
)
_ROUNDED = frozenset(["Abs", "Add", "Ceil", "Div", "Floor", "Mul", "Sqrt", "Sub"])
_INTEGER = frozenset(
    [
        "BitwiseAnd",
        "BitwiseNot",
        "BitwiseOr",
        "CumSum",
        "Max",
        "Min",
        "Mod",
        "Range",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "Sign",
    ]
)
_FOLDED = _MOVES | _ROUNDED | _INTEGER
_GROWING = frozenset(["ConstantOfShape", "Expand", "EyeLike", "OneHot", "Pad", "Range", "Tile"])


def fold_constants(model: ir.Model, most_elements: int = MOST_ELEMENTS) -> int:
    """Fold a model's graph and the graphs in it, in place; how many values became constants.

    All of these are initializers of the model's graph.

    Folded operators stay behind, unread; `rewriting.remove_unused` removes them.
    """
    opset = model.graph.opset_imports.get("", 1)
    nodes = list(model.graph.all_nodes())  # each before the graphs in it
    known: dict[ir.Value, np.ndarray] = {}
    follow_constants(nodes, known, opset, most_elements)
    return sum(_materialise(model.graph, value, array) for value, array in known.items())


def follow_constants(
    nodes: Iterable[ir.Node],
    known: dict[ir.Value, np.ndarray],
    opset: int,
    most_elements: int = MOST_ELEMENTS,
) -> None:
    """Add to what is known the values that operators make of it and of constants."""
    for node in nodes:
        made = _evaluate(opset, node, known, most_elements)
        known.update(zip(node.outputs, made, strict=False))


def _materialise(graph: ir.Graph, value: ir.Value, array: np.ndarray) -> bool:
    """Make a known value an initializer if something that is not folded itself reads it."""
    maker = value.producer()
    if maker is None or (maker.op_type == "Identity" and value.is_graph_output()):
        return False
    if not value.uses() and not value.is_graph_output():
        return False
    replace_value(value, constant(graph, ir.tensor(array, dtype=value.dtype)))
    return True


def _evaluate(
    opset: int, node: ir.Node, known: Mapping[ir.Value, np.ndarray], most: int
) -> Sequence[np.ndarray]:
    """Values of a node's outputs; none if it cannot or must not be folded."""
    if node.domain != "":
        return ()
    if node.op_type in ("Shape", "Size"):
        return _from_shape(node)
    if node.op_type not in _FOLDED:
        return ()
    arrays = [None if value is None else _content(value, known, most) for value in node.inputs]
    missing = any(
        array is None and value is not None
        for array, value in zip(arrays, node.inputs, strict=True)
    )
    if missing or not _exact(node, arrays) or not _small(node, arrays, most):
        return ()
    return _run(node, arrays, opset)


def _from_shape(node: ir.Node) -> Sequence[np.ndarray]:
    value = node.inputs[0]
    if value is None or value.shape is None or not value.shape.is_static():
        return ()
    dims = np.array(value.shape.numpy(), dtype=np.int64)
    if node.op_type == "Size":
        return (np.array(dims.prod(), dtype=np.int64),)
    return (dims[node.attributes.get_int("start", 0) : node.attributes.get_int("end", None)],)


def _content(value: ir.Value, known: Mapping[ir.Value, np.ndarray], most: int) -> np.ndarray | None:
    found = known.get(value)
    if found is not None or not value.is_initializer() or value.const_value is None:
        return found
    tensor = value.const_value
    if tensor.size > most or not _is_constant(value):
        return None
    return tensor.numpy()


def _is_constant(value: ir.Value) -> bool:
    """Whether an initializer is no weight: a constant of the graph, an index or a mask."""
    indices = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)
    return value.dtype in indices or is_named_by_content(value)


def _exact(node: ir.Node, arrays: Sequence[np.ndarray | None]) -> bool:
    """Whether every implementation comes to the same bits."""
    present = [array for array in arrays if array is not None]
    integers = all(array.dtype.kind in "iub" for array in present)
    if node.op_type in _INTEGER:
        return integers
    if node.op_type in ("Div", "Mod") and integers:
        return bool(np.all(present[1]))
    if node.op_type in ("Cast", "CastLike") and not integers:
        return _casts_alike(node, present[0])
    return True


def _casts_alike(node: ir.Node, array: np.ndarray) -> bool:
    """Floats become integers alike everywhere if they are finite and fit in."""
    output = node.outputs[0].dtype
    if node.op_type == "Cast":
        output = ir.DataType(node.attributes.get_int("to"))
    if output is None or output in (ir.DataType.STRING, ir.DataType.UNDEFINED):
        return False
    if not output.is_integer():
        return True
    wide = array.astype(np.float64)
    low, high = (-(2**31), 2**31) if output in (ir.DataType.INT64, ir.DataType.INT32) else (0, 16)
    return bool(np.all((low < wide) & (wide < high) | (wide == low)))


def _small(node: ir.Node, arrays: Sequence[np.ndarray | None], most: int) -> bool:
    sizes = [_size(value) for value in node.outputs]
    if None not in sizes:
        return all(size is not None and size <= most for size in sizes)
    if node.op_type == "NonZero":
        return all(array.ndim * array.size <= most for array in arrays if array is not None)
    if any(array is not None and array.size > _MOST_UNSEEN for array in arrays):
        return False
    return node.op_type not in _GROWING or _grown(node, arrays) <= most


def _size(value: ir.Value) -> int | None:
    """Elements of a value; None if they are not known."""
    if value.shape is None or not value.shape.is_static():
        return None
    return math.prod(value.shape.numpy())


def _grown(node: ir.Node, arrays: Sequence[np.ndarray | None]) -> float:
    """An upper bound of the elements that an operator makes out of few."""
    present = [array for array in arrays if array is not None]
    if node.op_type == "Range":
        start, limit, step = (array.item() for array in present)
        return float(abs((limit - start) / step) + 1) if step else math.inf
    if node.op_type == "ConstantOfShape":
        return float(math.prod(present[0].tolist()))
    if node.op_type == "OneHot":
        return float(present[0].size * abs(present[1].item()))
    if node.op_type == "Pad":
        more = int(np.abs(present[1]).sum())
        return float(math.prod(size + more for size in present[0].shape))
    if node.op_type in ("Expand", "Tile"):
        return float(present[0].size * math.prod(present[1].tolist()))
    return math.inf


def _run(node: ir.Node, arrays: Sequence[np.ndarray | None], opset: int) -> Sequence[np.ndarray]:
    attributes = {name: _plain(attribute) for name, attribute in node.attributes.items()}
    from onnx.reference.ops import load_op  # 0.1 s to import, and most programs are folded already

    operator = load_op("", node.op_type, opset)
    try:
        with np.errstate(all="ignore"):
            made = operator.eval(*arrays, n_outputs=len(node.outputs), **attributes)
    except (ValueError, IndexError):
        return ()  # the graph asks for what no run of it could do, e.g. an index out of bounds
    if isinstance(made, tuple | list):
        return [np.asarray(array) for array in made]
    return [np.asarray(made)]


def _plain(attribute: ir.Attr) -> object:
    if attribute.type == ir.AttributeType.TENSOR:
        return ir.serde.serialize_tensor(attribute.as_tensor())
    if attribute.type in (ir.AttributeType.INTS, ir.AttributeType.FLOATS):
        return list(attribute.value)
    return attribute.value
