"""Random small programs in normal form: branches, several phases, loops, shared weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from support.cutting import write_cuts
from vlacut.compiler.target import Target
from vlacut.hardware import Side
from vlacut.ir.annotation import SECONDS, Seconds
from vlacut.ir.dataflow import Dataflow, trace_dataflow
from vlacut.ir.graphs import operators
from vlacut.ir.program import Phase, Program
from vlacut.ir.state import State
from vlacut.pricing.cost_graph import CostGraph
from vlacut.tensor import TensorSpec

_WIDTH = 8
_UNARY = ("Tanh", "Sigmoid", "Neg", "Abs")
_BINARY = ("Add", "Mul", "Sub", "Max")


def random_program(seed: int, phases: int = 3) -> Program:
    """A program of `phases` phases, some of which loop, on two observations of 8 floats."""
    numbers = np.random.default_rng(seed)
    observed = ("image", "state")
    made: list[Phase] = []
    known = list(observed)
    for index in range(phases):
        phase = _random_phase(numbers, index, known)
        made.append(phase)
        known += [name for name in phase.output_names if name not in known]
    action = made[-1].output_names[0]
    return Program(
        f"random{seed}",
        tuple(made),
        tuple(TensorSpec(name, "float32", (1, _WIDTH)) for name in observed),
        (TensorSpec(action, "float32", (1, _WIDTH)),),
    )


def random_stateful(seed: int, phases: int = 3) -> Program:
    """As `random_program`, with up to three states, and sometimes a phase that runs on reset.

    A state is bounded, so that its numbers stay numbers over many steps.
    """
    numbers = np.random.default_rng((seed, 5))
    observed, states = ("image", "position"), ["h0", "h1", "h2"]
    known = [*observed]
    made: list[Phase] = []
    if numbers.random() < 0.5:
        made.append(replace(_random_phase(numbers, 9, known), when="reset"))
        known += made[0].output_names
    known += states
    for index in range(phases):
        phase = _with_bounded(_random_phase(numbers, index, known), index)
        made.append(phase)
        known += [name for name in phase.output_names if name not in known]
    steps = [phase for phase in made if phase.when == "step"]
    read = {name for phase in steps for name in phase.input_names}
    written = [name for phase in steps for name in phase.output_names if name[0] == "b"]
    chosen = [
        State(str(numbers.choice(written)), name, _initial(numbers))
        for name in states
        if name in read
    ]
    return Program(
        f"stateful{seed}",
        tuple(made),
        tuple(TensorSpec(name, "float32", (1, _WIDTH)) for name in observed),
        (TensorSpec(made[-1].output_names[0], "float32", (1, _WIDTH)),),
        state=tuple(chosen),
    )


def _initial(numbers: np.random.Generator) -> np.ndarray | None:
    if numbers.random() < 0.5:
        return None
    return numbers.standard_normal((1, _WIDTH)).astype(np.float32)


def _with_bounded(phase: Phase, index: int) -> Phase:
    """The phase with the hyperbolic tangent of its first output as another one."""
    graph = phase.model.graph
    node = _node("Tanh", (graph.outputs[0],), f"b{index}")
    node.outputs[0].name = f"b{index}"
    graph.append(node)
    graph.outputs.append(node.outputs[0])
    return phase


def _random_phase(numbers: np.random.Generator, index: int, known: list[str]) -> Phase:
    read = [str(name) for name in numbers.choice(known, min(len(known), 2), replace=False)]
    trips = int(numbers.choice((1, 1, 2, 4)))
    inputs = [_value(name) for name in read]
    weights = [_weight(f"shared.{number}", number) for number in range(2)]
    weights.append(_weight(f"own.{index}", 10 + index))
    pool, nodes = list(inputs), []
    for number in range(int(numbers.integers(4, 9))):
        node = _random_node(numbers, pool, weights, f"n{index}_{number}")
        nodes.append(node)
        pool.append(node.outputs[0])
    pool = [value for value in pool if value not in inputs]
    outputs = [pool[-1], *([pool[1]] if numbers.random() < 0.5 else [])]
    for number, value in enumerate(outputs):
        value.name = f"y{index}_{number}"
    transposed = [node for value in weights[:1] for node in _transposers(value, nodes)]
    used = {value for node in (*nodes, *transposed) for value in node.inputs}
    graph = ir.Graph(
        inputs,
        outputs,
        nodes=[*transposed, *nodes],
        initializers=[value for value in weights if value in used],
        opset_imports={"": 20},
        name=f"phase{index}",
    )
    carried = {str(outputs[0].name): read[0]} if trips > 1 else {}
    return Phase(f"phase{index}", ir.Model(graph, ir_version=10), trips, carried)


def _random_node(
    numbers: np.random.Generator, pool: list[ir.Value], weights: list[ir.Value], name: str
) -> ir.Node:
    one = pool[int(numbers.integers(max(0, len(pool) - 4), len(pool)))]
    kind = numbers.random()
    if kind < 0.4:
        weight = weights[int(numbers.integers(len(weights)))]
        return _node("MatMul", (one, weight), name)
    if kind < 0.7:
        other = pool[int(numbers.integers(len(pool)))]
        return _node(str(numbers.choice(_BINARY)), (one, other), name)
    return _node(str(numbers.choice(_UNARY)), (one,), name)


def _transposers(weight: ir.Value, nodes: list[ir.Node]) -> list[ir.Node]:
    """Put Transpose(weight) between a weight and its readers: a weight-only operator."""
    readers = [node for node in nodes if weight in node.inputs]
    if not readers:
        return []
    transpose = ir.node("Transpose", [weight], {"perm": [1, 0]}, name=f"t_{weight.name}")
    transpose.outputs[0].name = f"{weight.name}_t"
    transpose.outputs[0].dtype, transpose.outputs[0].shape = weight.dtype, weight.shape
    for node in readers:
        for position, value in enumerate(node.inputs):
            if value is weight:
                node.replace_input_with(position, transpose.outputs[0])
    return [transpose]


def _node(kind: str, inputs: tuple[ir.Value, ...], name: str) -> ir.Node:
    node = ir.node(kind, list(inputs), name=name)
    output = node.outputs[0]
    output.name, output.dtype, output.shape = name + "_out", ir.DataType.FLOAT, _shape()
    return node


def _shape() -> ir.Shape:
    return ir.Shape((1, _WIDTH))


def _value(name: str) -> ir.Value:
    return ir.Value(name=name, shape=_shape(), type=ir.TensorType(ir.DataType.FLOAT))


def _weight(name: str, seed: int) -> ir.Value:
    array = np.random.default_rng(seed).standard_normal((_WIDTH, _WIDTH)).astype(np.float32) / 3
    tensor = ir.tensor(array, name=name)
    return ir.Value(
        name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor
    )


def cut_at_random(program: Program, seed: int) -> Dataflow:
    """Prices and random sides on every operator; the dataflow of the result."""
    numbers = np.random.default_rng(seed)
    cloud_share = numbers.random()
    there: dict[ir.Node, Side] = {}
    for phase in program.phases:
        for node in operators(phase.model.graph):
            SECONDS.put(node, Seconds(*numbers.random(2)))
            there[node] = Side.CLOUD if numbers.random() < cloud_share else Side.EDGE
    dataflow = trace_dataflow(program)
    sides = [Side.EDGE if node is None else there[node] for node in dataflow.nodes]
    return write_cuts(dataflow, sides)


def observation(program: Program, seed: int = 0) -> dict[str, np.ndarray]:
    """Normal floats for every input."""
    numbers = np.random.default_rng(seed)
    return {
        spec.name: numbers.standard_normal(spec.shape).astype(np.float32) for spec in program.inputs
    }


def crossing_bytes(graph: CostGraph, sides: tuple[Side, ...]) -> tuple[int, int]:
    """Bytes up and down, by the definition of a flow."""
    moved = {Side.EDGE: 0, Side.CLOUD: 0}
    for flow in graph.flows:
        home = sides[flow.producer]
        if any(sides[consumer] is not home for consumer in flow.consumers):
            moved[home] += flow.nbytes * flow.count
    return moved[Side.EDGE], moved[Side.CLOUD]


def looping_program(width: int = 64, trips: int = 3) -> Program:
    """Encode an image, then refine a state `trips` times with it: two phases, one loop."""
    numbers = np.random.default_rng(7)

    def weight(name: str, scale: float = 1.0) -> ir.Value:
        array = numbers.standard_normal((width, width)).astype(np.float32) * scale / width**0.5
        tensor = ir.tensor(array, name=name)
        kind = ir.TensorType(tensor.dtype)
        return ir.Value(name=name, shape=tensor.shape, type=kind, const_value=tensor)

    def value(name: str) -> ir.Value:
        shape, kind = ir.Shape((1, width)), ir.TensorType(ir.DataType.FLOAT)
        return ir.Value(name=name, shape=shape, type=kind)

    def layer(kind: str, inputs: list[ir.Value], output: str) -> ir.Node:
        return ir.node(kind, inputs, outputs=[value(output)], name=f"node_{output}")

    def phase(
        name: str, inputs: list[ir.Value], nodes: list[ir.Node], weights: list[ir.Value]
    ) -> ir.Model:
        outputs = [nodes[-1].outputs[0]]
        graph = ir.Graph(
            inputs, outputs, nodes=nodes, initializers=weights, opset_imports={"": 20}, name=name
        )
        return ir.Model(graph, ir_version=10)

    image, stem, mixer = value("image"), weight("encoder.stem"), weight("encoder.mixer")
    embed = layer("MatMul", [image, stem], "embed")
    active = layer("Tanh", [embed.outputs[0]], "active")
    features = layer("MatMul", [active.outputs[0], mixer], "features")
    encode = phase("encode", [image], [embed, active, features], [stem, mixer])
    given, state, head = value("features"), value("state"), weight("head.refine", 0.5)
    join = layer("Add", [given, state], "join")
    refine = layer("MatMul", [join.outputs[0], head], "refined")
    action = layer("Tanh", [refine.outputs[0]], "action")
    decode = phase("decode", [given, state], [join, refine, action], [head])
    shape = (1, width)
    return Program(
        "looping",
        (Phase("encode", encode), Phase("decode", decode, trips, {"action": "state"})),
        (TensorSpec("image", "float32", shape), TensorSpec("state", "float32", shape)),
        (TensorSpec("action", "float32", shape),),
    )


# A link so fast that splitting pays, and a budget that lets one of the three weights over.
TARGET = Target("jetson-agx-orin", "a100", "10GB/s,0us", "17kB")
