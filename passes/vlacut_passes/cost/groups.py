"""Kernel groups: which operators a software stack runs as one kernel.

`library`, what a library has a kernel for though ONNX may write several operators:

- attention: a product, a softmax of it, a product of that, and pointwise operators between;
- the sum of a product and a weight, its bias;
- a transpose, slice, split or expansion is a view, free and part of what it follows.

`engine`, what compilers of whole graphs do besides (TensorRT):

- a pointwise operator joins the product it follows, if it writes as many elements as that wrote
  (the epilogue: bias, activation, residual sum, scale);
- a pointwise operator, reduction, normalisation or copy joins what it follows if that is no product
  (a normalisation written out, a rotary embedding, a mask);
- a transpose, slice, split or expansion is a copy like others.

A reshape is free and part of what it follows, in all of them. A product starts a group of its own.
Of several groups that an operator follows it joins that of its last operand made. Groups are
priced, not scheduled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from vlacut.cost import Cost, Kernel
from vlacut.graphs import value_spec

Kernels = Mapping[ir.Node, Kernel]
PRODUCTS = ("gemm", "conv", "attention")
_STRIDED = ("Transpose", "Slice", "Split", "Expand")
_LONGEST = 8  # operators in a row between the products of an attention


@dataclass
class _Group:
    nodes: list[ir.Node] = field(default_factory=list)
    has_product: bool = False


def kernel_groups(kernels: Kernels, fusion: str) -> list[tuple[ir.Node, ...]]:
    """The operators of a graph in groups, all in the order of the graph.

    Args:
        kernels: the kernel that every operator is on its own, in the order of the graph.
        fusion: one of `vlacut.hardware.FUSIONS`.
    """
    if fusion == "none":
        return [(node,) for node in kernels]
    order = {node: index for index, node in enumerate(kernels)}
    of: dict[ir.Node, _Group] = {}
    for node in kernels:
        if node.op_type == "Softmax":
            members = sorted(attention_members(node, kernels), key=order.__getitem__)
            of |= dict.fromkeys(members, _Group(members, has_product=True))
    for node, kernel in kernels.items():
        if node not in of:
            makers = _makers(node, of)
            makers.sort(key=order.__getitem__, reverse=True)
            joins = (of[last] for last in makers if _joins(node, last, of[last], kernels, fusion))
            of[node] = next(joins, _Group(has_product=kernel.kind in PRODUCTS))
            of[node].nodes.append(node)
    groups = {id(group): tuple(group.nodes) for group in of.values()}
    return sorted(groups.values(), key=lambda nodes: order[nodes[-1]])


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

    None if there is not one product of activations behind all of them.
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
        largest = max(made, key=lambda value: value_spec(value).nbytes).producer()
        yield from () if largest is None else (largest,)


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
    if group.has_product:
        return kernel.kind == "pointwise" and _elements(node) == _elements(maker)
    return True


def _elements(node: ir.Node) -> int:
    return math.prod(value_spec(node.outputs[0]).shape)


def group_kernel(nodes: Sequence[ir.Node], kernels: Kernels, fusion: str) -> Kernel:
    """The kernel that a group is.

    Its flops are those of its product, or the sum: what an epilogue computes passes beside the
    product. Its bytes are those of its operators less what passes between them and no one else
    reads.
    """
    working = [node for node in nodes if not is_view(node, kernels[node], fusion)]
    if not working:
        return Kernel("movement", Cost())
    if len(nodes) == 1:
        return kernels[nodes[0]]
    inside = _Inside(frozenset(nodes), frozenset(working))
    moved = sum((inside.cost(node, kernels[node].cost) for node in working), Cost())
    products = [kernels[node] for node in working if kernels[node].kind in PRODUCTS]
    main = _attention_kernel(*products) if len(products) == 2 else next(iter(products), None)
    if main is None:
        kinds = {kernels[node].kind for node in working}
        kind = next(kind for kind in ("reduction", "pointwise", "movement") if kind in kinds)
        return Kernel(kind, replace(moved, kernels=1))
    cost = replace(moved, flops=main.cost.flops, kernels=main.cost.kernels)
    return replace(main, cost=cost, operator="" if len(working) > 1 else main.operator)


def _attention_kernel(scores: Kernel, values: Kernel) -> Kernel:
    """Both products of an attention as one; see `Kernel` for its sizes."""
    cost = Cost(flops=scores.cost.flops + values.cost.flops, kernels=1)
    columns = scores.k + values.n
    return Kernel("attention", cost, scores.rate, scores.m, columns, values.k, scores.batch)


@dataclass(frozen=True)
class _Inside:
    """What passes between the operators of a group.

    Attributes:
        nodes: of the group.
        working: those of them that are no views.
    """

    nodes: frozenset[ir.Node]
    working: frozenset[ir.Node]

    def cost(self, node: ir.Node, cost: Cost) -> Cost:
        """Cost of an operator less what it reads from others of the group or writes for them."""
        inputs = {value for value in node.inputs if value is not None and self._is_made(value)}
        outputs = [value for value in node.outputs if self._is_kept(value)]
        read = cost.bytes_read - sum(value_spec(value).nbytes for value in inputs)
        written = cost.bytes_written - sum(value_spec(value).nbytes for value in outputs)
        return replace(cost, bytes_read=max(0, read), bytes_written=max(0, written))

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
