"""Products with weights, and embeddings: where they are, and which of them can be quantised."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from vlacut.errors import PassError
from vlacut.ir.annotation import PINNED
from vlacut.ir.graphs import value_spec
from vlacut.ir.program import Program

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)

Products = Mapping[str, list["Product"]]


@dataclass(frozen=True)
class Product:
    """A product with a weight; or an embedding, which is one of rows that are 1 in one place.

    Attributes:
        node: MatMul, Gemm or Conv, whose first input is the activation; or Gather.
        weight: the initializer.
        reader: the operator that reads it: the product, or a transposition before it.
        channel: axis of the output channels in the weight as it is stored.
    """

    node: ir.Node
    weight: ir.Value
    reader: ir.Node
    channel: int

    @property
    def is_embedding(self) -> bool:
        """Whether it reads rows of its weight."""
        return self.node.op_type == "Gather"

    @property
    def activation(self) -> ir.Value:
        """What the weight is multiplied with."""
        found = self.node.inputs[0]
        assert found is not None
        return found

    @property
    def name(self) -> str:
        """The weight's name: products of several phases that share it are rounded alike."""
        return str(self.weight.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's shape as it is stored."""
        return tuple(int(str(dim)) for dim in self.weight.shape or ())

    @property
    def bytes(self) -> int:
        """The weight's bytes as it is stored."""
        return value_spec(self.weight).nbytes


def products_of(
    program: Program,
    smallest: int,
    phases: Container[str],
    side: str = "",
    embeddings: bool = False,
) -> dict[str, list[Product]]:
    """Products with weights of at least so many elements in some phases, by phase, in order; behind
    them embeddings, if they are asked for.

    With a side those that are pinned there, which may be none. Without, raises PassError if there
    is none.
    """
    found = {
        phase.name: [
            *products(phase.model.graph, smallest),
            *(lookups(phase.model.graph, smallest) if embeddings else ()),
        ]
        if phase.name in phases
        else []
        for phase in program.phases
    }
    if side:
        return {
            name: [one for one in listed if PINNED.find(one.node) == side]
            for name, listed in found.items()
        }
    if not any(found.values()):
        inner = inside_of(program, smallest, phases)
        left = (
            f" outside of operators; {inner} (an If is gone where --fix NAME=VALUE makes its "
            f"condition known; export a loop's body as a phase with trips)"
        )
        raise PassError(
            f"no product of a weight of {smallest} elements or more{left if inner else ''}"
        )
    return found


def inside_of(program: Program, smallest: int, phases: Container[str]) -> str:
    """What to say of such products inside of operators, which stay as they are; empty if none."""
    inner = {
        f"{node.op_type} {node.name}": count
        for phase in program.phases
        if phase.name in phases
        for node in phase.model.graph
        if (count := sum(len(products(graph, smallest)) for graph in _graphs_of(node)))
    }
    if not inner:
        return ""
    return f"{sum(inner.values())} inside of {', '.join(inner)} stay as they are"


def _graphs_of(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs of an operator, and those of operators within."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
            for inner in attribute.as_graph():
                yield from _graphs_of(inner)


def products(graph: ir.Graph, smallest: int) -> list[Product]:
    """The same of one graph."""
    found = []
    for node in graph:
        if node.domain != "" or node.op_type not in ("MatMul", "Gemm", "Conv"):
            continue
        given, second = node.inputs[0], node.inputs[1]
        if given is None or second is None or given.is_initializer() or given.dtype not in _FLOATS:
            continue
        if node.op_type == "Gemm" and node.attributes.get_int("transA", 0) == 1:
            continue
        product = _with_weight(node, second)
        if product is not None and math.prod(product.shape) >= smallest:
            found.append(product)
    return found


def lookups(graph: ir.Graph, smallest: int) -> list[Product]:
    """Embeddings by tables of at least so many elements in a graph, in order."""
    found = []
    for node in graph:
        table = node.inputs[0] if (node.domain, node.op_type) == ("", "Gather") else None
        if table is None or not table.is_initializer() or table.dtype not in _FLOATS:
            continue
        one = Product(node, table, node, 0)
        rows = node.attributes.get_int("axis", 0) == 0
        if rows and len(one.shape) == 2 and math.prod(one.shape) >= smallest:
            found.append(one)
    return found


def _with_weight(node: ir.Node, second: ir.Value) -> Product | None:
    maker = second.producer()
    first = node.op_type == "Conv" or node.attributes.get_int("transB", 0) == 1
    if maker is None:
        rank = len(second.shape) if second.shape is not None else 0
        last = 0 if first else rank - 1
        return Product(node, second, node, last) if second.is_initializer() else None
    weight = maker.inputs[0] if maker.op_type == "Transpose" and maker.domain == "" else None
    if weight is None or not weight.is_initializer() or len(maker.outputs[0].uses()) != 1:
        return None
    rank = len(weight.shape) if weight.shape is not None else 0
    order = maker.attributes.get_ints("perm", tuple(reversed(range(rank))))
    return Product(node, weight, maker, order[0 if first else -1])
