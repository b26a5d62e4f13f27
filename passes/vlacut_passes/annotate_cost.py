"""annotate-cost: what every operator costs, and how long it takes on either side."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import onnx_ir as ir

from vlacut.errors import PassError
from vlacut.hardware import Side, load_device
from vlacut.ir.annotation import (
    COST,
    KERNEL,
    LOOP_TRIPS,
    MACHINES,
    SECONDS,
    TYPES,
    UNPRICED,
    Machines,
    Seconds,
)
from vlacut.ir.graphs import node_inputs, value_spec
from vlacut.ir.offline import is_repeatable, offline
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Phase, Program, copied
from vlacut.pricing.roofline import Cost, Kernel, Queue, device_seconds
from vlacut_passes.cost.codes import is_unpacked_where_read
from vlacut_passes.cost.groups import Kernels, group_kernel, kernel_groups
from vlacut_passes.cost.operator import Operands, Operator
from vlacut_passes.cost.rules import work


@dataclass(frozen=True)
class AnnotateCost:
    """Write COST, KERNEL and SECONDS on every operator, UNPRICED, MACHINES, TYPES on the program.

    COST and KERNEL are those of the operator on its own, by its rule in `vlacut_passes.cost`.
    SECONDS are the operator's share of its group's kernel: see `vlacut.pricing.roofline` for the
    time of a kernel, `vlacut_passes.cost.groups` for groups, `node_seconds` for shares. A value
    that depends only on weights counts as a weight for its readers. Making it is free if it is made
    once, by the rule of `vlacut.ir.offline` or by a compiler of whole graphs. Otherwise its first
    reader has the seconds, as it is cloned to its readers. A product of a weight in 4 bits reads
    the codes, and unpacking is part of it. An operator without a rule is priced by its bytes, and
    listed in UNPRICED as `[domain::]type`.

    Options:
        edge, cloud: names of devices, or TOML files.
        edge_types, cloud_types: element types that a side lacks, each with the one that it computes
            in instead, `bfloat16:float32`, with `;` between. Its seconds are those of the program
            in that type, and what crosses is converted at its border (`vlacut.pricing.border`).
    """

    name: ClassVar[str] = "annotate-cost"
    edge: str = "jetson-agx-orin"
    cloud: str = "a100"
    edge_types: str = ""
    cloud_types: str = ""

    def run(self, program: Program) -> None:
        """Annotate. Raises HardwareError, or PassError naming an operator that makes no sense."""
        types = {Side.EDGE: _types(self.edge_types), Side.CLOUD: _types(self.cloud_types)}
        self._annotate(program)
        for side in Side:
            if types[side]:
                self._take_seconds(program, side, types[side])
        TYPES.put(program, types)

    def _take_seconds(self, program: Program, side: Side, types: Mapping[str, str]) -> None:
        """Let a side take as long as it takes in the types that it computes in."""
        made = copied(program)
        for source, target in types.items():
            parse_pipeline(f"convert-types{{source={source} target={target}}}").run(made)
        self._annotate(made)
        for phase, other in zip(program.phases, made.phases, strict=True):
            for node, there in zip(phase.model.graph, other.model.graph, strict=True):
                own, found = SECONDS.find(node), SECONDS.find(there)
                if own is not None and found is not None:
                    found = Seconds(0.0, 0.0) if _casts_to_the_same(there) else found
                    SECONDS.put(node, replace(own, **{side.value: getattr(found, side.value)}))

    def _annotate(self, program: Program) -> None:
        edge, cloud = load_device(self.edge), load_device(self.cloud)
        unpriced: set[str] = set()
        for phase in program.phases:
            graph, touched = phase.model.graph, _working_set(phase, program)
            pricer = _Pricer(Queue(edge, touched), Queue(cloud, touched), unpriced)
            try:
                once = offline(graph).once
                pricer.annotate(graph, set(graph.initializers.values()), once)
            except ValueError as error:
                raise PassError(f"phase {phase.name}: {error}") from error
        MACHINES.put(program, Machines(edge, cloud))
        UNPRICED.put(program, tuple(sorted(unpriced)))


def _types(text: str) -> dict[str, str]:
    """The types that an option lists. Raises PassError if it does not parse."""
    found = {}
    for item in filter(None, text.split(";")):
        source, _, target = item.partition(":")
        if not (source and target):
            raise PassError(f"annotate-cost: types {text!r}: write bfloat16:float32")
        found[source] = target
    return found


def _casts_to_the_same(node: ir.Node) -> bool:
    """Whether an operator is a cast that executors drop."""
    given = node.inputs[0] if node.op_type == "Cast" and node.domain == "" else None
    return given is not None and given.dtype == node.outputs[0].dtype


def _working_set(phase: Phase, program: Program) -> int:
    """Bytes of weights read between two executions of an operator of a phase."""
    phases = (phase,) if phase.trips > 1 else program.phases
    weights = {
        value.name: value for item in phases for value in item.model.graph.initializers.values()
    }
    return sum(value_spec(value).nbytes for value in weights.values())


@dataclass(frozen=True)
class _Priced:
    cost: Cost
    time: Seconds

    def __add__(self, other: _Priced) -> _Priced:
        return _Priced(self.cost + other.cost, _sum(self.time, other.time))

    def times(self, trips: float) -> _Priced:
        """Price of so many executions."""
        cost = Cost(*(round(trips * part) for part in dataclasses.astuple(self.cost)))
        return _Priced(cost, Seconds(trips * self.time.edge, trips * self.time.cloud))


def _sum(one: Seconds, other: Seconds) -> Seconds:
    return Seconds(one.edge + other.edge, one.cloud + other.cloud)


_FREE = _Priced(Cost(), Seconds(0.0, 0.0))
_BRANCHING = ("If", "Loop", "Scan")


class _Pricer:
    """Prices the operators of one execution of a phase."""

    def __init__(self, edge: Queue, cloud: Queue, unpriced: set[str]) -> None:
        self._edge, self._cloud, self._unpriced = edge, cloud, unpriced

    def annotate(
        self, graph: ir.Graph, weights: set[ir.Value], once: Container[ir.Node] = ()
    ) -> _Priced:
        """Price of a graph.

        Args:
            graph: to annotate.
            weights: values known to depend on weights alone; grows.
            once: operators that do not run at every step.
        """
        operands = Operands(weights)
        kernels: dict[ir.Node, Kernel] = {}
        priced: dict[ir.Node, _Priced] = {}
        again: set[ir.Node] = set()  # on weights alone, and yet run at every step
        for node in graph:
            if is_repeatable(node) and all(value in weights for value in node_inputs(node)):
                weights.update(node.outputs)
                again |= set() if node in once else {node}
            if node in once or is_unpacked_where_read(node):
                priced[node] = _FREE
            elif node.op_type in _BRANCHING and node.domain == "":
                priced[node] = self._bodies(node, weights)
            else:
                kernels[node] = self._kernel(operands.operator(node))
        priced |= self._price(kernels, again)
        total = sum(priced.values(), _FREE)
        _charge_readers(graph, priced, again)
        for node, price in priced.items():
            COST.put(node, price.cost)
            SECONDS.put(node, price.time)
        return total

    def _price(self, kernels: Kernels, again: Container[ir.Node]) -> dict[ir.Node, _Priced]:
        """Write the kernels of operators, and say what they cost."""
        fusions = {queue.device.stack.fusion for queue in (self._edge, self._cloud)}
        fused = {fusion: fuse(_each_step(kernels, again, fusion), fusion) for fusion in fusions}
        edge, cloud = (
            node_seconds(kernels, fused[queue.device.stack.fusion], queue)
            for queue in (self._edge, self._cloud)
        )
        for node, kernel in kernels.items():
            KERNEL.put(node, kernel)
        return {
            node: _Priced(kernel.cost, Seconds(edge[node], cloud[node]))
            for node, kernel in kernels.items()
        }

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


def _each_step(kernels: Kernels, again: Container[ir.Node], fusion: str) -> Kernels:
    """The operators that a device runs at every step.

    A compiler of whole graphs makes what depends on weights alone once, however large that is.
    """
    if fusion != "engine":
        return kernels
    return {node: kernel for node, kernel in kernels.items() if node not in again}


def _charge_readers(
    graph: ir.Graph, priced: dict[ir.Node, _Priced], again: Container[ir.Node]
) -> None:
    """Let the first that reads what an operator on weights alone makes have its seconds.

    Such an operator is no task of the dataflow, unless it makes an output.
    """
    reader: dict[ir.Value, ir.Node] = {}
    for node in graph:
        for value in node_inputs(node):
            reader.setdefault(value, node)
    outputs = set(graph.outputs)
    for node in (node for node in graph if node in again):
        readers = [reader[value] for value in node.outputs if value in reader]
        if readers and not outputs.intersection(node.outputs):
            own, other = priced[node], priced[readers[0]]
            priced[node] = replace(own, time=_FREE.time)
            priced[readers[0]] = replace(other, time=_sum(own.time, other.time))


def fuse(kernels: Kernels, fusion: str) -> list[tuple[tuple[ir.Node, ...], Kernel]]:
    """Groups of operators of a graph, each with the kernel it is."""
    return [
        (nodes, group_kernel(nodes, kernels, fusion)) for nodes in kernel_groups(kernels, fusion)
    ]


def node_seconds(
    kernels: Kernels, groups: Iterable[tuple[tuple[ir.Node, ...], Kernel]], queue: Queue
) -> dict[ir.Node, float]:
    """Seconds of every operator of a graph on a device.

    A group takes the time of its one kernel. Its operators share that time in proportion to what
    each would take on its own, so times add up over any part of a graph. A cut inside a group is
    priced as if both halves were still fused, plus the crossing. That is too low by a launch, and
    by the bytes that would have stayed on the chip.
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


def _trips(node: ir.Node) -> float:
    """Trips of a Loop or Scan: those that a pass expects, a constant trip count, the length of what
    is scanned; else 1.
    """
    expected = LOOP_TRIPS.find(node)
    if expected is not None:
        return expected
    if node.op_type == "Scan":
        axes = node.attributes.get_ints("scan_input_axes", (0,))
        scanned = node.inputs[-1]
        return int(str(scanned.shape[axes[-1]])) if scanned and scanned.shape else 1
    count = node.inputs[0]
    known = ir.convenience.get_const_tensor(count) if count is not None else None
    return int(known.numpy().reshape(-1)[0]) if known is not None else 1
