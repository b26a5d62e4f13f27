"""Operators of random programs: a graph of ONNX that grows by whatever fits what there is.

Every element type, tensors of rank 0 to 3, of no elements and of one, operators of several outputs
and of absent inputs, branches and loops that hold weights, loops and branches of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPES = ((), (1,), (3,), (0,), (2, 3), (1, 4), (2, 0), (2, 2, 3), (3, 3))
FLOATS = ("float32", "float64")
WHOLES = ("int32", "int64")
OTHERS = ("float16", "int8", "int16", "uint8", "uint16", "uint32", "uint64", "bool", "bfloat16")
_MOST = 64  # elements of a tensor: it may grow by Concat
_DEEPEST = 2  # subgraphs in subgraphs
_ONNX = {name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in (*FLOATS, *WHOLES)} | {
    **{name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in OTHERS[:-1]},
    "bfloat16": TensorProto.BFLOAT16,
}
_UNARY = ("Tanh", "Sigmoid", "Neg", "Abs", "Erf", "Floor")
_BINARY = ("Add", "Mul", "Sub", "Max", "Min")


@dataclass(frozen=True)
class Value:
    """A tensor of a graph: its name, element type and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many elements it has."""
        return int(np.prod(self.shape, dtype=np.int64))

    def info(self, name: str = "") -> onnx.ValueInfoProto:
        """As ONNX has it."""
        return helper.make_tensor_value_info(name or self.name, _ONNX[self.dtype], self.shape)


def drawn(numbers: np.random.Generator, value: Value) -> np.ndarray:
    """Numbers of a tensor's type and shape."""
    found = numbers.standard_normal(value.shape)
    if value.dtype == "bool":
        return np.asarray(found > 0)
    if value.dtype.startswith("uint"):
        found = np.abs(found)
    if "int" in value.dtype:
        return np.asarray(np.round(found * 3), dtype=value.dtype)
    return np.asarray(found, dtype=value.dtype)


@dataclass
class Graph:
    """A graph that grows; `known` are the tensors that its operators can read."""

    numbers: np.random.Generator
    prefix: str
    known: list[Value]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    told: list[onnx.ValueInfoProto] = field(default_factory=list)
    count: int = 0
    depth: int = 0

    def pick(self, fits: Callable[[Value], bool] = lambda value: True) -> Value | None:
        """A tensor, rather a late one; None if none fits."""
        found = [value for value in self.known if fits(value)]
        if not found:
            return None
        late = found[-5:] if self.numbers.random() < 0.7 else found
        return late[int(self.numbers.integers(len(late)))]

    def add(
        self, kind: str, inputs: list[str], dtype: str, shape: tuple[int, ...], **attributes: object
    ) -> Value:
        """Append an operator; what it makes."""
        return self.add_several(kind, inputs, [(dtype, shape)], **attributes)[0]

    def add_several(
        self,
        kind: str,
        inputs: list[str],
        outputs: list[tuple[str, tuple[int, ...]]],
        **attributes: object,
    ) -> list[Value]:
        """Append an operator; all that it makes."""
        made = []
        for dtype, shape in outputs:
            self.count += 1
            made.append(Value(f"{self.prefix}v{self.count}", dtype, shape))
        names = [value.name for value in made]
        self.nodes.append(
            helper.make_node(kind, inputs, names, f"{self.prefix}n{self.count}", **attributes)
        )
        self.known += made
        return made

    def weight(self, array: np.ndarray, name: str = "") -> str:
        """A weight; equal names of phases are one."""
        name = name or f"{self.prefix}w{len(self.weights)}"
        self.weights[name] = array
        return name


def add_operator(graph: Graph) -> None:
    """One more operator, whatever fits what there is."""
    makers = (
        *(_unary, _unary, _binary, _binary, _product, _cast, _concat, _slice, _transpose),
        *(_reduce, _reshape, _logic, _where, _branch, _loop, _gather, _softmax),
        *(_same, _split, _top, _clip, _shape_of, _sums),
    )
    makers[int(graph.numbers.integers(len(makers)))](graph)


