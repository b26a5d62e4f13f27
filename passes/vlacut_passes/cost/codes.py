"""Codes: which operators make floats that nothing writes, because their readers take the codes."""

from __future__ import annotations

import onnx_ir as ir

_EIGHT_BITS = (ir.DataType.INT8, ir.DataType.FLOAT8E4M3FN)


def is_unpacked_where_read(node: ir.Node) -> bool:
    """Whether an operator makes floats of codes, or turns them over, for products that read codes.

    Those are weights in blocks of 4 bits, which ONNX Runtime (MatMulNBits, GatherBlockQuantized)
    and TensorRT (weight-only quantisation, of products) read in the product itself; and both
    operands of a product in 8 bits, which is MatMulInteger to ONNX Runtime, and explicit
    quantisation to TensorRT. So no floats of either are ever written.
    """
    made = node.outputs[0]
    if node.domain != "" or made.is_graph_output() or not made.uses():
        return False
    given = node.inputs[0] if node.inputs else None
    if given is None:
        return False
    if node.op_type == "Transpose":
        return _unpacking(given) is not None and len(given.uses()) == 1 and _in_8_bits(made)
    if node.op_type != "DequantizeLinear":
        return False
    if given.dtype in _EIGHT_BITS:
        turned = [use.node for use in made.uses() if use.node.op_type == "Transpose"]
        return all(map(is_unpacked_where_read, turned)) if turned else _in_8_bits(made)
    blocks = node.attributes.get_int("block_size", 0) > 0
    weights = all(value is None or value.is_initializer() for value in node.inputs)
    reader, place = ("MatMul", 1) if node.attributes.get_int("axis", 1) == 0 else ("Gather", 0)
    read = all(use.node.op_type == reader and use.idx == place for use in made.uses())
    return given.dtype == ir.DataType.INT4 and blocks and weights and read


def _unpacking(value: ir.Value | None) -> ir.Value | None:
    """The codes in 8 bits that a value is made of."""
    maker = value.producer() if value is not None else None
    if maker is None or maker.op_type != "DequantizeLinear" or maker.domain != "":
        return None
    codes = maker.inputs[0]
    return codes if codes is not None and codes.dtype in _EIGHT_BITS else None


def _in_8_bits(value: ir.Value) -> bool:
    """Whether all that reads a value are products of two operands made of codes in 8 bits."""
    return all(use.idx < 2 and _multiplies_codes(use.node) for use in value.uses())


def _multiplies_codes(node: ir.Node) -> bool:
    if node.domain != "" or node.op_type not in ("MatMul", "Gemm"):
        return False
    activation, weight = node.inputs[:2]
    maker = weight.producer() if weight is not None else None
    if maker is not None and maker.op_type == "Transpose":
        weight = maker.inputs[0]
    codes = _unpacking(weight)
    return codes is not None and codes.is_initializer() and _unpacking(activation) is not None
