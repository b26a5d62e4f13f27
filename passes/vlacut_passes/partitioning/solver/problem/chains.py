"""Chains of changes of side: what hops cost, on a graph that shrinks with the variables.

A node of a chain graph has a variable; the depth of an assignment is the highest number of edges
with different values at their ends on a path. Variables may be merged freely; nodes may not, for a
path that leaves a variable and comes back counts twice. `ChainGraph.relabel` merges and drops nodes
and edges only where no depth changes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vlacut.tensor.numerics import Ints

_WORTH_SHRINKING = 0.7  # of the variables at the last time


@dataclass(frozen=True)
class Deepest:
    """The depth of an assignment, and a path that has it.

    Attributes:
        depth: changes on the path.
        variable: of every node.
        last: node of the path; -1 if there is no path.
        before: per node, the one before it on the best path to it, or -1.
    """

    depth: int
    variable: Ints
    last: int
    before: list[int]

    def path(self) -> Ints:
        """The variables along the path."""
        nodes: list[int] = []
        node = self.last
        while node >= 0:
            nodes.append(node)
            node = self.before[node]
        return squeezed(self.variable[nodes[::-1]])


@dataclass(frozen=True)
class ChainGraph:
    """A trip of a phase as the hops see it.

    Attributes:
        rate: seconds a change on the deepest chain costs in a control step.
        variable: of every node.
        tail, head: of every edge; the number of a tail is lower than that of its head.
        shrunk_at: how many variables there were when it was last shrunk.
    """

    rate: float
    variable: Ints
    tail: Ints
    head: Ints
    shrunk_at: int = sys.maxsize

    def deepest(self, x: Ints) -> Deepest:
        """A deepest path of an assignment: a longest of them."""
        if not len(self.variable):
            return Deepest(0, self.variable, -1, [])
        score, before = self._scores(x[self.variable].tolist())
        best = max(score)
        return Deepest(best >> 32, self.variable, score.index(best), before)

    def _scores(self, side: list[int]) -> tuple[list[int], list[int]]:
        """Per node, changes * 2**32 + edges on the best path to it, and the node before on it."""
        score, before = [0] * len(side), [-1] * len(side)
        for tail, head in self._edges:
            reached = score[tail] + (4294967297 if side[tail] != side[head] else 1)
            if reached > score[head]:
                score[head], before[head] = reached, tail
        return score, before

    @cached_property
    def _edges(self) -> list[tuple[int, int]]:
        """Edges as (tail, head), sorted by head."""
        order = np.argsort(self.head, kind="stable")
        return list(zip(self.tail[order].tolist(), self.head[order].tolist(), strict=True))

    def relabel(self, label: Ints) -> ChainGraph:
        """The graph with variable v called `label[v]`, shrunk if many were merged since it was."""
        size = int(label.max()) + 1
        if size > _WORTH_SHRINKING * self.shrunk_at:
            return replace(self, variable=label[self.variable])
        return self.renamed(label).shrunk(size)

    def renamed(self, label: Ints) -> ChainGraph:
        """The same, not shrunk: the next `relabel` that merges many variables does it."""
        return replace(self, variable=label[self.variable], shrunk_at=int(label.max()) + 2)

    def shrunk(self, size: int) -> ChainGraph:
        """The graph, of so many variables, without what makes no chain deeper: `_Shrinker`."""
        return self if size == self.shrunk_at else _Shrinker(self).graph(size)


def squeezed(path: Ints) -> Ints:
    """A path without its repetitions in a row: they change nothing."""
    keep = np.ones(len(path), dtype=bool)
    keep[1:] = path[1:] != path[:-1]
    return path[keep]


class _Shrinker:
    """Rules that keep the depth of every assignment.

    1. A node whose only predecessor has its variable is merged into it: every path to it comes
       through the predecessor, with the same number of changes.
    2. A node whose only successor has its variable is merged into it: every path that ends in the
       node can be extended at no change, and none is gained.
    3. An edge u -> w is dropped if there is a path u -> v -> w: by the triangle inequality it has
       as many changes.
    4. Of two nodes with one variable, a node whose predecessors and successors are among the
       other's is dropped: every path through it has a like through the other. Applied where both
       sets are equal.
    """

    def __init__(self, graph: ChainGraph) -> None:
        self._rate = graph.rate
        self._variable: list[int] = graph.variable.tolist()
        self._after: list[set[int]] = [set() for _ in self._variable]
        self._before: list[set[int]] = [set() for _ in self._variable]
        self._nodes = list(range(len(self._variable)))
        for tail, head in zip(graph.tail.tolist(), graph.head.tolist(), strict=True):
            self._after[tail].add(head)
            self._before[head].add(tail)

    def graph(self, size: int) -> ChainGraph:
        """Apply the rules until none applies; what is left, renumbered."""
        while self._merge_forward() + self._merge_backward() + self._drop_edges() + self._twins():
            self._forget()
        self._forget()
        nodes = self._nodes
        number = {node: index for index, node in enumerate(nodes)}
        edges = [(number[n], number[m]) for n in nodes for m in sorted(self._after[n])]
        ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
        variable = np.array([self._variable[node] for node in nodes], dtype=np.int64)
        return ChainGraph(self._rate, variable, ends[:, 0], ends[:, 1], size)

    def _forget(self) -> None:
        """Leave out the nodes without edges."""
        self._nodes = [node for node in self._nodes if self._after[node] or self._before[node]]

    def _merge_forward(self) -> int:
        merged = 0
        for node in self._nodes:
            before = self._before[node]
            if len(before) == 1:
                (into,) = before
                if self._variable[into] == self._variable[node]:
                    self._move(node, into)
                    merged += 1
        return merged

    def _merge_backward(self) -> int:
        merged = 0
        for node in reversed(self._nodes):
            if len(self._after[node]) == 1:
                (into,) = self._after[node]
                if self._variable[into] == self._variable[node]:
                    self._move(node, into)
                    merged += 1
        return merged

    def _move(self, node: int, into: int) -> None:
        """Give the node's edges to its neighbour `into`. Numbers still grow along edges."""
        before, after = self._before[node] - {into}, self._after[node] - {into}
        self._cut(node)
        for other in before:
            self._after[other].add(into)
            self._before[into].add(other)
        for other in after:
            self._before[other].add(into)
            self._after[into].add(other)

    def _cut(self, node: int) -> None:
        for other in self._before[node]:
            self._after[other].discard(node)
        for other in self._after[node]:
            self._before[other].discard(node)
        self._before[node], self._after[node] = set(), set()

    def _drop_edges(self) -> int:
        dropped = 0
        for head in self._nodes:
            before = self._before[head]
            if len(before) > 1:
                for tail in sorted(before):
                    if any(tail in self._before[middle] for middle in before if middle > tail):
                        before.discard(tail)
                        self._after[tail].discard(head)
                        dropped += 1
        return dropped

    def _twins(self) -> int:
        alike: dict[tuple[int, int, int], list[int]] = {}
        for node in self._nodes:
            before, after = self._before[node], self._after[node]
            if before or after:
                key = (self._variable[node], len(before), len(after))
                alike.setdefault(key, []).append(node)
        dropped = 0
        for nodes in alike.values():
            if len(nodes) > 1:
                dropped += self._drop_twins(nodes)
        return dropped

    def _drop_twins(self, nodes: list[int]) -> int:
        seen: set[tuple[frozenset[int], frozenset[int]]] = set()
        dropped = 0
        for node in nodes:
            key = frozenset(self._before[node]), frozenset(self._after[node])
            if key in seen:
                self._cut(node)
                dropped += 1
            seen.add(key)
        return dropped