def _same(graph: Graph) -> None:
    value = graph.pick()
    if value is not None:
        graph.add("Identity", [value.name], value.dtype, value.shape)


def _split(graph: Graph) -> None:
    """Two outputs, of which often one is read."""
    value = graph.pick(lambda value: value.shape[:1] in ((2,), (3,)) and value.dtype != "bfloat16")
    if value is None:
        return
    first = int(graph.numbers.integers(0, value.shape[0] + 1))
    parts = [first, value.shape[0] - first]
    sizes = graph.weight(np.array(parts, np.int64))
    made = [(value.dtype, (size, *value.shape[1:])) for size in parts]
    graph.add_several("Split", [value.name, sizes], made, axis=0)


def _top(graph: Graph) -> None:
    value = graph.pick(lambda value: value.dtype == "float32" and value.shape[-1:] in ((3,), (4,)))
    if value is not None:
        count = graph.weight(np.array([2], np.int64))
        shape = (*value.shape[:-1], 2)
        graph.add_several("TopK", [value.name, count], [("float32", shape), ("int64", shape)])


def _clip(graph: Graph) -> None:
    """With an input that is left out."""
    value = graph.pick(lambda value: value.dtype in ("float32", "int32"))
    if value is not None:
        bound = graph.weight(np.array(1, value.dtype))
        inputs = [value.name, "", bound] if graph.numbers.random() < 0.7 else [value.name]
        graph.add("Clip", inputs, value.dtype, value.shape)


def _shape_of(graph: Graph) -> None:
    value = graph.pick(lambda value: value.dtype != "bfloat16")
    if value is not None:
        if graph.numbers.random() < 0.5:
            graph.add("Size", [value.name], "int64", ())
        else:
            graph.add("Shape", [value.name], "int64", (len(value.shape),))


def _sums(graph: Graph) -> None:
    value = graph.pick(lambda value: value.dtype in ("float32", "int64") and bool(value.shape))
    if value is not None:
        axis = graph.weight(np.array(0, np.int64))
        graph.add("CumSum", [value.name, axis], value.dtype, value.shape)


def _unary(graph: Graph) -> None:
    value = graph.pick(lambda value: value.dtype in FLOATS)
    if value is not None:
        kinds = _UNARY if value.dtype == "float32" else ("Neg", "Abs", "Tanh")
        graph.add(str(graph.numbers.choice(kinds)), [value.name], value.dtype, value.shape)


def _binary(graph: Graph) -> None:
    one = graph.pick(lambda value: value.dtype in (*FLOATS, *WHOLES))
    if one is None:
        return
    other = graph.pick(lambda value: value.dtype == one.dtype and value.shape in (one.shape, ()))
    if other is not None:
        kind = str(graph.numbers.choice(_BINARY))
        graph.add(kind, [one.name, other.name], one.dtype, one.shape)


def _product(graph: Graph) -> None:
    value = graph.pick(lambda value: value.dtype == "float32" and value.shape[-1:] in ((3,), (4,)))
    if value is None:
        return
    if graph.numbers.random() < 0.5:
        weight = f"shared.{value.shape[-1] - 3}"
        graph.add("MatMul", [value.name, weight], "float32", value.shape)
        return
    width = int(graph.numbers.integers(1, 5))
    array = np.asarray(graph.numbers.standard_normal((value.shape[-1], width)) / 2, np.float32)
    shape = (*value.shape[:-1], width)
    graph.add("MatMul", [value.name, graph.weight(array)], "float32", shape)


def _cast(graph: Graph) -> None:
    value = graph.pick(lambda value: value.dtype not in ("bool",))
    if value is None:
        return
    if value.dtype in FLOATS:
        to = str(graph.numbers.choice(("float32", "float64", "float16", "bfloat16", "bool")))
    elif value.dtype in ("float16", "bfloat16"):
        to = "float32"
    else:
        to = str(graph.numbers.choice((*WHOLES, "float32", "int16", "uint64", "bool")))
    graph.add("Cast", [value.name], to, value.shape, to=_ONNX[to])


