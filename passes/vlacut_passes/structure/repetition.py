"""Blocks from repetition, where no names say.

The operators that read weights are the graph's *anchors*. Operators that an exporter shares, folds
or hoists out of some copies of a block are no anchors, so they do not disturb. Each anchor is
written as its operator, the shapes of its weights and the shape of its result. In their sequence,
this searches for the longest stretch that repeats at least three times with some period, each copy
reading what the one before made. Then it searches what is left on either side. A stretch can start
anywhere in the block. Of the starts with the most copies, it takes the one at whose borders the
fewest values are alive (the residual stream), and the last of those.

The other operators follow by dataflow. Between two anchors of one copy, they belong to that copy.
Between copies, the border is the last point where the fewest values are alive. Before the first
copy and behind the last, an operator belongs to the copy if its neighbour copy has the like.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from vlacut_passes.structure.view import View

_COPIES = 3
_PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose", "MatMulInteger", "QLinearMatMul")


@dataclass(frozen=True)
class Run:
    """Copies of a block that follow one another.

    Attributes:
        copies: operators of every copy, in order.
    """

    copies: tuple[tuple[ir.Node, ...], ...]


@dataclass(frozen=True)
class _Stretch:
    """Anchors [start, stop) repeat with a period."""

    start: int
    stop: int
    period: int

    @property
    def copies(self) -> int:
        return (self.stop - self.start) // self.period


def runs(view: View) -> tuple[Run, ...]:
    """Runs of repeated blocks of a phase, in order; no operator is in two."""
    anchors = [node for node in view.nodes if node in view.weights]
    finder = _Finder(view, anchors)
    return tuple(complete(view, finder.copies(found), view.nodes) for found in finder.stretches())


def complete(view: View, copies: Sequence[Sequence[ir.Node]], others: Iterable[ir.Node]) -> Run:
    """The run whose copies are known in part, in order, with those of the other operators in it."""
    return _Assignment(view, copies, others).run()


class _Finder:
    def __init__(self, view: View, anchors: Sequence[ir.Node]) -> None:
        self._view, self._anchors = view, anchors
        self._position = {node: at for at, node in enumerate(view.nodes)}
        self._alive = _alive(view, self._position)
        numbers: dict[object, int] = {}
        self._words = np.array(
            [numbers.setdefault(_word(view, node), len(numbers)) for node in anchors],
            dtype=np.int64,
        )
        self._products = np.array([node.op_type in _PRODUCTS for node in anchors])

    def stretches(self) -> Iterator[_Stretch]:
        yield from self._within(0, len(self._anchors))

    def copies(self, found: _Stretch) -> list[list[ir.Node]]:
        """Anchors of every copy."""
        step = found.period
        return [
            list(self._anchors[at : at + step])
            for at in range(found.start, found.start + found.copies * step, step)
        ]

    def _within(self, start: int, stop: int) -> Iterator[_Stretch]:
        best = self._best(start, stop)
        if best is not None:
            yield from self._within(start, best.start)
            yield best
            yield from self._within(best.start + best.copies * best.period, stop)

    def _best(self, start: int, stop: int) -> _Stretch | None:
        found = [item for item in self._candidates(start, stop) if item.copies >= _COPIES]
        found.sort(key=lambda item: (-item.copies * item.period, item.period, item.start))
        aligned = (self._align(item) for item in found)
        return next((item for item in aligned if self._is_chain(item)), None)

    def _candidates(self, start: int, stop: int) -> Iterator[_Stretch]:
        words = self._words[start:stop]
        for period in range(1, len(words) // _COPIES + 1):
            same = np.concatenate(([False], words[:-period] == words[period:], [False]))
            edges = np.flatnonzero(same[1:] != same[:-1])
            for low, high in edges.reshape(-1, 2):
                products = self._products[start + low : start + low + period]
                if high - low >= (_COPIES - 1) * period and products.sum() > 1:
                    yield _Stretch(int(start + low), int(start + high + period), period)

    def _align(self, found: _Stretch) -> _Stretch:
        """The same stretch from the start that suits its borders best."""
        shifts = range((found.stop - found.start) % found.period + 1)
        widths = [
            (self._border(found.start + shift + 2 * found.period)[1], -shift)
            for shift in shifts
            if found.start + shift + 2 * found.period < found.stop
        ]
        return _Stretch(found.start - min(widths)[1], found.stop, found.period)

    def _border(self, anchor: int) -> tuple[int, int]:
        """Where between an anchor and the one before the fewest values are alive, and how many."""
        low, high = (self._position[self._anchors[at]] for at in (anchor - 1, anchor))
        return _narrowest(self._alive, low, high)

    def _is_chain(self, found: _Stretch) -> bool:
        """Whether every copy reads what the one before made."""
        copies = self.copies(found)
        copy_of = {node: at for at, copy in enumerate(copies) for node in copy}
        latest: dict[ir.Node, int] = {}
        linked = [False] * len(copies)
        for node in self._position:
            before = max(
                (latest[item] for item in self._view.producers[node] if item in latest), default=-1
            )
            own = copy_of.get(node)
            if own is not None and before == own - 1:
                linked[own] = True
            if own is not None or before >= 0:
                latest[node] = before if own is None else own
        return all(linked[1:])


def _word(view: View, node: ir.Node) -> object:
    shapes = tuple(weight.shape for weight in view.weights[node])
    return node.domain, node.op_type, shapes, str(node.outputs[0].shape), node.outputs[0].dtype


def _alive(view: View, position: Mapping[ir.Node, int]) -> np.ndarray:
    """After every operator: how many values made so far are read later."""
    change = np.zeros(len(view.nodes) + 1, dtype=np.int64)
    for node, at in position.items():
        last = max(
            (position[item] for item in view.consumers[node] if item in position), default=at
        )
        change[at] += 1
        change[last] -= 1
    return np.cumsum(change)


def _narrowest(alive: np.ndarray, low: int, high: int) -> tuple[int, int]:
    """After which operator of [low, high) the fewest values are alive (the last such), how many."""
    back = int(np.argmin(alive[low:high][::-1]))
    return high - 1 - back, int(alive[high - 1 - back])


class _Assignment:
    """Gives every operator its copy, from the anchors of each."""

    def __init__(
        self, view: View, anchors: Sequence[Sequence[ir.Node]], others: Iterable[ir.Node]
    ) -> None:
        self._others = set(others)
        self._view, self._nodes = view, view.nodes
        self._position = {node: at for at, node in enumerate(view.nodes)}
        self._alive = _alive(view, self._position)
        self._anchors = anchors
        self._copy = {node: at for at, copy in enumerate(anchors) for node in copy}
        self._last = len(anchors) - 1

    def run(self) -> Run:
        self._between()
        self._feeders()
        self._like(0, 1)
        self._like(self._last, self._last - 1)
        copies: list[list[ir.Node]] = [[] for _ in self._anchors]
        for node in self._nodes:
            if node in self._copy:
                copies[self._copy[node]].append(node)
        return Run(tuple(tuple(copy) for copy in copies))

    def _between(self) -> None:
        """Operators that read from the run: by the copies they are between."""
        before, after = self._latest(), self._earliest()
        borders = [self._border(at) for at in range(self._last)]
        for node in self._nodes:
            low, high = before.get(node), after.get(node)
            if node in self._copy or node not in self._others or low is None:
                continue
            if low == self._last and high is None:
                continue
            beyond = high == low + 1 and self._position[node] > borders[low]
            self._copy[node] = low + beyond

    def _latest(self) -> dict[ir.Node, int]:
        """By operator: the latest copy it depends on."""
        found: dict[ir.Node, int] = {}
        for node in self._nodes:
            copies = [found[item] for item in self._view.producers[node] if item in found]
            copies += [self._copy[node]] if node in self._copy else []
            if copies:
                found[node] = max(copies)
        return found

    def _earliest(self) -> dict[ir.Node, int]:
        """By operator: the earliest copy that depends on it."""
        found: dict[ir.Node, int] = {}
        for node in reversed(self._nodes):
            copies = [found[item] for item in self._view.consumers[node] if item in found]
            copies += [self._copy[node]] if node in self._copy else []
            if copies:
                found[node] = min(copies)
        return found

    def _border(self, copy: int) -> int:
        low = max(self._position[node] for node in self._anchors[copy])
        high = min(self._position[node] for node in self._anchors[copy + 1])
        return _narrowest(self._alive, low, max(high, low + 1))[0]

    def _feeders(self) -> None:
        """Operators that read nothing of the run and serve one copy alone: not of the first."""
        for node in reversed(self._nodes):
            copies = {self._copy.get(item, 0) for item in self._view.consumers[node]}
            alone = len(copies) == 1 and min(copies) > 0
            if alone and node not in self._copy and node in self._others:
                self._copy[node] = min(copies)

    def _like(self, copy: int, model: int) -> None:
        """Into a copy at the end: what corresponds to the operators of its neighbour."""
        if len(self._anchors[copy]) != len(self._anchors[model]):
            return
        pairs = list(zip(self._anchors[copy], self._anchors[model], strict=True))
        done = set()
        while pairs:
            own, other = pairs.pop()
            if own in done:
                continue
            done.add(own)
            self._copy[own] = copy
            for mine, theirs in (*_inputs(own, other), *_outputs(own, other)):
                free = self._copy[mine] == copy if mine in self._copy else mine in self._others
                if free and self._copy.get(theirs) == model and _kind(mine) == _kind(theirs):
                    pairs.append((mine, theirs))


def _kind(node: ir.Node) -> tuple[str, str, str]:
    return node.domain, node.op_type, str(node.outputs[0].shape)


def _inputs(one: ir.Node, other: ir.Node) -> Iterator[tuple[ir.Node, ir.Node]]:
    """Makers of what two operators read at the same position."""
    for mine, theirs in zip(one.inputs, other.inputs, strict=False):
        makers = [value.producer() if value is not None else None for value in (mine, theirs)]
        if makers[0] is not None and makers[1] is not None:
            yield makers[0], makers[1]


def _outputs(one: ir.Node, other: ir.Node) -> Iterator[tuple[ir.Node, ir.Node]]:
    """Readers of two operators' results, of one kind and at the same position."""
    for mine, theirs in zip(one.outputs, other.outputs, strict=False):
        for reader, index in mine.uses():
            for peer, place in theirs.uses():
                if index == place and _kind(reader) == _kind(peer):
                    yield reader, peer
