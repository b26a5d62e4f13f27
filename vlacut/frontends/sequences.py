"""Sequences of tensors, which no executor hands from one part to another, as slices.

torch's exporter writes `split` and `chunk` as SplitToSequence with a SequenceAt for every piece.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir

from vlacut.errors import ModelError
from vlacut.ir.rewriting import constant, remove_unused, replace_value


def slice_sequences(model: ir.Model, where: str) -> None:
    """Let a Slice make what SequenceAt takes of SplitToSequence, where sizes are constants.

    Raises ModelError, starting with `where`, naming an operator that makes any other sequence, or
    an optional.
    """
    for graph in model.graphs():
        for node in list(graph):
            if node.domain == "" and node.op_type == "SplitToSequence":
                _slice_pieces(model.graph, node)
    remove_unused(model)
    for node in (node for graph in model.graphs() for node in graph):
        opset = model.graph.opset_imports.get(node.domain, 1)
        if not onnx.defs.has(node.op_type, opset, node.domain):
            continue  # of another domain: what it makes shows in the types
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
        if any(_is_no_tensor(output) for output in schema.outputs):
            raise ModelError(
                f"{where}: node {node.name or '(unnamed)'}: {node.op_type} makes a sequence or an "
                f"optional; only dense tensors of numbers can be compiled"
            )


def _is_no_tensor(output: onnx.defs.OpSchema.FormalParameter) -> bool:
    return not any(kind.startswith("tensor(") for kind in output.types)


def _slice_pieces(weights: ir.Graph, split: ir.Node) -> None:
    sizes = split.inputs[1] if len(split.inputs) > 1 else None
    known = ir.convenience.get_const_tensor(sizes) if sizes is not None else None
    source = split.inputs[0]
    if known is None or source is None:
        return
    axis = split.attributes.get_int("axis", 0)
    for take in list(split.outputs[0].consumers()):
        position = _position(take)
        if position is None:
            continue
        bounds = _bounds(known.numpy(), position)
        operands = [*bounds, axis]
        inputs = [constant(weights, ir.tensor(np.array([item], np.int64))) for item in operands]
        piece = ir.node("Slice", [source, *inputs], name=take.name)
        piece.metadata_props.update(split.metadata_props)
        made, old = piece.outputs[0], take.outputs[0]
        made.name, made.type, made.shape = f"{old.name}_piece", old.type, old.shape
        assert take.graph is not None
        take.graph.insert_before(take, piece)
        replace_value(old, made)
        take.graph.remove(take, safe=True)


def _position(take: ir.Node) -> int | None:
    """Which piece a SequenceAt takes, if that is a constant that counts from the front."""
    if take.op_type != "SequenceAt" or take.inputs[1] is None:
        return None
    known = ir.convenience.get_const_tensor(take.inputs[1])
    position = -1 if known is None else int(known.numpy().reshape(-1)[0])
    return position if position >= 0 else None


def _bounds(sizes: np.ndarray, position: int) -> Iterator[int]:
    """Start and end of a piece; a Slice may end behind its operand, as the last piece does."""
    if sizes.ndim == 0:
        yield position * int(sizes)
        yield (position + 1) * int(sizes)
    else:
        yield int(sizes[:position].sum())
        yield int(sizes[: position + 1].sum())
