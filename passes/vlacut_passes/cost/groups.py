"""Kernel groups: which operators a software stack runs as one kernel.

`library`, what a library has a kernel for though ONNX may write several operators:

- attention: a product, a softmax of it, a product of that, and pointwise operators between;
- the sum of a product and a weight, its bias;
- a transpose, slice, split or expansion is a view, free and part of what it follows.

`engine`, what compilers of whole graphs do besides (TensorRT):

- products of the same activations with weights are one product (queries, keys and values; gate and
  up);
- a pointwise operator joins the product it follows, if it writes as many elements as that wrote
  (the epilogue: bias, activation, residual sum, scale);
- a pointwise operator, reduction, normalisation or copy joins what it follows if that is no product
  (a normalisation written out, a rotary embedding, a mask);
- a transpose, slice, split or expansion is a copy like others, but next to an attention it is part
  of that.

A reshape is always free, and part of what it follows. Other products start a group of their own. An
operator that follows several groups joins the group of the operand that is made last. Groups are
priced, not scheduled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from vlacut.ir.graphs import value_spec
from vlacut.pricing.roofline import Cost, Kernel

Kernels = Mapping[ir.Node, Kernel]
PRODUCTS = ("gemm", "conv", "attention")
_STRIDED = ("Transpose", "Slice", "Split", "Expand")
_LONGEST = 8  # operators in a row between the products of an attention


@dataclass
class _Group:
    """Operators of a kernel, and the kind of its products; empty for none."""

    nodes: list[ir.Node] = field(default_factory=list)
    product: str = ""


def kernel_groups(kernels: Kernels, fusion: str) -> list[tuple[ir.Node, ...]]:
    """The operators of a graph in groups, all in the order of the graph.

    Args:
        kernels: the kernel that every operator is on its own, in the order of the graph.
        fusion: one of `vlacut.hardware.FUSIONS`.
    """
    if fusion == "none":
        return [(node,) for node in kernels]
    order = {node: index for index, node in enumerate(kernels)}
    of = _products(kernels, fusion)
    for node in kernels:
        if node not in of:
            makers = _makers(node, of)
            makers.sort(key=order.__getitem__, reverse=True)
            joins = (of[last] for last in makers if _joins(node, last, of[last], kernels, fusion))
            of[node] = next(joins, _Group())
            of[node].nodes.append(node)
    if fusion == "engine":
        _absorb_layouts(kernels, of)
    groups = {id(group): group.nodes for group in of.values()}
    ordered = [tuple(sorted(nodes, key=order.__getitem__)) for nodes in groups.values()]
    return sorted(ordered, key=lambda nodes: order[nodes[-1]])


def _products(kernels: Kernels, fusion: str) -> dict[ir.Node, _Group]:
    """Groups of the products alone, by operator."""
    of: dict[ir.Node, _Group] = {}
    for node in kernels:
        if node.op_type == "Softmax" and (members := attention_members(node, kernels)):
            of |= dict.fromkeys(members, _Group(list(members), "attention"))
    by_operand: dict[object, _Group] = {}
    for node, kernel in kernels.items():
        if node in of or kernel.kind not in PRODUCTS:
            continue
        mergeable = node.op_type in ("MatMul", "Gemm") and kernel.cost.weight_bytes > 0
        mergeable = mergeable and fusion == "engine"
        key = (node.op_type, node.inputs[0], kernel.m, kernel.k) if mergeable else node
        of[node] = by_operand.setdefault(key, _Group(product=kernel.kind))
        of[node].nodes.append(node)
    return of


def _absorb_layouts(kernels: Kernels, of: dict[ir.Node, _Group]) -> None:
    """Join copies that only change the layout of what one attention reads to that attention."""
    for group in list({id(group): group for group in of.values()}.values()):
        if any(kernels[node].cost.kernels and node.op_type not in _STRIDED for node in group.nodes):
            continue
        outside = [item for node in group.nodes for item in _readers(node)]
        readers = [of.get(item) for item in outside if of.get(item) is not group]
        reader = readers[0] if readers else None
        if reader and reader.product == "attention" and all(item is reader for item in readers):
            reader.nodes += group.nodes
            of |= dict.fromkeys(group.nodes, reader)


def is_view(node: ir.Node, kernel: Kernel, fusion: str) -> bool:
    """Whether an operator moves nothing under a fusion."""
    return not kernel.cost.kernels or (fusion == "library" and node.op_type in _STRIDED)


def attention_members(softmax: ir.Node, kernels: Kernels) -> frozenset[ir.Node]:
    """Operators of the attention that a softmax is part of; none if it is part of none."""
    above = _between(softmax, kernels, lambda node: _main_maker(node, kernels))
    below = _between(softmax, kernels, _readers)
    return above | below | {softmax} if above and below else frozenset()


def _between(
    softmax: ir.Node, kernels: Kernels, beside: Callable[[ir.Node], Iterable[ir.Node]]
) -> frozenset[ir.Node]:
    """Pointwise operators and reshapes next to a softmax, on one side, and the product after them.

    Empty if there is not one product of activations behind all of them.
    """
    found: dict[ir.Node, None] = {}
    edge = [softmax]
    for _ in range(_LONGEST):
        edge = [node for last in edge for node in beside(last) if node not in found]
        if not edge or any(node not in kernels for node in edge):
            return frozenset()
        found |= dict.fromkeys(edge)
        products = [node for node in found if kernels[node].kind == "gemm"]
        edge = [node for node in edge if node not in products]
        if any(kernels[node].kind != "pointwise" and kernels[node].cost.kernels for node in edge):
            return frozenset()
        if products and not edge:
            alone = len(products) == 1 and not kernels[products[0]].cost.weight_bytes
            return frozenset(found) if alone else frozenset()
    return frozenset()


def _main_maker(node: ir.Node, kernels: Kernels) -> Iterator[ir.Node]:
    """The operator that made the largest operand of a node, of equals the first."""
    made = [value for value in node.inputs if value is not None and value.producer() in kernels]
    if made:
        largest = max(made, key=_nbytes).producer()
        yield from () if largest is None else (largest,)


def _nbytes(value: ir.Value) -> int:
    """Bytes of a tensor of numbers; 0 for what is none."""
    numbers = isinstance(value.type, ir.TensorType) and value.dtype != ir.DataType.STRING
    return value_spec(value).nbytes if numbers else 0


def _readers(node: ir.Node) -> Iterator[ir.Node]:
    return (use.node for value in node.outputs for use in value.uses())


def _makers(node: ir.Node, among: Container[ir.Node]) -> list[ir.Node]:
    makers = (value.producer() for value in node.inputs if value is not None)
    return [maker for maker in makers if maker is not None and maker in among]


def _joins(node: ir.Node, maker: ir.Node, group: _Group, kernels: Kernels, fusion: str) -> bool:
    """Whether an operator joins the group of an operator that it follows."""
    kernel = kernels[node]
    if is_view(node, kernel, fusion):
        return True
    if kernel.kind in PRODUCTS:
        return False
    if fusion == "library":
        biased = node.op_type == "Add" and kernel.cost.weight_bytes > 0
        return biased and kernels[maker].kind == "gemm"
    if group.product == "attention" and node.op_type in _STRIDED:
        return True
    if group.product:
        return kernel.kind == "pointwise" and _elements(node) == _elements(maker)
    return True


def _elements(node: ir.Node) -> int:
    return math.prod(value_spec(node.outputs[0]).shape)


def group_kernel(nodes: Sequence[ir.Node], kernels: Kernels, fusion: str) -> Kernel:
    """The kernel that a group is.

    Its flops are those of its product, because an epilogue computes beside the product; without a
    product they are the sum. Its bytes are those of its operators, less those of values that pass
    only between them.
    """
    working = [node for node in nodes if not is_view(node, kernels[node], fusion)]
    if len(nodes) == 1 and (working or fusion == "none"):
        return kernels[nodes[0]]
    if not working:
        return Kernel("movement", Cost())
    moved = _Traffic(frozenset(nodes), tuple(working), kernels).cost()
    main = _main_product([kernels[node] for node in working if kernels[node].kind in PRODUCTS])
    if main is None:
        kinds = {kernels[node].kind for node in working}
        kind = next(kind for kind in ("reduction", "pointwise", "movement") if kind in kinds)
        return Kernel(kind, replace(moved, kernels=1))
    cost = replace(moved, flops=main.cost.flops, kernels=main.cost.kernels)
    return replace(main, cost=cost, operator="" if len(working) > 1 else main.operator)


def _main_product(products: Sequence[Kernel]) -> Kernel | None:
    """The product that several are together, or None of none; see `Kernel` for sizes."""
    if len(products) < 2:
        return products[0] if products else None
    first, last = products[0], products[-1]
    cost = Cost(flops=sum(product.cost.flops for product in products), kernels=1)
    if first.cost.weight_bytes:
        return replace(first, cost=cost, n=sum(product.n for product in products))
    columns = first.k + last.n
    return Kernel("attention", cost, first.rate, first.m, columns, last.k, first.batch)


@dataclass(frozen=True)
class _Traffic:
    """What the operators of a group move together.

    Attributes:
        nodes: of the group.
        working: those of them that are no views, in order.
        kernels: of the graph.
    """

    nodes: frozenset[ir.Node]
    working: tuple[ir.Node, ...]
    kernels: Kernels

    def cost(self) -> Cost:
        """Costs less what one reads from another or writes for others, and what is read again."""
        total, seen = Cost(), set[ir.Value]()
        for node in self.working:
            cost = self.kernels[node].cost
            inputs = {value for value in node.inputs if value is not None and self._moves(value)}
            inside = [value for value in inputs if value in seen or self._is_made(value)]
            outputs = [value for value in node.outputs if self._is_kept(value)]
            read = cost.bytes_read - sum(_nbytes(value) for value in inside)
            written = cost.bytes_written - sum(_nbytes(value) for value in outputs)
            total += replace(cost, bytes_read=max(0, read), bytes_written=max(0, written))
            seen |= inputs
        return total

    def _moves(self, value: ir.Value) -> bool:
        """Whether a value is an activation."""
        maker = value.producer()
        return not value.is_initializer() and (maker is None or maker in self.kernels)

    def _is_made(self, value: ir.Value) -> bool:
        """Whether an operator of the group makes a value, or what it is a view of."""
        maker = value.producer()
        if maker is None or maker not in self.nodes:
            return False
        first = maker.inputs[0] if maker.inputs else None
        return maker in self.working or (first is not None and self._is_made(first))

    def _is_kept(self, value: ir.Value) -> bool:
        """Whether the group alone reads a value, and the views of it."""
        if value.is_graph_output() or not value.uses():
            return False
        return all(
            use.node in self.nodes
            and (use.node in self.working or all(map(self._is_kept, use.node.outputs)))
            for use in value.uses()
        )
