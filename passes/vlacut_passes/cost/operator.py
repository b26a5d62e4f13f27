"""An ONNX operator as the cost rules see it: shapes and bytes of what it reads and writes."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass

import onnx_ir as ir

from vlacut.ir.graphs import ACTIVATIONS, dtype_name
from vlacut.pricing.roofline import Cost, Kernel
from vlacut.tensor import dtype_bits
from vlacut_passes.cost.codes import is_unpacked_where_read

_SAME_RATE = {"uint8": "int8", "uint4": "int4", "float8e5m2": "float8e4m3fn"}


@dataclass(frozen=True)
class Operand:
    """A tensor that an operator reads or writes.

    Attributes:
        shape: static.
        dtype: as in `TensorSpec`; empty if it is no tensor of numbers.
        is_weight: depends on weights alone, so that it is there before the step begins.
        stored: bytes of the codes and scales that it is unpacked from where it is read; 0 if it is
            read as it is.
        codes: element type of those codes; empty if there are none.
    """

    shape: tuple[int, ...]
    dtype: str
    is_weight: bool = False
    stored: int = 0
    codes: str = ""

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed tensor; 0 if it is no tensor of numbers (a text, a sequence)."""
        if self.stored:
            return self.stored
        return _packed(self.size, self.dtype) if self.dtype else 0

    def rows_bytes(self, elements: int) -> int:
        """Bytes of so many of its elements, at most all of them."""
        if self.stored:
            return self.stored * min(elements, self.size) // max(self.size, 1)
        return _packed(min(elements, self.size), self.dtype) if self.dtype else 0


def _packed(elements: int, dtype: str) -> int:
    return (elements * dtype_bits(dtype) + 7) // 8


class Operator:
    """A node, its operands, and the traffic they mean.

    Attributes:
        node: the node.
        inputs: what it reads, in the order of the schema; None for an input that is left out.
        outputs: what it writes; None for an output that nobody reads.
    """

    def __init__(
        self,
        node: ir.Node,
        inputs: tuple[Operand | None, ...],
        outputs: tuple[Operand | None, ...],
    ) -> None:
        self.node = node
        self.inputs = inputs
        self.outputs = outputs

    def input(self, index: int) -> Operand | None:
        """The input at a position, or None."""
        return self.inputs[index] if index < len(self.inputs) else None

    def needed(self, index: int) -> Operand:
        """The input at a position that the schema requires; ValueError if it is left out."""
        found = self.input(index)
        if found is None:
            raise ValueError(f"{self.node.op_type} {self.node.name} lacks its input {index}")
        return found

    @property
    def output(self) -> Operand:
        """The first output that is read; an empty tensor if none is."""
        return next((item for item in self.outputs if item is not None), Operand((0,), ""))

    @property
    def rate(self) -> str:
        """Element type whose peak rate it runs at on matrix units; scales of QLinear are float."""
        kind = self.node.op_type
        quantised = kind.startswith("QLinear") or kind.endswith("Integer")
        dtype = self.needed(0).dtype if quantised else self.needed(0).codes or self.dtype
        return _SAME_RATE.get(dtype, dtype)

    @property
    def form(self) -> str:
        """How a product reads weights that are codes, see `Kernel.form`; empty if it reads none.

        In 4 bits the executor may round activations to 8, unless the product forbids it.
        """
        weight = self.input(1)
        codes = (
            "" if weight is None or self.node.op_type not in ("MatMul", "Gemm") else weight.codes
        )
        if codes == "int4":
            return "w4a16" if ACTIVATIONS in self.node.metadata_props else "w4a8"
        return "w8a8" if codes == "int8" else ""

    @property
    def dtype(self) -> str:
        """Element type of the computation: of the first floating input, else output, else input."""
        present = [item for item in (*self.inputs, *self.outputs) if item is not None]
        floating = (item.dtype for item in present if "float" in item.dtype)
        return next(floating, present[0].dtype if present else "float32")

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        return self.node.attributes.get_int(name, default)

    def integers(self, name: str) -> tuple[int, ...]:
        """An attribute that lists integers; empty if it is left out."""
        return tuple(self.node.attributes.get_ints(name, ()))

    def cost(self, flops: int = 0, *, skip: Container[int] = (), kernels: int = 1) -> Cost:
        """Cost if every operand moves once: every output, and every input except those to skip."""
        distinct = {
            value: item
            for index, (value, item) in enumerate(zip(self.node.inputs, self.inputs, strict=True))
            if item is not None and index not in skip
        }
        return Cost(
            flops=flops,
            bytes_read=sum(item.nbytes for item in distinct.values() if not item.is_weight),
            bytes_written=sum(item.nbytes for item in self.outputs if item is not None),
            weight_bytes=sum(item.nbytes for item in distinct.values() if item.is_weight),
            kernels=kernels,
        )

    def kernel(self, kind: str, flops: int = 0, *, skip: Container[int] = ()) -> Kernel:
        """One kernel on the vector units, at float32's rate for any element type; see `cost`."""
        return Kernel(kind, self.cost(flops, skip=skip))


def reads(operand: Operand, nbytes: int) -> Cost:
    """Cost of reading part of an operand, and nothing else."""
    return Cost(weight_bytes=nbytes) if operand.is_weight else Cost(bytes_read=nbytes)


Rule = Callable[[Operator], Kernel]


class Operands:
    """Makes operators of nodes; looks at every value once.

    Args:
        weights: values that depend on weights alone.
    """

    def __init__(self, weights: Container[ir.Value]) -> None:
        self._weights = weights
        self._seen: dict[ir.Value, Operand] = {}

    def operator(self, node: ir.Node) -> Operator:
        """The operator of a node. Raises ValueError for a shape that is not static."""
        return Operator(node, self._all(node.inputs), self._all(node.outputs, written=True))

    def _all(
        self, values: Iterable[ir.Value | None], written: bool = False
    ) -> tuple[Operand | None, ...]:
        return tuple(
            None if value is None or (written and not _is_read(value)) else self._operand(value)
            for value in values
        )

    def _operand(self, value: ir.Value) -> Operand:
        found = self._seen.get(value)
        if found is None:
            found = self._seen[value] = self._look(value)
        return found

    def _look(self, value: ir.Value) -> Operand:
        if value.dtype is None or value.shape is None or not value.shape.is_static():
            raise ValueError(f"{value.name}: type {value.dtype}, shape {value.shape} is not static")
        if not isinstance(value.type, ir.TensorType) or value.dtype == ir.DataType.STRING:
            return Operand((), "", value in self._weights)
        shape, dtype = tuple(value.shape.numpy()), dtype_name(value.dtype)
        maker = value.producer()
        if maker is not None and is_unpacked_where_read(maker):
            read = [self._operand(each) for each in maker.inputs if each is not None]
            codes = read[0].codes or read[0].dtype
            stored = sum(each.nbytes for each in read)
            return Operand(shape, dtype, value in self._weights, stored, codes)
        return Operand(shape, dtype, value in self._weights)


def _is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()
