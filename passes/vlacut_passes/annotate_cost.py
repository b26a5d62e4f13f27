"""annotate-cost: what every operator costs, and how long it takes on either side."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from vlacut.annotation import COST, KERNEL, SECONDS, UNPRICED, Seconds
from vlacut.cost import Cost, Queue
from vlacut.errors import PassError
from vlacut.graphs import node_inputs, value_spec
from vlacut.hardware import load_device
from vlacut.program import Phase, Program
from vlacut_passes.cost.operator import Operands
from vlacut_passes.cost.rules import work


@dataclass(frozen=True)
class AnnotateCost:
    """Write COST and SECONDS on every operator, UNPRICED on the program.

    An operator takes max(compute, memory) + launch, see `vlacut.cost.seconds`, by its rule in
    `vlacut_passes.cost`. One that depends on weights alone is free: it is computed offline, and
    who reads it reads a weight. One without a rule is priced by its bytes and listed in UNPRICED
    as `[domain::]type`.

    Options:
        edge, cloud: names of devices, or TOML files.
    """

    name: ClassVar[str] = "annotate-cost"
    edge: str = "jetson-agx-orin"
    cloud: str = "a100"

    def run(self, program: Program) -> None:
        """Annotate. Raises HardwareError, or PassError naming an operator that makes no sense."""
        edge, cloud = load_device(self.edge), load_device(self.cloud)
        unpriced: set[str] = set()
        for phase in program.phases:
            graph, touched = phase.graph.graph, _working_set(phase, program)
            pricer = _Pricer(Queue(edge, touched), Queue(cloud, touched), unpriced)
            try:
                pricer.annotate(graph, set(graph.initializers.values()))
            except ValueError as error:
                raise PassError(f"phase {phase.name}: {error}") from error
        UNPRICED.put(program, tuple(sorted(unpriced)))


def _working_set(phase: Phase, program: Program) -> int:
    """Bytes of weights read between two executions of an operator of a phase."""
    phases = (phase,) if phase.trips > 1 else program.phases
    weights = {
        value.name: value for item in phases for value in item.graph.graph.initializers.values()
    }
    return sum(value_spec(value).nbytes for value in weights.values())


@dataclass(frozen=True)
class _Priced:
    cost: Cost
    time: Seconds

    def __add__(self, other: _Priced) -> _Priced:
        time = Seconds(self.time.edge + other.time.edge, self.time.cloud + other.time.cloud)
        return _Priced(self.cost + other.cost, time)

    def times(self, trips: int) -> _Priced:
        """Price of so many executions."""
        cost = Cost(*(trips * part for part in dataclasses.astuple(self.cost)))
        return _Priced(cost, Seconds(trips * self.time.edge, trips * self.time.cloud))


_FREE = _Priced(Cost(), Seconds(0.0, 0.0))


class _Pricer:
    """Prices the operators of one execution of a phase, in order."""

    def __init__(self, edge: Queue, cloud: Queue, unpriced: set[str]) -> None:
        self._edge, self._cloud, self._unpriced = edge, cloud, unpriced

    def annotate(self, graph: ir.Graph, weights: set[ir.Value]) -> _Priced:
        """Price of a graph; `weights` are the values known to be weights, and grow."""
        operands = Operands(weights)
        total = _FREE
        for node in graph:
            if all(value in weights for value in node_inputs(node)):
                weights.update(node.outputs)
                priced = _FREE
            else:
                priced = self._node(node, operands, weights)
            COST.put(node, priced.cost)
            SECONDS.put(node, priced.time)
            total += priced
        return total

    def _node(self, node: ir.Node, operands: Operands, weights: set[ir.Value]) -> _Priced:
        bodies = [self._body(body, weights) for body in _bodies(node)]
        if node.op_type == "If" and node.domain == "" and bodies:
            return max(bodies, key=lambda body: body.time.edge)  # the dearer branch
        if node.op_type in ("Loop", "Scan") and node.domain == "" and bodies:
            return bodies[0].times(_trips(node))
        done = work(operands.operator(node))
        if not done.has_rule:
            self._unpriced.add(f"{node.domain}::{node.op_type}" if node.domain else node.op_type)
        kernel = done.kernel
        KERNEL.put(node, kernel)
        times = Seconds(self._edge.seconds(kernel), self._cloud.seconds(kernel))
        return _Priced(kernel.cost, times)

    def _body(self, body: ir.Graph, weights: set[ir.Value]) -> _Priced:
        return self.annotate(body, weights | set(body.initializers.values()))


def _bodies(node: ir.Node) -> Iterable[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()


def _trips(node: ir.Node) -> int:
    """Trips of a Loop or Scan: a constant trip count, the length of what is scanned; else 1."""
    if node.op_type == "Scan":
        axes = node.attributes.get_ints("scan_input_axes", (0,))
        scanned = node.inputs[-1]
        return int(str(scanned.shape[axes[-1]])) if scanned and scanned.shape else 1
    count = node.inputs[0]
    known = ir.convenience.get_const_tensor(count) if count is not None else None
    return int(known.numpy().reshape(-1)[0]) if known is not None else 1
