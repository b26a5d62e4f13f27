"""Inverses of the operators that are behind a loop: of shapes, of numbers, and of what is cut."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from vlacut_passes.chunking.nodes import Nodes

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
SHAPES = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")  # and Gather, of an axis of 1
NUMBERS = ("Add", "Sub", "Mul", "Div")


def shape_of(value: ir.Value | None) -> list[int]:
    """A shape that is known, for the program's are static."""
    assert value is not None
    assert value.shape is not None
    return [int(one) for one in value.shape]  # type: ignore[arg-type]


def cuts(node: ir.Node) -> dict[int, int] | None:
    """Where a Slice begins on each of its axes; None where it leaves entries out in between."""
    given = [one.const_value.numpy() for one in node.inputs[1:] if one and one.const_value]
    if len(given) < 2:
        return None
    starts, shape = given[0], shape_of(node.inputs[0])
    axes = given[2] if len(given) > 2 else np.arange(len(starts))
    if len(given) > 3 and (given[3] != 1).any():
        return None
    found = {}
    for axis, start in zip(axes.tolist(), starts.tolist(), strict=True):
        axis %= len(shape)
        found[axis] = min(start + shape[axis] if start < 0 else start, shape[axis])
    return found


def kept_before(kept: np.ndarray, node: ir.Node, place: int) -> np.ndarray:
    """Which numbers before an operator are among those behind it that are `kept`."""
    shape = shape_of(node.inputs[place])
    if node.op_type != "Slice":
        return kept.reshape(shape)
    whole, starts = np.zeros(shape, np.bool_), cuts(node) or {}
    ends = [(starts.get(axis, 0), size) for axis, size in enumerate(kept.shape)]
    whole[tuple(slice(start, start + size) for start, size in ends)] = kept
    return whole


def undone(nodes: Nodes, chunk: ir.Value, node: ir.Node, place: int) -> ir.Value:
    """A chunk behind an operator, as it was before it, at that place among its inputs."""
    before = node.inputs[place]
    shape = shape_of(before)
    if node.op_type in (*SHAPES, "Gather"):
        return nodes.reshape(chunk, shape)
    if node.op_type == "Cast":
        assert before is not None
        assert before.dtype is not None
        return nodes.add("Cast", [chunk], shape, {"to": int(before.dtype)}, before.dtype)
    if node.op_type == "Slice":
        return _filled(nodes, chunk, shape, cuts(node) or {})
    other = node.inputs[1 - place]
    assert other is not None
    assert other.const_value is not None
    return _solved(nodes, chunk, shape, node.op_type, place, other.const_value.numpy())


def _solved(
    nodes: Nodes, made: ir.Value, shape: list[int], kind: str, place: int, number: np.ndarray
) -> ir.Value:
    """What a number was before another was added to it, or taken from, or so on."""
    if kind == "Sub" and place == 1:
        kind, inputs = "Sub", [nodes.constant(number), made]
    elif kind == "Mul":
        wide = number.astype(np.float64)
        share = np.divide(1.0, wide, out=np.zeros_like(wide), where=wide != 0)
        kind, inputs = "Mul", [made, nodes.constant(share.astype(number.dtype))]
    else:
        kind = {"Add": "Sub", "Sub": "Add", "Div": "Mul"}[kind]
        inputs = [made, nodes.constant(number)]
    return nodes.add(kind, inputs, shape, dtype=made.dtype)


def _filled(nodes: Nodes, chunk: ir.Value, shape: list[int], starts: dict[int, int]) -> ir.Value:
    """A chunk with zeros where a Slice left something out."""
    assert chunk.dtype is not None
    now = shape_of(chunk)
    for axis, start in starts.items():
        sizes = (start, shape[axis] - start - now[axis])
        before, after = (
            nodes.constant(np.zeros((*now[:axis], size, *now[axis + 1 :]), chunk.dtype.numpy()))
            for size in sizes
        )
        pieces = [
            *([before] if sizes[0] else []),
            chunk,
            *([after] if sizes[1] else []),
        ]
        now[axis] = shape[axis]
        if len(pieces) > 1:
            chunk = nodes.add("Concat", pieces, now, {"axis": axis}, chunk.dtype)
    return chunk
