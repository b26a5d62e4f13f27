"""The rule of operators that work on every element alone.

A rule proves, from shapes and axes, that the rows of an output depend on the same rows of what is
read and on nothing that differs between them; else it refuses.
"""

from __future__ import annotations

from vlacut_passes.packing.alike import (
    Alike,
    Feed,
    Refusal,
    Shape,
    Stack,
    Together,
    shape_of,
    with_rows,
)

ELEMENTWISE = frozenset(
    [
        "Abs",
        "Acos",
        "Acosh",
        "Add",
        "And",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "BitwiseAnd",
        "BitwiseNot",
        "BitwiseOr",
        "BitwiseXor",
        "Cast",
        "Ceil",
        "Celu",
        "Clip",
        "Cos",
        "Cosh",
        "Div",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "Greater",
        "GreaterOrEqual",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "IsInf",
        "IsNaN",
        "LeakyRelu",
        "Less",
        "LessOrEqual",
        "Log",
        "Max",
        "Mean",
        "Min",
        "Mish",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "PRelu",
        "Pow",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Sin",
        "Sinh",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Sub",
        "Sum",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
        "Where",
        "Xor",
    ]
)


def elementwise(alike: Alike) -> Together:
    """Operands are broadcast to each other as numpy does it."""
    outputs, lead = alike.outputs(), alike.lead
    axis = lead.axis + len(outputs[0]) - len(shape_of(lead.pieces[0]))
    if tuple(shape[axis] for shape in outputs) != alike.rows:
        raise Refusal(f"{alike.kind} repeats rows")
    feeds = tuple(
        broadcast(alike, place, axis, len(outputs[0])) if alike.has(place) else None
        for place in range(len(alike.nodes[0].inputs))
    )
    return Together(feeds, (axis,))


def broadcast(alike: Alike, place: int, axis: int, rank: int) -> Feed:
    """An operand of those that are broadcast to a rank, with rows in an axis of it."""
    if place in alike.joined:
        joined = alike.joined[place]
        if joined.axis + rank - len(shape_of(joined.pieces[0])) != axis:
            raise Refusal(f"{alike.kind} reads rows in two axes")
        if joined.rows != alike.rows:
            raise Refusal(f"{alike.kind} reads different numbers of rows")
        return joined
    values = alike.values(place)
    shapes = [shape_of(value) for value in values]
    own = axis - (rank - len(shapes[0]))  # the axis of the rows, in the operand
    shared = alike.shared(place)
    if shared is not None and (own < 0 or shapes[0][own] == 1):
        return shared
    return Stack(values, max(own, 0), tuple(_expanded(alike, shapes, own)))


def _expanded(alike: Alike, shapes: list[Shape], own: int) -> list[Shape]:
    """Shapes of operands with all rows written out, so that they can stand one behind the other."""
    found = []
    for shape, rows in zip(shapes, alike.rows, strict=True):
        full = shape if own >= 0 else (*(1,) * -own, *shape)
        at = max(own, 0)
        if full[at] not in (1, rows):
            raise Refusal(f"{alike.kind} reads other numbers of rows")
        found.append(with_rows(full, at, rows))
    at = max(own, 0)
    if len({with_rows(shape, at, 0) for shape in found}) > 1:
        raise Refusal(f"{alike.kind} reads operands of other shapes")
    return found
