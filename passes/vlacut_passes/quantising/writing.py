"""Writes weights of 4 bits into a graph: codes, their scales, and a product that reads them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from vlacut.errors import PassError
from vlacut.ir.annotation import PINNED
from vlacut.ir.graphs import ACTIVATIONS
from vlacut.ir.rewriting import replace_value
from vlacut_passes.quantising.products import Product
from vlacut_passes.quantising.rounding import Rounded
from vlacut_passes.quantising.weights import (
    FLOAT,
    INT4,
    add_shapes,
    add_weight,
    element,
    element_type,
    through,
)

_OPSET, _IR_VERSION = 21, 10  # the first that have int4, and blocks in DequantizeLinear
_CHANGED = "GroupNormalization"  # the one operator that means something else from opset 21 on


def raise_opset(model: ir.Model, where: str) -> None:
    """Let a model be of an opset that has int4.

    Raises PassError where that would change what an operator means.
    """
    opset = model.graph.opset_imports.get("", 0)
    if opset < _OPSET:
        changed = [node.name for node in model.graph.all_nodes() if node.op_type == _CHANGED]
        if changed:
            raise PassError(
                f"phase {where}: {_CHANGED} {changed[0]} of opset {opset} means something else in "
                f"opset {_OPSET}, which int4 needs; export at opset {_OPSET}"
            )
        model.graph.opset_imports[""] = _OPSET
    model.ir_version = max(model.ir_version, _IR_VERSION)


def put_codes(
    graph: ir.Graph, product: Product, group: int, rounded: Rounded | None, exact: bool = False
) -> None:
    """The product reads codes [inputs, outputs], whichever way round its weight was stored; an
    embedding reads rows of codes.

    With `exact` executors leave what it multiplies them with as it is.
    """
    node, weight, rows = product.node, product.weight, product.is_embedding
    name = f"{product.name}.{INT4}.g{group}.{'rows' if rows else product.channel}"
    if name not in graph.initializers:
        inputs, outputs = (product.shape[axis] for axis in (1 - product.channel, product.channel))
        if rounded is None:
            shapes = (inputs, outputs), (inputs // group, outputs)
            codes_shape, scales_shape = (one[::-1] for one in shapes) if rows else shapes
            add_shapes(graph, name, codes_shape, scales_shape, weight)
        else:
            codes, scales = rounded.codes, rounded.scales
            if rows:
                codes, scales = np.ascontiguousarray(codes.T), np.ascontiguousarray(scales.T)
            kinds = ir.DataType.INT4.numpy(), element(weight).numpy()
            add_weight(graph, name, codes.astype(kinds[0]), scales.astype(kinds[1]))
    blocks = {"axis": 1 if rows else 0, "block_size": group}
    restored = through(graph, name, blocks, f"{node.name}.weight", weight, node)
    if rows:
        node.replace_input_with(0, restored)
        return
    if node.op_type == "Gemm":
        node = _as_product(graph, node, restored)
    else:
        node.replace_input_with(1, restored)
    if exact:
        node.metadata_props[ACTIVATIONS] = FLOAT


def _as_product(graph: ir.Graph, gemm: ir.Node, weight: ir.Value) -> ir.Node:
    """A MatMul, which is returned, and an Add where the Gemm has a bias."""
    given, output = gemm.inputs[0], gemm.outputs[0]
    bias = gemm.inputs[2] if len(gemm.inputs) > 2 else None
    product = ir.node("MatMul", [given, weight], name=gemm.name)  # users pin it by its name
    made = [product]
    if bias is not None:
        made.append(ir.node("Add", [product.outputs[0], bias], name=f"{gemm.name}.bias"))
    for node in made:
        node.metadata_props.update(gemm.metadata_props)
        node.outputs[0].name = f"{gemm.name}.{'product' if node is product else 'bias'}"
        node.outputs[0].shape, node.outputs[0].type = output.shape, element_type(output)
        graph.insert_before(gemm, node)
    side = PINNED.find(gemm)
    if side is not None:
        PINNED.put(product, side)
    replace_value(output, made[-1].outputs[0])
    graph.remove(gemm, safe=True)
    return product
