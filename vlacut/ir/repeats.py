"""Repeats: blocks of operators that a graph has several times in a row, alike but for constants.

A loop in Python is unrolled when it is traced. Its trips are blocks of the same operators on the
same weights, in the same order; what differs from one to the next is a constant of the code (a
timestep), or something made before the loop for each trip (its noise). Layers of a network are
no such blocks, for each has weights of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from vlacut.ir.graphs import node_inputs
from vlacut.ir.rewriting import is_named_by_content

_MOST_LENGTHS = 24  # of blocks that are tried
_MOST_STARTS = 8  # where a block may begin, of one length
_FEWER = 3  # trips fewer than there are alike
MOST_LAG = 4  # trips that a value is handed on for
# Inputs of operators that have to be constants: sizes, axes and places in a shape.
_STATIC = {
    **{name: (1,) for name in ("Reshape", "Expand", "Squeeze", "Unsqueeze", "Tile", "Split")},
    **{name: (1,) for name in ("TopK", "CumSum", "Trilu", "OneHot")},
    **{f"Reduce{kind}": (1,) for kind in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2")},
    **{f"Reduce{kind}": (1,) for kind in ("LogSum", "LogSumExp", "SumSquare")},
    "Slice": (1, 2, 3, 4),
    "Pad": (1, 3),
    "Resize": (1, 2, 3),
    "Range": (0, 1, 2),
    "ConstantOfShape": (0,),
    "CenterCropPad": (1,),
    "Upsample": (1,),
}


@dataclass(frozen=True)
class Source:
    """Where an input of a block's operators comes from, the same way in every block.

    Attributes:
        kind: `same`, one value for all; `table`, one for each; `inside`, made in the block;
            `carried`, made in a block before.
        values: of `same` its one, of `table` one a block, of `carried` those of the first `lag`.
        node, output: of `inside` and `carried`: which operator of a block makes it.
        lag: of `carried`: how many blocks before.
    """

    kind: str
    values: tuple[ir.Value, ...] = ()
    node: int = 0
    output: int = 0
    lag: int = 0


SAME, TABLE, INSIDE, CARRIED = "same", "table", "inside", "carried"


@dataclass(frozen=True)
class Repeat:
    """Blocks of a graph that are trips of one loop.

    Attributes:
        start: number of the first operator in the graph's order.
        length: operators of a block.
        trips: blocks, one after the other.
        sources: of every input of every operator of a block; None for one that is left out.
    """

    start: int
    length: int
    trips: int
    sources: tuple[tuple[Source | None, ...], ...]

    @property
    def saved(self) -> int:
        """Operators that a loop has less than its trips."""
        return (self.trips - 1) * self.length

    def begins(self) -> dict[tuple[int, int], tuple[ir.Value, ...]] | None:
        """For every carried output of a trip, as (node, output), what stands for it before the
        first, the latest first; None where two operators begin with another.
        """
        found: dict[tuple[int, int], tuple[ir.Value, ...]] = {}
        for one in (one for row in self.sources for one in row if one is not None):
            if one.kind != CARRIED:
                continue
            key, history = (one.node, one.output), one.values[::-1]
            known = found.get(key, ())
            if any(first is not other for first, other in zip(known, history, strict=False)):
                return None
            found[key] = max(known, history, key=len)
        return found

    def block(self, nodes: Sequence[ir.Node], trip: int) -> Sequence[ir.Node]:
        """The operators of a trip."""
        first = self.start + trip * self.length
        return nodes[first : first + self.length]


def find_repeat(graph: ir.Graph, trips: int | None = None) -> Repeat | None:
    """The repeat that saves the most operators, of so many trips if that is told; None if there is
    none that reads a weight in each trip.
    """
    nodes = list(graph)
    keys = _numbered(map(_key, nodes))
    tried: list[tuple[int, int, int, int]] = []
    for length in _lengths(keys):
        for first, count in _runs(keys, length):
            tried.append(((count // length) * length, -length, first, count + length))
    place = {value: at for at, node in enumerate(nodes) for value in node.outputs} if tried else {}
    slot = {value: at for node in nodes for at, value in enumerate(node.outputs)} if tried else {}
    for _, negative, first, count in sorted(tried, reverse=True):
        found = _Blocks(graph, nodes, -negative, place, slot).find(first, count, trips)
        if found is not None:
            return found
    return None


def _key(node: ir.Node) -> Hashable:
    """What is the same of an operator in every trip."""
    attributes = tuple(sorted((name, _text(one)) for name, one in node.attributes.items()))
    outputs = tuple((str(value.dtype), str(value.shape)) for value in node.outputs)
    static = _STATIC.get(node.op_type, ())
    inputs = tuple(_input(value, place in static) for place, value in enumerate(node.inputs))
    return node.domain, node.op_type, attributes, inputs, outputs


def _text(attribute: ir.Attr) -> str:
    if attribute.type == ir.AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        strings = tensor.dtype == ir.DataType.STRING
        return str(tensor.numpy().tolist() if strings else tensor.tobytes())
    return str(attribute.value)


def _input(value: ir.Value | None, static: bool) -> Hashable:
    if value is None:
        return None
    spec = str(value.dtype), str(value.shape)
    if not value.is_initializer():
        return spec
    if static or not is_named_by_content(value):
        return value.name
    return ("constant", *spec)


def _numbered(keys: Iterator[Hashable]) -> np.ndarray:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _lengths(keys: np.ndarray) -> list[int]:
    """Distances at which many operators have their like, the commonest first."""
    places: dict[int, list[int]] = {}
    for place, key in enumerate(keys.tolist()):
        places.setdefault(key, []).append(place)
    votes = Counter(two - one for found in places.values() for one, two in pairwise(found))
    return [length for length, _ in votes.most_common(_MOST_LENGTHS)]


def _runs(keys: np.ndarray, length: int) -> Iterator[tuple[int, int]]:
    """Where operators are like those `length` further on, for at least a block: start, count."""
    alike = np.concatenate(([False], keys[:-length] == keys[length:], [False]))
    edges = np.flatnonzero(alike[1:] != alike[:-1])
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if last - first >= length:
            yield first, last - first


class _Blocks:
    """Blocks of one length in a graph."""

    def __init__(
        self,
        graph: ir.Graph,
        nodes: Sequence[ir.Node],
        length: int,
        place: Mapping[ir.Value, int],
        slot: Mapping[ir.Value, int],
    ) -> None:
        """`place` has the number of the operator that makes a value, `slot` which output it is."""
        self._graph, self._nodes, self._length = graph, nodes, length
        self._place, self._slot = place, slot

    def find(self, first: int, count: int, trips: int | None) -> Repeat | None:
        """The best repeat among operators that are alike at this length."""
        most = count // self._length
        numbers = range(most, max(1, most - _FEWER), -1) if trips is None else [trips]
        for number in numbers:
            spare = count - number * self._length
            if spare < 0:
                continue
            for start in self._starts(first, spare):
                found = self._at(start, number)
                if found is not None:
                    return found
        return None

    def _starts(self, first: int, spare: int) -> list[int]:
        """Where the first block may begin: those first that hand the fewest elements on."""
        begin, end = first + self._length, first + spare + self._length
        handed = np.zeros(end - begin + 2, np.int64)
        for place in range(first, end):
            for value in self._nodes[place].outputs:
                last = max((self._reader(use.node) for use in value.uses()), default=-1)
                low, high = max(place + 1, begin), min(last, end)
                if low <= high:
                    handed[low - begin] += _size(value)
                    handed[high - begin + 1] -= _size(value)
        order = np.argsort(np.cumsum(handed[:-1]), kind="stable")
        return [first + int(at) for at in order[:_MOST_STARTS]]

    def _at(self, start: int, trips: int) -> Repeat | None:
        sources: list[tuple[Source | None, ...]] = []
        weights = False
        for offset in range(self._length):
            rows = [self._nodes[start + trip * self._length + offset] for trip in range(trips)]
            if any(len(node_inputs(node)) != len({*node.inputs} - {None}) for node in rows[:1]):
                return None  # it has graphs of its own, which capture values
            made: list[Source | None] = []
            for values in zip(*(node.inputs for node in rows), strict=True):
                if all(value is None for value in values):
                    made.append(None)
                    continue
                source = self._source(values, start, trips)
                if source is None:
                    return None
                weights |= source.kind == SAME and _is_weight(source.values[0])
                made.append(source)
            sources.append(tuple(made))
        found = Repeat(start, self._length, trips, tuple(sources))
        alike = weights and found.begins() is not None
        return found if alike and self._read_behind(found) else None

    def _source(self, values: tuple[ir.Value | None, ...], start: int, trips: int) -> Source | None:
        """Where one input comes from; None if not the same way in every block."""
        given = [value for value in values if value is not None]
        if len(given) < trips:
            return None
        if all(value is given[0] for value in given) and self._block(given[0], start, trips) < 0:
            return Source(SAME, (given[0],))
        where = [self._block(value, start, trips) for value in given]
        if all(block < 0 for block in where):
            return Source(TABLE, tuple(given)) if _is_table(given) else None
        lag = next((trip - block for trip, block in enumerate(where) if block >= 0), 0)
        if not 0 <= lag <= MOST_LAG or any(block >= 0 for block in where[:lag]):
            return None
        makers = (
            {
                (self._place[value] - start - block * self._length, self._slot[value], trip - block)
                for trip, (value, block) in enumerate(zip(given, where, strict=True))
                if trip >= lag
            }
            if all(block >= 0 for block in where[lag:])
            else set()
        )
        if len(makers) != 1:
            return None
        ((node, output, lag),) = makers
        if lag == 0:
            return Source(INSIDE, (), node, output)
        return Source(CARRIED, tuple(given[:lag]), node, output, lag)

    def _block(self, value: ir.Value, start: int, trips: int) -> int:
        """The block that makes a value; -1 if it is there before."""
        place = self._place.get(value, -1)
        if place < start:
            return -1
        return (place - start) // self._length

    def _read_behind(self, found: Repeat) -> bool:
        """Whether all that is read behind the blocks is of the last one."""
        end = found.start + found.trips * found.length
        last = end - found.length
        outputs = set(self._graph.outputs)
        for node in self._nodes[found.start : last]:
            for value in node.outputs:
                if value in outputs or any(self._reader(use.node) >= end for use in value.uses()):
                    return False
        return True

    def _reader(self, node: ir.Node) -> int:
        return self._place[node.outputs[0]] if node.outputs[0] in self._place else len(self._nodes)


def _is_weight(value: ir.Value) -> bool:
    return value.is_initializer() and not is_named_by_content(value)


def _is_table(values: Sequence[ir.Value]) -> bool:
    """Whether values of one type and shape can be rows of a table."""
    if any(value.shape is None or not value.shape.is_static() for value in values):
        return False
    if len({(value.dtype, tuple(value.shape.numpy())) for value in values}) > 1:  # type: ignore[union-attr]
        return False
    constants = [value.is_initializer() for value in values]
    return all(map(is_named_by_content, values)) if any(constants) else True


def _size(value: ir.Value) -> int:
    if value.shape is None or not value.shape.is_static():
        return 1
    return int(np.prod(value.shape.numpy()))
