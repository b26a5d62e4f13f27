"""Eight bits: both sides of a product go through QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from vlacut.errors import PassError
from vlacut.ir.program import Program, copied
from vlacut.ir.rewriting import constant
from vlacut_passes.quantising.exact import NOT_MEASURED, kept_exact
from vlacut_passes.quantising.observing import Observation, Observed
from vlacut_passes.quantising.products import Product, Products
from vlacut_passes.quantising.rounding import LEAST_SCALE
from vlacut_passes.quantising.weights import (
    add_shapes,
    add_weight,
    coded,
    element,
    element_type,
    through,
)

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
    error: float | None = None,
) -> str:
    """Quantise the products, activations by the observations' steps; what was done, for the report.

    Args:
        program: changed in place.
        found: the products.
        weights: one of `TARGETS`.
        seen: observations; none for a program without content, whose scales have none either.
        shared: whether what products of one weight multiply has one scale in all phases.
        error: the most that the action may move, as a share of its largest magnitude; what moves it
            most for its bytes stays as it is until that holds. None for no limit.

    Raises PassError for a limit without content.
    """
    if error is not None and not seen:
        raise PassError(NOT_MEASURED)
    ranges = _ranges(program, found, seen, shared) if seen else {}

    def put(into: Program, names: Sequence[str]) -> None:
        for phase in into.phases:
            for product in found[phase.name]:
                if product.name in names:
                    graph = phase.model.graph
                    most = ranges.get((phase.name, str(product.node.name)))
                    _quantise(graph, _there(product, graph), most, weights)

    @contextmanager
    def rounding(names: Sequence[str]) -> Iterator[Program]:
        made = copied(program)
        put(made, names)
        yield made

    sizes = {one.name: one.bytes for listed in found.values() for one in listed}
    exact, how = frozenset[str](), "" if seen else " without content"
    if error is not None:
        exact, moved = kept_exact(program, sizes, rounding, seen, error)
        how = f", {len(exact)} weights stay, which moves the action by {moved:.2%}"
    put(program, [name for name in sizes if name not in exact])
    done = [one for listed in found.values() for one in listed if one.name not in exact]
    return f"{len(done)} products to {weights}{how}"


def _there(product: Product, graph: ir.Graph) -> Product:
    """The product in another copy of its phase."""
    named = {node.name: node for node in graph}
    return replace(
        product,
        node=named[product.node.name],
        weight=graph.initializers[product.name],
        reader=named[product.reader.name],
    )


def _ranges(
    program: Program, found: Products, seen: Sequence[Observation], shared: bool
) -> dict[tuple[str, str], float]:
    """The largest magnitude that activations are rounded by, by the phase and name of a product."""
    largest = _largest(program, found, seen)
    made = {
        (phase, str(one.node.name)): largest[phase, str(one.activation.name)]
        for phase, listed in found.items()
        for one in listed
    }
    if not shared:
        return made
    by_weight: dict[str, float] = {}
    every = [(phase, one) for phase, listed in found.items() for one in listed]
    for phase, one in every:
        most = made[phase, str(one.node.name)]
        by_weight[one.name] = max(by_weight.get(one.name, 0.0), most)
    return {(phase, str(one.node.name)): by_weight[one.name] for phase, one in every}


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


def _quantise(graph: ir.Graph, product: Product, largest: float | None, weights: str) -> None:
    dtype, most = TARGETS[weights]
    node, weight = product.node, product.weight
    scale = None if largest is None else max(largest / most, LEAST_SCALE)
    node.replace_input_with(0, _through(graph, product, scale, dtype))
    name = f"{weight.name}.{weights}.{product.channel}"
    if name not in graph.initializers and largest is None:
        scales = (product.shape[product.channel],)
        add_shapes(graph, name, product.shape, scales, weight, dtype)
    elif name not in graph.initializers:
        _add(graph, product, name, dtype, most)
    restored = through(
        graph, name, {"axis": product.channel}, f"{node.name}.weight", weight, product.reader
    )
    reader = product.reader
    reader.replace_input_with(list(reader.inputs).index(weight), restored)


def _through(
    graph: ir.Graph, product: Product, scale: float | None, dtype: ir.DataType
) -> ir.Value:
    """The activation through 8 bits and back, before its product."""
    node, value = product.node, product.activation
    factor = _factor(graph, product, scale)
    zero = constant(graph, ir.tensor(np.zeros((), dtype.numpy())))
    small = ir.node("QuantizeLinear", [value, factor, zero], name=f"{node.name}.quantise")
    back = ir.node("DequantizeLinear", [small.outputs[0], factor], name=f"{node.name}.input")
    for made, kind in ((small, ir.TensorType(dtype)), (back, element_type(value))):
        output = made.outputs[0]
        output.name, output.shape, output.type = made.name, value.shape, kind
        made.metadata_props.update(node.metadata_props)
        graph.insert_before(node, made)
    return back.outputs[0]


def _factor(graph: ir.Graph, product: Product, scale: float | None) -> ir.Value:
    """The scale of a product's activation; without content, a scalar alone."""
    value = product.activation
    if scale is not None:
        return constant(graph, ir.tensor(np.array(scale, element(value).numpy())))
    name = f"{product.node.name}.input.scale"
    made = ir.Value(name=name, shape=ir.Shape(()), type=element_type(value))
    graph.initializers.add(made)
    return made


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
    codes = np.clip(scaled, -most, most)
    add_weight(graph, name, coded(name, codes, scales, dtype, weight))
