"""Calibration: which products have weights, and how large the numbers are that they multiply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from vlacut.errors import PassError
from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.program import Phase, Program
from vlacut.tensor.numerics import synthetic

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class Product:
    """A product with a weight.

    Attributes:
        node: MatMul, Gemm or Conv; its first input is the activation.
        weight: the initializer.
        reader: the operator that reads it: the product, or a transposition before it.
        channel: axis of the output channels in the weight as it is stored.
    """

    node: ir.Node
    weight: ir.Value
    reader: ir.Node
    channel: int


def products(graph: ir.Graph, smallest: int) -> list[Product]:
    """Products with weights of at least so many elements, in order."""
    found = []
    for node in graph:
        if node.domain != "" or node.op_type not in ("MatMul", "Gemm", "Conv"):
            continue
        given, second = node.inputs[0], node.inputs[1]
        if given is None or second is None or given.is_initializer() or given.dtype not in _FLOATS:
            continue
        if node.op_type == "Gemm" and node.attributes.get_int("transA", 0) == 1:
            continue
        product = _with_weight(node, second)
        if product is not None and _elements(product.weight) >= smallest:
            found.append(product)
    return found


def _with_weight(node: ir.Node, second: ir.Value) -> Product | None:
    maker = second.producer()
    first = node.op_type == "Conv" or node.attributes.get_int("transB", 0) == 1
    if maker is None:
        rank = len(second.shape) if second.shape is not None else 0
        last = 0 if first else rank - 1
        return Product(node, second, node, last) if second.is_initializer() else None
    weight = maker.inputs[0] if maker.op_type == "Transpose" and maker.domain == "" else None
    if weight is None or not weight.is_initializer() or len(maker.outputs[0].uses()) != 1:
        return None
    rank = len(weight.shape) if weight.shape is not None else 0
    order = maker.attributes.get_ints("perm", tuple(reversed(range(rank))))
    return Product(node, weight, maker, order[0 if first else -1])


def _elements(value: ir.Value) -> int:
    return int(np.prod([int(str(dim)) for dim in value.shape or ()]))


def largest_activations(
    program: Program, found: Mapping[str, Sequence[Product]]
) -> dict[str, dict[ir.Value, float]]:
    """The largest magnitude of every product's activation in the example's step, by phase.

    Raises PassError where a weight has no content.
    """
    recorded = EXAMPLE.find(program) or {}
    states = {state.input: state.first(program.state_spec(state)) for state in program.state}
    held = states | {spec.name: recorded.get(spec.name, synthetic(spec)) for spec in program.inputs}
    return {
        phase.name: _watch(program, index, phase, found[phase.name], held)
        for index, phase in enumerate(program.phases)
    }


def _watch(
    program: Program,
    index: int,
    phase: Phase,
    found: Sequence[Product],
    held: dict[str, np.ndarray],
) -> dict[ir.Value, float]:
    """Run a phase's trips with the activations among its outputs; its own go into `held`."""
    values = list(dict.fromkeys(value for product in found for value in product.node.inputs[:1]))
    names = [str(value.name) for value in values if value is not None]
    evaluator = _evaluator(phase, names)
    inputs = {name: held[program.source(index, name).name] for name in phase.input_names}
    largest = dict.fromkeys(names, 0.0)
    known = {*phase.output_names, *phase.input_names}
    outputs = [*phase.output_names, *(name for name in names if name not in known)]
    for _ in range(phase.trips):
        made = dict(zip(outputs, evaluator.run(outputs, inputs), strict=True))
        for name in names:
            array = made[name] if name in made else inputs[name]
            most = float(np.abs(array.astype(np.float32)).max(initial=0.0))
            largest[name] = max(largest[name], most)
        inputs |= {fed: made[output] for output, fed in phase.carried.items()}
    held |= {name: made[name] for name in phase.output_names}
    return {value: largest[str(value.name)] for value in values if value is not None}


def _evaluator(phase: Phase, names: Sequence[str]) -> ReferenceEvaluator:
    """Evaluates a phase with some of its values as outputs too."""
    for name, value in phase.model.graph.initializers.items():
        if value.const_value is None:
            raise PassError(
                f"phase {phase.name}: weight {name} has no content to calibrate with; "
                f"give --weights"
            )
    graph = phase.model.graph.clone()
    known = {str(value.name) for value in (*graph.inputs, *graph.outputs)}
    made = {str(value.name): value for node in graph for value in node.outputs}
    graph.outputs.extend(made[name] for name in names if name not in known and name in made)
    model = ir.Model(graph, ir_version=phase.model.ir_version)
    return ReferenceEvaluator(ir.to_proto(model))
