"""Eight bits: both sides of a product go through QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from vlacut.errors import PassError
from vlacut.ir.program import Program
from vlacut.ir.rewriting import constant
from vlacut_passes.quantising.observing import Observation, Observed
from vlacut_passes.quantising.products import Product, Products
from vlacut_passes.quantising.rounding import LEAST_SCALE
from vlacut_passes.quantising.weights import add_weight, element, element_type, through

TARGETS = {
    "int8": (ir.DataType.INT8, 127.0),
    "float8e4m3fn": (ir.DataType.FLOAT8E4M3FN, 448.0),
}


def eight_bits(
    program: Program,
    found: Products,
    weights: str,
    seen: Sequence[Observation],
    shared: bool = False,
) -> str:
    """Quantise the products, activations by the observations' steps; what was done, for the report.

    With `shared` what products of one weight multiply has one scale in all phases.
    """
    largest = _largest(program, found, seen)
    every = [(phase.name, product) for phase in program.phases for product in found[phase.name]]
    by_weight: dict[str, float] = {}
    for phase_name, product in every:
        most = largest[phase_name, str(product.activation.name)]
        by_weight[product.name] = max(by_weight.get(product.name, 0.0), most)
    graphs = {phase.name: phase.model.graph for phase in program.phases}
    for phase_name, product in every:
        own = largest[phase_name, str(product.activation.name)]
        most = by_weight[product.name] if shared else own
        _quantise(graphs[phase_name], product, most, weights)
    return f"{sum(map(len, found.values()))} products to {weights}"


def _largest(
    program: Program, found: Products, seen: Sequence[Observation]
) -> Mapping[tuple[str, str], float]:
    """The largest magnitude of every product's activation in these steps, over all trips."""
    largest: dict[tuple[str, str], float] = {}

    def see(phase: str, name: str, array: np.ndarray) -> None:
        most = float(np.abs(array.astype(np.float32)).max(initial=0.0))
        largest[phase, name] = max(largest.get((phase, name), 0.0), most)

    names = {
        phase: [str(product.activation.name) for product in listed]
        for phase, listed in found.items()
    }
    observed = Observed(program, names)
    for observation in seen:
        observed.step(observation, see)
    return largest


def _quantise(graph: ir.Graph, product: Product, largest: float, weights: str) -> None:
    dtype, most = TARGETS[weights]
    node, weight = product.node, product.weight
    scale = max(largest / most, LEAST_SCALE)
    node.replace_input_with(0, _through(graph, product, scale, dtype))
    name = f"{weight.name}.{weights}.{product.channel}"
    if name not in graph.initializers:
        _add(graph, product, name, dtype, most)
    restored = through(
        graph, name, {"axis": product.channel}, f"{node.name}.weight", weight, product.reader
    )
    reader = product.reader
    reader.replace_input_with(list(reader.inputs).index(weight), restored)


def _through(graph: ir.Graph, product: Product, scale: float, dtype: ir.DataType) -> ir.Value:
    """The activation through 8 bits and back, before its product."""
    node, value = product.node, product.activation
    factor = constant(graph, ir.tensor(np.array(scale, element(value).numpy())))
    zero = constant(graph, ir.tensor(np.zeros((), dtype.numpy())))
    small = ir.node("QuantizeLinear", [value, factor, zero], name=f"{node.name}.quantise")
    back = ir.node("DequantizeLinear", [small.outputs[0], factor], name=f"{node.name}.input")
    for made, kind in ((small, ir.TensorType(dtype)), (back, element_type(value))):
        output = made.outputs[0]
        output.name, output.shape, output.type = made.name, value.shape, kind
        made.metadata_props.update(node.metadata_props)
        graph.insert_before(node, made)
    return back.outputs[0]


def _add(graph: ir.Graph, product: Product, name: str, dtype: ir.DataType, most: float) -> None:
    """Add the weight in 8 bits, and its scales, by channel."""
    weight, channel = product.weight, product.channel
    if weight.const_value is None:
        raise PassError(f"weight {weight.name} has no content to quantise; give --weights")
    array = weight.const_value.numpy().astype(np.float32)
    others = tuple(axis for axis in range(array.ndim) if axis != channel)
    scales = np.maximum(np.abs(array).max(axis=others) / most, LEAST_SCALE)
    scaled = array / scales.reshape([-1 if axis == channel else 1 for axis in range(array.ndim)])
    if dtype == ir.DataType.INT8:
        scaled = np.rint(scaled)
    codes = np.clip(scaled, -most, most).astype(dtype.numpy())
    add_weight(graph, name, codes, scales.astype(element(weight).numpy()))
