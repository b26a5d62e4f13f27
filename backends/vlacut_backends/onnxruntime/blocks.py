"""Products of weights in blocks of 4 bits, and embeddings, as the operators that ONNX Runtime has.

ONNX writes such a product as DequantizeLinear and MatMul; ONNX Runtime would make floats of the
whole weight at every step. Its own MatMulNBits reads the codes
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#commicrosoftmatmulnbits):
two in a byte, the earlier in the low half, each 8 more than its number; [outputs, blocks, bytes of
a block], and a scale for each block of each output. An embedding is DequantizeLinear and Gather,
and becomes GatherBlockQuantized, which reads codes and scales as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir

from vlacut.ir.graphs import ACTIVATIONS
from vlacut.ir.rewriting import remove_unused, replace_value

DOMAIN, OPERATOR = "com.microsoft", "MatMulNBits"
_EMBEDDING = "GatherBlockQuantized"
_OFFSET = 8  # what ONNX Runtime takes from a code where no zero points are given
_GROUPS = (16, 32, 64, 128, 256)
# The attribute accuracy_level: the least that activations may be rounded to inside.
_LEVELS = {"int8": 4, "float": 0}


def join_blocks(model: ir.Model, activations: str) -> None:
    """Replace DequantizeLinear over int4 and the MatMul or Gather that reads it, in place.

    What has a shape alone stays.

    Args:
        model: a part.
        activations: what they are rounded to inside the product: `int8`, by block, or `float`: not
            at all; a product that has the property `ACTIVATIONS` goes by that.
    """
    graph = model.graph
    for lookup, restored in list(_lookups(graph)):
        _read_codes(lookup, restored)
        model.graph.opset_imports.setdefault(DOMAIN, 1)
    for product, restored in list(_pairs(graph)):
        asked = product.metadata_props.pop(ACTIVATIONS, activations)
        _replace(graph, product, restored, _LEVELS[asked])
        model.graph.opset_imports.setdefault(DOMAIN, 1)
    remove_unused(model)


def _pairs(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Node]]:
    """Products, inside of operators, too, and what makes their weights of codes."""
    for node in graph.all_nodes():
        if (node.domain, node.op_type) != ("", "MatMul"):
            continue
        weight = node.inputs[1]
        maker = weight.producer() if weight is not None else None
        if maker is not None and _is_blocked(maker):
            yield node, maker


def _lookups(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Node]]:
    """Embeddings, and what makes their tables of codes."""
    for node in graph.all_nodes():
        if (node.domain, node.op_type) != ("", "Gather"):
            continue
        if node.attributes.get_int("axis", 0) != 0:
            continue
        table = node.inputs[0]
        maker = table.producer() if table is not None else None
        if maker is not None and _is_blocked(maker, 1):
            yield node, maker


def _read_codes(lookup: ir.Node, restored: ir.Node) -> None:
    codes, scales = restored.inputs
    group = restored.attributes.get_int("block_size", 1)
    options = {"gather_axis": 0, "quantize_axis": 1, "block_size": group}
    given = [codes, lookup.inputs[1], scales]
    _put(lookup, ir.node(_EMBEDDING, given, options, domain=DOMAIN, name=lookup.name))


def _is_blocked(node: ir.Node, along: int = 0) -> bool:
    """Whether it makes a matrix of int4 codes with a scale for each block along an axis."""
    if (node.domain, node.op_type) != ("", "DequantizeLinear") or len(node.inputs) > 2:
        return False
    codes, scales = node.inputs
    if codes is None or scales is None or codes.dtype != ir.DataType.INT4:
        return False
    if codes.const_value is None or scales.const_value is None or len(codes.shape or ()) != 2:
        return False
    group, axis = (node.attributes.get_int(name, 1) for name in ("block_size", "axis"))
    return axis == along and group in _GROUPS and _sizes(codes)[along] % group == 0


def _replace(graph: ir.Graph, product: ir.Node, restored: ir.Node, level: int) -> None:
    codes, scales = restored.inputs
    assert codes is not None
    assert scales is not None
    group = restored.attributes.get_int("block_size", 1)
    inputs, outputs = _sizes(codes)
    joined = ir.node(
        OPERATOR,
        [product.inputs[0], _packed_codes(graph, codes, group), _rows_of_scales(graph, scales)],
        {"K": inputs, "N": outputs, "bits": 4, "block_size": group, "accuracy_level": level},
        domain=DOMAIN,
        name=product.name,
    )
    _put(product, joined)


def _put(old: ir.Node, new: ir.Node) -> None:
    """An operator in the place of another."""
    graph = old.graph
    assert graph is not None
    old.name = f"{old.name}_replaced"
    new.metadata_props.update(old.metadata_props)
    before, after = old.outputs[0], new.outputs[0]
    after.name, after.shape, after.type = f"{before.name}.joined", before.shape, before.type
    graph.insert_before(old, new)
    replace_value(before, after)
    graph.remove(old, safe=True)


def _packed_codes(graph: ir.Graph, codes: ir.Value, group: int) -> ir.Value:
    inputs, outputs = _sizes(codes)
    shape = (outputs, inputs // group, group // 2)

    def pack(array: np.ndarray) -> np.ndarray:
        shifted = (array.astype(np.int8) + _OFFSET).astype(np.uint8).T
        return (shifted[:, 0::2] | shifted[:, 1::2] << 4).reshape(shape)

    return made_of(graph, codes, f"{codes.name}.packed", ir.DataType.UINT8, shape, pack)


def _rows_of_scales(graph: ir.Graph, scales: ir.Value) -> ir.Value:
    blocks, outputs = _sizes(scales)
    assert scales.dtype is not None
    name, shape = f"{scales.name}.rows", (blocks * outputs,)
    return made_of(graph, scales, name, scales.dtype, shape, lambda array: array.T.reshape(-1))


def _sizes(value: ir.Value) -> tuple[int, int]:
    assert value.const_value is not None
    rows, columns = (int(str(dim)) for dim in value.const_value.shape)
    return rows, columns


def made_of(
    graph: ir.Graph,
    source: ir.Value,
    name: str,
    dtype: ir.DataType,
    shape: tuple[int, ...],
    make: Callable[[np.ndarray], np.ndarray],
) -> ir.Value:
    """An initializer that is made of another when it is written, once in a graph."""
    found = graph.initializers.get(name)
    if found is not None:
        return found
    tensor = source.const_value
    assert tensor is not None

    def content() -> ir.TensorProtocol:
        return ir.tensor(np.ascontiguousarray(make(tensor.numpy())), name=name)

    value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))
    value.const_value = ir.LazyTensor(content, dtype=dtype, shape=ir.Shape(shape), name=name)
    graph.initializers.add(value)
    return value