def _concat(graph: Graph) -> None:
    value = graph.pick(lambda value: bool(value.shape) and 2 * value.size <= _MOST)
    if value is not None and value.dtype != "bfloat16":
        shape = (2 * value.shape[0], *value.shape[1:])
        graph.add("Concat", [value.name] * 2, value.dtype, shape, axis=0)


def _slice(graph: Graph) -> None:
    value = graph.pick(lambda value: bool(value.shape) and value.dtype != "bfloat16")
    if value is None:
        return
    end = int(graph.numbers.integers(0, value.shape[0] + 1))
    bounds = [graph.weight(np.array([number], np.int64)) for number in (0, end, 0)]
    shape = (end, *value.shape[1:])
    graph.add("Slice", [value.name, *bounds], value.dtype, shape)


def _transpose(graph: Graph) -> None:
    value = graph.pick(lambda value: len(value.shape) > 1 and value.dtype != "bfloat16")
    if value is not None:
        perm = [int(at) for at in graph.numbers.permutation(len(value.shape))]
        shape = tuple(value.shape[at] for at in perm)
        graph.add("Transpose", [value.name], value.dtype, shape, perm=perm)


def _reduce(graph: Graph) -> None:
    value = graph.pick(lambda value: value.dtype in ("float32", "int32") and value.size > 0)
    if value is not None:
        kind = str(graph.numbers.choice(("ReduceSum", "ReduceMax", "ReduceMin")))
        graph.add(kind, [value.name], value.dtype, (), keepdims=0)


def _reshape(graph: Graph) -> None:
    value = graph.pick(lambda value: value.dtype != "bfloat16")
    if value is None:
        return
    shape = [(1, *value.shape), (value.size,), (*value.shape, 1)][int(graph.numbers.integers(3))]
    target = graph.weight(np.array(shape, np.int64))
    graph.add("Reshape", [value.name, target], value.dtype, shape, allowzero=1)


def _logic(graph: Graph) -> None:
    value = graph.pick(lambda value: value.dtype in ("float32", "int32", "int64"))
    if value is None:
        return
    kind = str(graph.numbers.choice(("Greater", "Equal", "Less")))
    other = graph.pick(
        lambda other: other.dtype == value.dtype and other.shape in (value.shape, ())
    )
    assert other is not None
    graph.add(kind, [value.name, other.name], "bool", value.shape)


def _where(graph: Graph) -> None:
    chosen = graph.pick(lambda value: value.dtype == "bool")
    if chosen is None:
        return
    value = graph.pick(lambda value: value.dtype == "float32" and value.shape == chosen.shape)
    other = graph.pick(lambda value: value.dtype == "float32" and value.shape in ((), chosen.shape))
    if value is not None and other is not None:
        graph.add("Where", [chosen.name, value.name, other.name], "float32", chosen.shape)


def _gather(graph: Graph) -> None:
    value = graph.pick(lambda value: value.shape[:1] in ((2,), (3,)) and value.dtype != "bfloat16")
    if value is not None:
        index = graph.weight(np.array([1, 0, -1], np.int64))
        graph.add("Gather", [value.name, index], value.dtype, (3, *value.shape[1:]), axis=0)


def _softmax(graph: Graph) -> None:
    value = graph.pick(
        lambda value: value.dtype == "float32" and bool(value.shape) and value.size > 0
    )
    if value is not None:
        graph.add("Softmax", [value.name], "float32", value.shape, axis=-1)


def _scalar_of(graph: Graph, value: Value) -> Value:
    total = graph.add("ReduceMax", [value.name], value.dtype, (), keepdims=0)
    return graph.add("Greater", [total.name, "shared.2"], "bool", ())


