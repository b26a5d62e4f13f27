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
    Coded,
    add_shapes,
    add_weight,
    coded,
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


def in_codes(product: Product, group: int, rounded: Rounded) -> Coded:
    """A weight's codes [inputs, outputs], whichever way round it was stored; an embedding's
    [outputs, inputs], a row of codes for each of its rows.
    """
    codes, scales = rounded.codes, rounded.scales
    if product.is_embedding:
        codes, scales = np.ascontiguousarray(codes.T), np.ascontiguousarray(scales.T)
    return coded(_name(product, group), codes, scales, ir.DataType.INT4, product.weight)


def put_codes(
    graph: ir.Graph, product: Product, group: int, weight: Coded | None, exact: bool = False
) -> None:
    """The product reads codes, or an embedding rows of them, see `in_codes`; without a weight they
    have shapes alone.

    With `exact` executors leave what it multiplies them with as it is.
    """
    node, like, rows = product.node, product.weight, product.is_embedding
    name = _name(product, group)
    if name not in graph.initializers:
        if weight is None:
            add_shapes(graph, name, *_shapes(product, group), like)
        else:
            add_weight(graph, name, weight)
    blocks = {"axis": 1 if rows else 0, "block_size": group}
    restored = through(graph, name, blocks, f"{node.name}.weight", like, node)
    if rows:
        node.replace_input_with(0, restored)
        return
    if node.op_type == "Gemm":
        node = _as_product(graph, node, restored)
    else:
        node.replace_input_with(1, restored)
    if exact:
        node.metadata_props[ACTIVATIONS] = FLOAT


def _name(product: Product, group: int) -> str:
    order = "rows" if product.is_embedding else product.channel
    return f"{product.name}.{INT4}.g{group}.{order}"


def _shapes(product: Product, group: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Of codes and of scales."""
    inputs, outputs = (product.shape[axis] for axis in (1 - product.channel, product.channel))
    if product.is_embedding:
        return (outputs, inputs), (outputs, inputs // group)
    return (inputs, outputs), (inputs // group, outputs)


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
