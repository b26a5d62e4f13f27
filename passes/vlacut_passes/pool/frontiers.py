"""Frontiers: where a crossing could be inside the block it falls into.

A *boundary block* has an operator at an end of a dependency that crosses: a transformer block, or
what a top-level module holds outside of such. Its candidate frontiers are after each of its places
(a normalisation, an attention, a projection, an expansion): what is before is on the crossing's
upstream side, the rest downstream. The block's operators are taken in order, in every phase that it
occurs in, so a frontier may be of several tensors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vlacut.hardware import Side
from vlacut.ir.annotation import STRUCTURE
from vlacut.ir.dataflow import Dataflow
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.cut import Sides


@dataclass(frozen=True, eq=False)
class Block:
    """A transformer block, or what a top-level module holds outside of such.

    Attributes:
        name: its path.
        repeated: whether it is a transformer block.
        tasks: by phase, in order.
        places: of every task in it.
    """

    name: str
    repeated: bool
    tasks: Mapping[int, Sequence[int]]
    places: Mapping[int, str]

    @property
    def members(self) -> tuple[int, ...]:
        """Its tasks in all phases."""
        return tuple(task for tasks in self.tasks.values() for task in tasks)

    def weight_bytes(self, graph: CostGraph) -> int:
        """Of its distinct weights."""
        weights = {weight for task in self.members for weight in graph.tasks[task].weights}
        return sum(graph.weights[weight] for weight in weights)


@dataclass(frozen=True)
class Frontier:
    """A place in a block after which the other side goes on."""

    block: str
    place: str
    sides: Sides


def boundary_blocks(dataflow: Dataflow, sides: Sides) -> list[tuple[Block, Side]]:
    """The boundary blocks of a cut, each with the upstream side of a crossing at it."""
    found: dict[tuple[str, Side], None] = {}
    for use in dataflow.uses:
        if sides[use.producer] is not sides[use.consumer]:
            for task in (use.producer, use.consumer):
                node = dataflow.nodes[task]
                if node is not None:
                    found[STRUCTURE.get(node).block, sides[use.producer]] = None
    blocks = _blocks(dataflow)
    at = dict.fromkeys((blocks[path], upstream) for path, upstream in found)
    return list(at)


def frontiers(block: Block, upstream: Side, sides: Sides) -> Iterator[Frontier]:
    """The candidate frontiers in a block of a cut, from before its first place to behind its last.

    A phase that lacks a place has its frontier behind the place before.
    """
    ends = {phase: _ends(block, tasks) for phase, tasks in block.tasks.items()}
    depth = dict.fromkeys(block.tasks, 0)
    yield _frontier(block, "", upstream, sides, depth)
    for key in max(ends.values(), key=len):
        for phase, found in ends.items():
            depth[phase] = max(depth[phase], found.get(key, 0))
        yield _frontier(block, key[0], upstream, sides, depth)


def _ends(block: Block, tasks: Sequence[int]) -> dict[tuple[str, int], int]:
    """Where every stay at a place ends; a stay goes by the place and its number there."""
    ends: dict[tuple[str, int], int] = {}
    stays: Counter[str] = Counter()
    for index, (task, following) in enumerate(zip(tasks, [*tasks[1:], None], strict=True)):
        place = block.places[task]
        if following is None or block.places[following] != place:
            ends[place, stays[place]] = index + 1
            stays[place] += 1
    return ends


def _frontier(
    block: Block, place: str, upstream: Side, sides: Sides, depth: Mapping[int, int]
) -> Frontier:
    moved = list(sides)
    for phase, tasks in block.tasks.items():
        for index, task in enumerate(tasks):
            moved[task] = upstream if index < depth[phase] else upstream.other
    return Frontier(block.name, place, tuple(moved))


def _blocks(dataflow: Dataflow) -> dict[str, Block]:
    """The blocks by the paths that `annotate-structure` wrote; only repeated ones have places."""
    found = [(node, STRUCTURE.get(node)) if node else None for node in dataflow.nodes]
    repeated = {item[1].block for item in found if item and item[1].place}
    tasks: dict[str, dict[int, list[int]]] = {}
    places: dict[str, dict[int, str]] = {}
    name_of: dict[str, str] = {}
    for task, item in enumerate(found):
        if item is not None:
            path = item[1].block
            name = name_of[path] = path if path in repeated else path.partition(".")[0]
            tasks.setdefault(name, {}).setdefault(dataflow.phases[task], []).append(task)
            places.setdefault(name, {})[task] = item[1].place if path in repeated else path
    made = {
        name: Block(name, name in repeated, by_phase, places[name])
        for name, by_phase in tasks.items()
    }
    return {path: made[name] for path, name in name_of.items()}