def _inside(graph: Graph, name: str, read: list[Value]) -> Graph:
    """A graph in a subgraph, which reads what is outside of it, too."""
    known = [*graph.known, *read]
    return Graph(graph.numbers, f"{name}_", known, depth=graph.depth + 1)


def _grow(inner: Graph, value: Value) -> Value:
    """Some operators in a subgraph; a tensor of it of this type and shape, made in it."""
    last = value
    if inner.depth <= _DEEPEST:
        for _ in range(int(inner.numbers.integers(0, 4))):
            add_operator(inner)
        made = {name for node in inner.nodes for name in node.output}
        fits = [
            one
            for one in inner.known
            if one.name in made and (one.dtype, one.shape) == (value.dtype, value.shape)
        ]
        last = fits[-1] if fits else value
    if inner.numbers.random() < 0.3:
        weight = Value("", value.dtype, value.shape)
        name = inner.weight(drawn(inner.numbers, weight))
        last = inner.add("Mul", [last.name, name], value.dtype, value.shape)
    return last


def _subgraph(
    inner: Graph, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
) -> onnx.GraphProto:
    read = {name for node in inner.nodes for name in reads(node)}
    weights = [
        numpy_helper.from_array(array, weight)
        for weight, array in inner.weights.items()
        if weight in read
    ]
    return helper.make_graph(inner.nodes, name, inputs, outputs, weights, value_info=inner.told)


def reads(node: onnx.NodeProto) -> list[str]:
    """What an operator reads, in its subgraphs too."""
    inner = [each for item in node.attribute if item.HasField("g") for each in item.g.node]
    outputs = [each.name for item in node.attribute if item.HasField("g") for each in item.g.output]
    return [*node.input, *outputs, *(name for each in inner for name in reads(each))]


def _branch(graph: Graph) -> None:
    """If, on a tensor's largest, with branches that read tensors from outside."""
    value = graph.pick(lambda value: value.dtype == "float32" and value.size > 0)
    if value is None:
        return
    condition = _scalar_of(graph, value)
    graph.count += 1
    branches = {}
    for which, kind in (("then_branch", "Tanh"), ("else_branch", "Neg")):
        name = f"{graph.prefix}b{graph.count}_{which[:4]}"
        inner = _inside(graph, name, [])
        last = _grow(inner, value)
        made = inner.add(kind, [last.name], "float32", value.shape)
        branches[which] = _subgraph(inner, which, [], [made.info()])
    graph.add("If", [condition.name], "float32", value.shape, **branches)


def _loop(graph: Graph) -> None:
    """Loop, of a fixed number of trips, none sometimes; what it scans is a second output."""
    value = graph.pick(lambda value: value.dtype == "float32" and value.size > 0)
    if value is None:
        return
    graph.count += 1
    name = f"{graph.prefix}l{graph.count}"
    at, on = Value(f"{name}_at", "int64", ()), Value(f"{name}_on", "bool", ())
    carried = Value(f"{name}_in", "float32", value.shape)
    inner = _inside(graph, name, [at, carried])
    last = _grow(inner, carried)
    product = inner.add("Mul", [last.name, value.name], "float32", value.shape)
    made = inner.add("Tanh", [product.name], "float32", value.shape)
    go = inner.add("Identity", [on.name], "bool", ())
    outputs = [go.info(), made.info()]
    count = int(graph.numbers.integers(0, 4))
    scanned = [("float32", (count, *value.shape))] if graph.numbers.random() < 0.3 else []
    if scanned and count * value.size <= _MOST and len(value.shape) < 3:
        outputs.append(inner.add("Neg", [made.name], "float32", value.shape).info())
    else:
        scanned = []
    inputs = [at.info(), on.info(), carried.info()]
    body = _subgraph(inner, f"{name}_body", inputs, outputs)
    trips, first = graph.weight(np.array(count, np.int64)), graph.weight(np.array(True))
    found = graph.add_several(
        "Loop", [trips, first, value.name], [("float32", value.shape), *scanned], body=body
    )
    graph.told += [one.info() for one in found]  # ONNX does not infer these shapes
