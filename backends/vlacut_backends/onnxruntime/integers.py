"""Products of two operands in 8 bits, as the product of whole numbers that ONNX Runtime has.

ONNX writes such a product with a DequantizeLinear before either operand; ONNX Runtime, at the
optimisation that keeps a cut to the bit, would make floats of the whole weight at every step. A sum
of products of whole numbers is exact, so MatMulInteger, times both scales, is the same number but
for one rounding, however many rows there are.

Codes are shifted from int8 to uint8, with the zero point 128, on both sides. On x86 without VNNI
the kernel for uint8 by int8 adds pairs of products in 16 bits, which saturate: on this machine that
moved the largest element of a product by 5 %. That for int8 by int8 is 15 times slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from vlacut.ir.rewriting import constant, remove_unused, replace_value
from vlacut_backends.onnxruntime.blocks import made_of

_ZERO = 128


@dataclass(frozen=True)
class _Pair:
    """A product of an activation and a weight, both of codes.

    Attributes:
        node: MatMul, or Gemm.
        activation, weight: the DequantizeLinear of each.
        outputs: axis of the outputs in the weight as it is stored.
    """

    node: ir.Node
    activation: ir.Node
    weight: ir.Node
    outputs: int


def join_integers(model: ir.Model) -> None:
    """Replace products of two DequantizeLinear by MatMulInteger, in place.

    What has a shape alone stays, and what is cut from the codes of its activation.
    """
    graph = model.graph
    joining = _Joining(graph)
    for pair in list(_pairs(graph)):
        joining.replace(pair)
    remove_unused(model)


def _pairs(graph: ir.Graph) -> Iterator[_Pair]:
    """Also those inside of operators: what makes their weights would run at every step."""
    for node in graph.all_nodes():
        if node.domain != "" or node.op_type not in ("MatMul", "Gemm"):
            continue
        plain = all(node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))
        if not plain or node.attributes.get_int("transA", 0) == 1:
            continue
        activation, weight = (_maker(value) for value in node.inputs[:2])
        turned = node.attributes.get_int("transB", 0) == 1
        if weight is not None and weight.op_type == "Transpose":
            turned, weight = not turned, _maker(weight.inputs[0])
        outputs = 0 if turned else 1
        if activation is None or weight is None:
            continue
        if _is_activation(activation) and _is_weight(weight, outputs):
            yield _Pair(node, activation, weight, outputs)


def _maker(value: ir.Value | None) -> ir.Node | None:
    maker = value.producer() if value is not None else None
    return maker if maker is not None and maker.domain == "" else None


def _is_activation(node: ir.Node) -> bool:
    """Whether it makes float32 of int8 codes by one scale."""
    if node.op_type != "DequantizeLinear" or len(node.inputs) != 2:
        return False
    codes, scale = node.inputs
    if codes is None or scale is None or codes.is_initializer() or scale.const_value is None:
        return False
    return (codes.dtype, scale.dtype) == (ir.DataType.INT8, ir.DataType.FLOAT) and not scale.shape


def _rounds_around_zero(node: ir.Node) -> bool:
    """Whether it makes codes by one scale around the zero 0, so that it can make them moved.

    The DequantizeLinear that reads the codes does not tell: a file may round around another zero.
    """
    if node.op_type != "QuantizeLinear":
        return False
    scale, *zeros = node.inputs[1:]
    if scale is None or scale.shape is None or len(scale.shape):
        return False
    held = [zero.const_value for zero in zeros if zero is not None]
    return all(one is not None and not one.numpy().any() for one in held)


def _is_weight(node: ir.Node, outputs: int) -> bool:
    """Whether it makes a matrix of float32 of int8 codes with a scale for each output."""
    if node.op_type != "DequantizeLinear" or len(node.inputs) != 2:
        return False
    codes, scales = node.inputs
    if codes is None or scales is None or codes.const_value is None or scales.const_value is None:
        return False
    ranks = len(codes.shape or ()), len(scales.shape or ())
    if codes.dtype != ir.DataType.INT8 or ranks != (2, 1):
        return False
    return node.attributes.get_int("axis", 1) == outputs and scales.dtype == ir.DataType.FLOAT


@dataclass
class _Joining:
    graph: ir.Graph
    shifted: dict[tuple[int, str, str], ir.Value] = field(default_factory=dict)

    def replace(self, pair: _Pair) -> None:
        """Let MatMulInteger make what a product makes."""
        node, zero = pair.node, self._constant(np.array(_ZERO, np.uint8))
        given = [self._activation(pair), self._weight(pair), zero, zero]
        whole = self._add(pair, "MatMulInteger", given, "whole", ir.DataType.INT32)
        to = {"to": int(ir.DataType.FLOAT)}
        real = self._add(pair, "Cast", [whole], "real", ir.DataType.FLOAT, to)
        made = self._add(pair, "Mul", [real, self._scales(pair)], "scaled", ir.DataType.FLOAT)
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is not None:
            made = self._add(pair, "Add", [made, bias], "biased", ir.DataType.FLOAT)
        replace_value(node.outputs[0], made)
        assert node.graph is not None
        node.graph.remove(node, safe=True)

    def _activation(self, pair: _Pair) -> ir.Value:
        """Its codes as uint8, made once for all products that read them."""
        codes = pair.activation.inputs[0]
        assert codes is not None
        maker = _maker(codes)
        if maker is None or not _rounds_around_zero(maker):
            return self._moved(pair, codes)
        read, scale = maker.inputs[:2]
        assert read is not None
        assert scale is not None
        # A branch does not see what another one makes.
        key = id(maker.graph), str(read.name), str(scale.name)
        if key not in self.shifted:
            zero = self._constant(np.array(_ZERO, np.uint8))
            made = ir.node("QuantizeLinear", [read, scale, zero], name=f"{maker.name}.shifted")
            self.shifted[key] = self._insert(maker, made, codes, ir.DataType.UINT8)
        return self.shifted[key]

    def _moved(self, pair: _Pair, codes: ir.Value) -> ir.Value:
        """The same of codes that came over the link."""
        wide, narrow = ({"to": int(one)} for one in (ir.DataType.INT16, ir.DataType.UINT8))
        more = self._constant(np.array(_ZERO, np.int16))
        made = self._add(pair, "Cast", [codes], "wide", ir.DataType.INT16, wide, codes)
        made = self._add(pair, "Add", [made, more], "moved", ir.DataType.INT16, {}, codes)
        return self._add(pair, "Cast", [made], "codes", ir.DataType.UINT8, narrow, codes)

    def _weight(self, pair: _Pair) -> ir.Value:
        codes = pair.weight.inputs[0]
        assert codes is not None
        rows, columns = (int(str(dim)) for dim in codes.shape or ())
        shape = (rows, columns) if pair.outputs == 1 else (columns, rows)

        def shift(array: np.ndarray) -> np.ndarray:
            moved = (array.astype(np.int16) + _ZERO).astype(np.uint8)
            return moved if pair.outputs == 1 else moved.T

        name = f"{codes.name}.whole"
        return made_of(self.graph, codes, name, ir.DataType.UINT8, shape, shift)

    def _scales(self, pair: _Pair) -> ir.Value:
        one, many = pair.activation.inputs[1], pair.weight.inputs[1]
        assert one is not None
        assert one.const_value is not None
        assert many is not None
        factor = np.float32(one.const_value.numpy())
        shape = (int(str(many.shape[0])),) if many.shape else ()
        name = f"{many.name}.by.{factor.tobytes().hex()}"
        return made_of(
            self.graph, many, name, ir.DataType.FLOAT, shape, lambda array: array * factor
        )

    def _constant(self, array: np.ndarray) -> ir.Value:
        return constant(self.graph, ir.tensor(array))

    def _add(
        self,
        pair: _Pair,
        operator: str,
        inputs: list[ir.Value],
        what: str,
        dtype: ir.DataType,
        attributes: dict[str, int] | None = None,
        like: ir.Value | None = None,
    ) -> ir.Value:
        made = ir.node(operator, inputs, attributes or {}, name=f"{pair.node.name}.{what}")
        return self._insert(pair.node, made, like or pair.node.outputs[0], dtype)

    def _insert(
        self, before: ir.Node, made: ir.Node, like: ir.Value, dtype: ir.DataType
    ) -> ir.Value:
        made.metadata_props.update(before.metadata_props)
        output = made.outputs[0]
        output.name, output.shape, output.type = made.name, like.shape, ir.TensorType(dtype)
        assert before.graph is not None
        before.graph.insert_before(before, made)
        return output
