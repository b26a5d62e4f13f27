"""Casts of bytes move before operators that only move elements, so that pictures may be uint8.

TensorRT has uint8 only for inputs and outputs of a network, and casts it only to and from float32
and float16 (NvInfer.h, `DataType::kUINT8`). By the operator table of its ONNX parser (see
`support`), only a cast reads it. Operators that move, pick or compare elements do the same to
floats of the same numbers, and both types hold 0 to 255. So every rewrite is exact.
"""

from __future__ import annotations

import onnx_ir as ir

from vlacut.ir.rewriting import constant, remove_unused, replace_value

_UINT8, _FLOAT, _FLOAT16 = ir.DataType.UINT8, ir.DataType.FLOAT, ir.DataType.FLOAT16
_SAME_NUMBERS = """
    Concat DepthToSpace Expand Flatten Gather GatherElements GatherND Identity Max Min Pad ReduceMax
    ReduceMin Reshape ReverseSequence ScatterElements ScatterND Slice SpaceToDepth Split Squeeze
    Tile Transpose Unsqueeze Where
"""
_NO_NUMBERS = "ArgMax ArgMin Equal Greater GreaterOrEqual Less LessOrEqual"  # of the type read
_MOVES, _COMPARES = frozenset(_SAME_NUMBERS.split()), frozenset(_NO_NUMBERS.split())


def cast_early(model: ir.Model) -> None:
    """Make the operators of a model that only move bytes move floats instead, in place.

    Operators that compute with bytes stay; the rules name them.
    """
    _Rewriting(model.graph).run()
    remove_unused(model)


class _Rewriting:
    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._floats: dict[ir.Value, ir.Value] = {}  # of bytes, the floats that they were made of
        self._casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def run(self) -> None:
        for node in list(self._graph):
            if node.domain == "" and any(map(_is_bytes, node.inputs)):
                if node.op_type in _MOVES and not _reduces(node):
                    self._move_floats(node)
                elif node.op_type in _COMPARES:
                    self._read_floats(node, _FLOAT)
                elif node.op_type == "Cast":
                    self._short_cut(node)

    def _move_floats(self, node: ir.Node) -> None:
        """Let an operator read and make floats; a cast makes what it made before."""
        carrier = _carrier(node)
        self._read_floats(node, carrier)
        for made in node.outputs:
            back = ir.node("Cast", [made], {"to": int(_UINT8)}, name=f"{made.name}.uint8")
            output = back.outputs[0]
            output.name, output.shape, output.type = back.name, made.shape, made.type
            made.type = ir.TensorType(carrier)
            back.metadata_props.update(node.metadata_props)
            self._graph.insert_after(node, back)
            replace_value(made, output)
            back.replace_input_with(0, made)
            self._floats[output] = made

    def _read_floats(self, node: ir.Node, carrier: ir.DataType) -> None:
        for index, value in enumerate(node.inputs):
            if value is not None and _is_bytes(value):
                node.replace_input_with(index, self._as_floats(node, value, carrier))

    def _as_floats(self, node: ir.Node, value: ir.Value, carrier: ir.DataType) -> ir.Value:
        """Bytes as floats, before an operator."""
        found = self._floats.get(value)
        if found is not None and found.dtype == carrier:
            return found
        if value.is_initializer() and value.const_value is not None:
            numbers = value.const_value.numpy().astype(carrier.numpy())
            return constant(self._graph, ir.tensor(numbers))
        return self._cast(node, value if found is None else found, carrier)

    def _short_cut(self, cast: ir.Node) -> None:
        """Let a cast read the floats that bytes were made of; by float32 where there are none, and
        no other cast from bytes is to be had.
        """
        value, wanted = cast.inputs[0], cast.outputs[0].dtype
        assert value is not None
        assert wanted is not None
        found = self._floats.get(value)
        if found is not None and found.dtype == wanted:
            replace_value(cast.outputs[0], found)
        elif found is not None:
            cast.replace_input_with(0, found)
        elif wanted not in (_FLOAT, _FLOAT16, _UINT8):
            cast.replace_input_with(0, self._cast(cast, value, _FLOAT))

    def _cast(self, node: ir.Node, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """A cast before the first operator that needs it."""
        if (value, dtype) in self._casts:
            return self._casts[value, dtype]
        cast = ir.node("Cast", [value], {"to": int(dtype)}, name=f"{value.name}.{dtype.name}")
        made = cast.outputs[0]
        made.name, made.shape, made.type = cast.name, value.shape, ir.TensorType(dtype)
        cast.metadata_props.update(node.metadata_props)
        self._graph.insert_before(node, cast)
        self._casts[value, dtype] = made
        return made


def _is_bytes(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == _UINT8


def _reduces(node: ir.Node) -> bool:
    """Whether what scatters computes."""
    return node.attributes.get_string("reduction", "none") != "none"


def _carrier(node: ir.Node) -> ir.DataType:
    """float16 where that is all that the bytes become; else float32."""
    wanted: set[ir.DataType | None] = set()
    seen: set[ir.Value] = set()
    found = list(node.outputs)
    while found:
        value = found.pop()
        if value in seen:
            continue
        seen.add(value)
        if value.is_graph_output():
            wanted.add(None)
        for reader in value.consumers():
            if reader.op_type in _MOVES:
                found += reader.outputs
            else:
                wanted.add(reader.outputs[0].dtype if reader.op_type == "Cast" else None)
    return _FLOAT16 if wanted == {_FLOAT16} else _FLOAT
