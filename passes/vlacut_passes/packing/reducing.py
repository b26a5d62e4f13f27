"""Rules of operators that look along an axis: sums, softmax, normalisations, and rounding."""

from __future__ import annotations

from vlacut_passes.packing.alike import Alike, Feed, Refusal, Together, shape_of

NORMALISING = frozenset(["LayerNormalization", "RMSNormalization"])
SOFTMAX = frozenset(["Softmax", "LogSoftmax", "Hardmax"])
REDUCING = frozenset(
    [
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
    ]
)
CHOOSING = frozenset(["ArgMax", "ArgMin"])


def row_axis(alike: Alike) -> tuple[int, int]:
    """The axis of the rows of the first operand, which is joined, and its rank."""
    if 0 not in alike.joined:
        raise Refusal(f"{alike.kind} has no rows in its first operand")
    return alike.joined[0].axis, len(shape_of(alike.joined[0].pieces[0]))


def shared_rest(alike: Alike) -> tuple[Feed, ...]:
    """The joined first operand, and others that have to be the same for all."""
    rest: list[Feed] = []
    for place in range(1, len(alike.nodes[0].inputs)):
        shared = alike.shared(place) if alike.has(place) else None
        if alike.has(place) and shared is None:
            raise Refusal(f"{alike.kind} has other parameters")
        rest.append(shared)
    return (alike.joined[0], *rest)


def normalising(alike: Alike) -> Together:
    """Statistics over the axes from one on; scale and shift are the same for all."""
    axis, rank = row_axis(alike)
    first = alike.attribute("axis", -1) % rank
    if axis >= first:
        raise Refusal(f"{alike.kind} normalises over rows")
    return Together(shared_rest(alike), (axis,) * len(alike.nodes[0].outputs))


def along_axis(alike: Alike) -> Together:
    """Softmax and its kin, over one axis."""
    axis, rank = row_axis(alike)
    if alike.attribute("axis", -1) % rank == axis:
        raise Refusal(f"{alike.kind} is over rows")
    return Together((alike.joined[0],), (axis,))


def reducing(alike: Alike) -> Together:
    """Sums and their kin, over axes that are an input or an attribute."""
    axis, rank = row_axis(alike)
    if alike.has(1):
        axes = alike.numbers(1)
    else:
        found = alike.nodes[0].attributes.get("axes")
        axes = tuple(found.as_ints()) if found is not None else ()
    gone = {one % rank for one in axes}
    if not gone or axis in gone:
        raise Refusal(f"{alike.kind} is over rows")
    kept = alike.attribute("keepdims", 1)
    lower = axis if kept else axis - sum(one < axis for one in gone)
    return Together(shared_rest(alike), (lower,))


def choosing(alike: Alike) -> Together:
    """The place of the largest or least, along an axis."""
    axis, rank = row_axis(alike)
    over = alike.attribute("axis", 0) % rank
    if over == axis:
        raise Refusal(f"{alike.kind} is over rows")
    lower = axis - 1 if over < axis and not alike.attribute("keepdims", 1) else axis
    return Together((alike.joined[0],), (lower,))


def rounding(alike: Alike) -> Together:
    """To fewer bits and back: one scale for all, or one for each entry of another axis."""
    axis, rank = row_axis(alike)
    scale = alike.shared(1)
    if scale is None:
        raise Refusal(f"{alike.kind} has another scale in each instance")
    if shape_of(scale) not in ((), (1,)) and (
        len(shape_of(scale)) != 1 or alike.attribute("axis", 1) % rank == axis
    ):
        raise Refusal(f"{alike.kind} has a scale for each row")
    return Together(shared_rest(alike), (axis,))
