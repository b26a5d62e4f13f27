"""What operators of several instances have in common, and what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from vlacut_passes.packing.alike import Joined
from vlacut_passes.packing.rules import ROW_BY_ROW, SETTINGS

_PRODUCTS = ("MatMul", "Gemm")


@dataclass
class Packed:
    """What became of a graph.

    Attributes:
        products: names of weights, with how many products each join put in one.
        operators: how many others were put into one, before and after.
        apart: why products of one weight were not joined, by its name.
        single: what reads pieces and stayed an operator of each instance: how many, by reason.
        slots: products of attention that are slots of others now, before and after.
    """

    products: list[tuple[str, int]] = field(default_factory=list)
    operators: tuple[int, int] = (0, 0)
    apart: dict[str, str] = field(default_factory=dict)
    single: Counter[str] = field(default_factory=Counter)
    slots: tuple[int, int] = (0, 0)


def row_key(
    node: ir.Node, pieces: Mapping[ir.Value, tuple[Joined, int]]
) -> tuple[Hashable, int, Joined] | None:
    """What operators of other instances have in common with one that reads a piece; the number of
    the piece, and of what it is one. None for what is joined with nothing.
    """
    if node.domain or node.op_type not in ROW_BY_ROW:
        return None
    found = joined_inputs(node, pieces)
    if not found:
        return None
    joined, index = next(iter(found.values()))
    if node.op_type == "MatMul" and not joined.slots:
        return None
    settings = SETTINGS.get(node.op_type, ())
    told = tuple(
        (place, id(found[place][0])) if place in found else (place, _setting(node, place, settings))
        for place in range(len(node.inputs))
    )
    return (*_look(node), told), index, joined


def joined_inputs(
    node: ir.Node, pieces: Mapping[ir.Value, tuple[Joined, int]]
) -> dict[int, tuple[Joined, int]]:
    """By place, what an operator reads a piece of, and which; empty if these are of different
    instances. Beside slots what is joined in rows counts as each instance's own.
    """
    given = enumerate(node.inputs)
    read = {at: pieces[value] for at, value in given if value is not None and value in pieces}
    if any(joined.slots for joined, _ in read.values()):
        read = {at: one for at, one in read.items() if one[0].slots}
    if len({(index, len(joined.pieces)) for joined, index in read.values()}) > 1:
        return {}
    return read


def _setting(node: ir.Node, place: int, settings: Sequence[int]) -> int:
    value = node.inputs[place] if place in settings else None
    return id(value) if value is not None else 0


def _look(node: ir.Node) -> tuple[Hashable, ...]:
    """Type, attributes, and how much is read and made."""
    attributes = sorted((name, str(found)) for name, found in node.attributes.items())
    return node.op_type, node.version, tuple(attributes), len(node.inputs), len(node.outputs)


def product_key(node: ir.Node, live: set[ir.Node]) -> Hashable | None:
    """What products of the same weight have in common; None for what is none."""
    if node.domain or node.op_type not in _PRODUCTS or node not in live:
        return None
    first, *rest = node.inputs
    if first is None or any(value is None or _depends(value, live) for value in rest):
        return None
    transposed = node.attributes.get("transA")
    if transposed is not None and transposed.as_int():
        return None
    return (*_look(node), *map(id, rest))


def _depends(value: ir.Value, live: set[ir.Node]) -> bool:
    """Whether a value depends on more than weights."""
    maker = value.producer()
    return maker in live if maker is not None else not value.is_initializer()


def weight_name(node: ir.Node) -> str:
    """The weight that a product reads, itself or behind operators on weights alone."""
    return next(_weights(node.inputs[1]), str(node.inputs[1] and node.inputs[1].name))


def _weights(value: ir.Value | None) -> Iterator[str]:
    if value is None:
        return
    maker = value.producer()
    if maker is None:
        yield str(value.name)
    else:
        for read in maker.inputs:
            yield from _weights(read)
