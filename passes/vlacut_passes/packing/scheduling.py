"""The order in which operators are joined.

Operators are put in an order, as a list scheduler does. What can be joined waits for its like, and
all others go first; so whatever is joined depends on nothing that comes later. A product waits for
the other products of its weight, an operator that reads a piece of what is joined for those that
read the other pieces. Where nothing else is left, those go alone that wait in vain: first what
works row by row, then, of attention, who is there of those that are alike, then, of products,
those that are most.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from dataclasses import replace

import onnx_ir as ir

from vlacut.ir.graphs import node_inputs, operators
from vlacut_passes.packing.alike import Alike, Joined, Refusal
from vlacut_passes.packing.attending import slot_key, slots
from vlacut_passes.packing.joining import Joining
from vlacut_passes.packing.likeness import (
    Packed,
    joined_inputs,
    product_key,
    row_key,
    weight_name,
)
from vlacut_passes.packing.rules import ROW_BY_ROW, product

_ORDER = "they depend on one another"


def pack_graph(graph: ir.Graph, attention: bool = False) -> Packed:
    """Join, in place, products of the same weight, and what works row by row between them; with
    `attention`, also that of instances of the same shapes, see `attending`.
    """
    schedule = _Schedule(graph, attention)
    if schedule.shared:
        schedule.run()
    return schedule.packed


class _Schedule:
    def __init__(self, graph: ir.Graph, attention: bool) -> None:
        self.packed, self._attention = Packed(), attention
        self._nodes = list(graph)
        self._position = {node: at for at, node in enumerate(self._nodes)}
        self._live = set(operators(graph))
        self._key = {node: product_key(node, self._live) for node in self._nodes}
        count = Counter(key for key in self._key.values() if key is not None)
        self.shared = {key: many for key, many in count.items() if many > 1}
        self._joining = Joining(graph)
        self._readers: dict[ir.Node, list[ir.Node]] = {node: [] for node in self._nodes}
        self._awaits: dict[ir.Node, int] = {}
        for node in self._nodes:
            makers = {value.producer() for value in node_inputs(node)} & self._position.keys()
            self._awaits[node] = len(makers)
            for maker in makers:
                assert maker is not None
                self._readers[maker].append(node)
        self._ready = [at for at, node in enumerate(self._nodes) if not self._awaits[node]]
        self._products: dict[Hashable, list[ir.Node]] = {}
        self._rows: dict[Hashable, dict[int, deque[ir.Node]]] = {}
        self._slots: dict[Hashable, list[ir.Node]] = {}

    def run(self) -> None:
        """Put every operator in order, and leave the graph in it."""
        while self._ready or self._products or self._rows or self._slots:
            while self._ready:
                self._place(self._nodes[heapq.heappop(self._ready)])
            self._release()
        self._joining.finish()

    def _place(self, node: ir.Node) -> None:
        key = self._key[node]
        if key in self.shared:
            waiting = self._products.setdefault(key, [])
            waiting.append(node)
            if len(waiting) == self.shared[key]:
                self._join_products(key)
            return
        found = row_key(node, self._joining.piece) if node in self._live else None
        if found is None:
            slot = slot_key(node, self._joining.piece) if self._attention else None
            if slot is None:
                self._go([node])
            else:
                self._slots.setdefault(slot, []).append(node)
            return
        row, index, joined = found
        queues = self._rows.setdefault(row, {})
        queues.setdefault(index, deque()).append(node)
        if len(queues) == len(joined.pieces):
            nodes = tuple(queues[at].popleft() for at in range(len(joined.pieces)))
            self._drop_empty(row)
            self._join_rows(nodes)

    def _drop_empty(self, key: Hashable) -> None:
        left = {at: queue for at, queue in self._rows[key].items() if queue}
        if left:
            self._rows[key] = left
        else:
            del self._rows[key]

    def _release(self) -> None:
        """Let somebody go who waits in vain."""
        if self._rows:
            waiting = {
                key: [node for queue in queues.values() for node in queue]
                for key, queues in self._rows.items()
            }
            key = min(waiting, key=lambda one: min(map(self._position.__getitem__, waiting[one])))
            del self._rows[key]
            for node in sorted(waiting[key], key=self._position.__getitem__):
                self._alone(node, f"{node.op_type}: the instances differ here")
        elif self._slots:
            key = min(self._slots, key=lambda one: self._position[self._slots[one][0]])
            self._join_slots(self._slots.pop(key))
        elif self._products:
            self._join_products(max(self._products, key=self._rank))

    def _join_slots(self, nodes: Sequence[ir.Node]) -> None:
        if len(nodes) == 1:
            self._alone(nodes[0], "MatMul of what only this instance has in these shapes")
            return
        alike = Alike(tuple(sorted(nodes, key=self._position.__getitem__)), {})
        self._joining.join(alike, slots(alike.nodes))
        before, after = self.packed.slots
        self.packed.slots = before + len(nodes), after + 1
        self._went(nodes)

    def _rank(self, key: Hashable) -> tuple[int, int]:
        nodes = self._products[key]
        return len(nodes), -min(map(self._position.__getitem__, nodes))

    def _join_products(self, key: Hashable) -> None:
        nodes = self._products.pop(key)
        weight = str(weight_name(nodes[0]))
        if len(nodes) < self.shared[key]:
            self.packed.apart.setdefault(weight, _ORDER)
        self.shared[key] -= len(nodes)
        if len(nodes) == 1:
            self._go(nodes)
            return
        alike = Alike(*self._in_rows(nodes))
        try:
            together = product(alike)
        except Refusal as refusal:
            self.packed.apart[weight] = str(refusal)
            self._go(nodes)
            return
        self._joining.join(alike, together)
        self.packed.products.append((weight, len(nodes)))
        self._went(nodes)

    def _in_rows(self, nodes: Sequence[ir.Node]) -> tuple[tuple[ir.Node, ...], dict[int, Joined]]:
        """Products in the order of their rows, if what they read is all of what is joined."""
        found = [self._joining.piece.get(node.inputs[0]) for node in nodes]  # type: ignore[arg-type]
        if all(one is not None and one[0] is found[0][0] for one in found):  # type: ignore[index]
            places = [one[1] for one in found if one is not None]
            joined = found[0][0]  # type: ignore[index]
            if sorted(places) == list(range(len(joined.pieces))):
                return tuple(nodes[places.index(at)] for at in range(len(nodes))), {0: joined}
        return tuple(sorted(nodes, key=self._position.__getitem__)), {}

    def _join_rows(self, nodes: tuple[ir.Node, ...]) -> None:
        read = joined_inputs(nodes[0], self._joining.piece)
        alike = Alike(nodes, {place: joined for place, (joined, _) in read.items()})
        try:
            together = ROW_BY_ROW[alike.kind](alike)
        except Refusal as refusal:
            for node in nodes:
                self._alone(node, str(refusal))
            return
        stays = alike.lead.slots and not any(together.axes)
        self._joining.join(alike, replace(together, slots=stays))
        before, after = self.packed.operators
        self.packed.operators = before + len(nodes), after + 1
        self._went(nodes)

    def _alone(self, node: ir.Node, why: str) -> None:
        self.packed.single[why] += 1
        self._go([node])

    def _go(self, nodes: Sequence[ir.Node]) -> None:
        for node in nodes:
            self._joining.keep(node)
        self._went(nodes)

    def _went(self, nodes: Sequence[ir.Node]) -> None:
        for node in nodes:
            for reader in self._readers[node]:
                self._awaits[reader] -= 1
                if not self._awaits[reader]:
                    heapq.heappush(self._ready, self._position[reader])
