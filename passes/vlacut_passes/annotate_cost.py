"""annotate-cost: what every operator costs, and how long it takes on either side."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from vlacut.annotation import COST, KERNEL, MACHINES, SECONDS, UNPRICED, Machines, Seconds
from vlacut.cost import Cost, Kernel, Queue, device_seconds
from vlacut.errors import PassError
from vlacut.graphs import node_inputs, value_spec
from vlacut.hardware import load_device
from vlacut.program import Phase, Program
from vlacut_passes.cost.groups import Kernels, group_kernel, kernel_groups
from vlacut_passes.cost.operator import Operands, Operator
from vlacut_passes.cost.rules import work


@dataclass(frozen=True)
class AnnotateCost:
    """Write COST, KERNEL and SECONDS on every operator, UNPRICED and MACHINES on the program.

    COST and KERNEL are those of the operator on its own, by its rule in `vlacut_passes.cost`.
    SECONDS are its share of the kernel that its group is: see `vlacut.cost` for the time of a
    kernel, `vlacut_passes.cost.groups` for groups, `node_seconds` for shares. An operator that
    depends on weights alone is free: it is computed offline, and who reads it reads a weight. One
    without a rule is priced by its bytes and listed in UNPRICED as `[domain::]type`.

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
        MACHINES.put(program, Machines(edge, cloud))
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
_BRANCHING = ("If", "Loop", "Scan")


class _Pricer:
    """Prices the operators of one execution of a phase."""

    def __init__(self, edge: Queue, cloud: Queue, unpriced: set[str]) -> None:
        self._edge, self._cloud, self._unpriced = edge, cloud, unpriced

    def annotate(self, graph: ir.Graph, weights: set[ir.Value]) -> _Priced:
        """Price of a graph; `weights` are the values known to be weights, and grow."""
        operands = Operands(weights)
        kernels: dict[ir.Node, Kernel] = {}
        priced: dict[ir.Node, _Priced] = {}
        for node in graph:
            if all(value in weights for value in node_inputs(node)):
                weights.update(node.outputs)
                priced[node] = _FREE
            elif node.op_type in _BRANCHING and node.domain == "":
                priced[node] = self._bodies(node, weights)
            else:
                kernels[node] = self._kernel(operands.operator(node))
        fusions = {queue.device.stack.fusion for queue in (self._edge, self._cloud)}
        fused = {fusion: fuse(kernels, fusion) for fusion in fusions}
        edge, cloud = (
            node_seconds(kernels, fused[queue.device.stack.fusion], queue)
            for queue in (self._edge, self._cloud)
        )
        for node, kernel in kernels.items():
            KERNEL.put(node, kernel)
            priced[node] = _Priced(kernel.cost, Seconds(edge[node], cloud[node]))
        for node, price in priced.items():
            COST.put(node, price.cost)
            SECONDS.put(node, price.time)
        return sum(priced.values(), _FREE)

    def _kernel(self, operator: Operator) -> Kernel:
        done, node = work(operator), operator.node
        if not done.has_rule:
            self._unpriced.add(f"{node.domain}::{node.op_type}" if node.domain else node.op_type)
        return done.kernel

    def _bodies(self, node: ir.Node, weights: set[ir.Value]) -> _Priced:
        bodies = [
            self.annotate(body, weights | set(body.initializers.values())) for body in _bodies(node)
        ]
        if node.op_type == "If":
            return max(bodies, key=lambda body: body.time.edge)  # the dearer branch
        return bodies[0].times(_trips(node))


def fuse(kernels: Kernels, fusion: str) -> list[tuple[tuple[ir.Node, ...], Kernel]]:
    """Groups of operators of a graph, each with the kernel it is."""
    return [
        (nodes, group_kernel(nodes, kernels, fusion)) for nodes in kernel_groups(kernels, fusion)
    ]


def node_seconds(
    kernels: Kernels, groups: Iterable[tuple[tuple[ir.Node, ...], Kernel]], queue: Queue
) -> dict[ir.Node, float]:
    """Seconds of every operator of a graph on a device.

    A group takes the time of the one kernel it is. Its operators share it in the proportion of
    what they would take on their own, so that times add up over any part of a graph; a cut inside
    a group is priced as if both halves were still fused, too low by a launch and by what would
    have stayed on the chip, and pays for the crossing.
    """
    found: dict[ir.Node, float] = {}
    for nodes, kernel in groups:
        total = queue.seconds(kernel)
        if len(nodes) == 1:
            found[nodes[0]] = total
            continue
        alone = [device_seconds(kernels[node], queue.device, queue.working_set) for node in nodes]
        whole = sum(alone)
        found |= {
            node: total * own / whole for node, own in zip(nodes, alone, strict=True) if whole
        }
    return {node: found.get(node, 0.0) for node in kernels}


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
