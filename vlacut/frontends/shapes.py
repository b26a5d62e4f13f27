"""Types and static shapes on every value of a graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir
from onnx_ir.passes import common

from vlacut.errors import ModelError
from vlacut.frontends.cures import with_cure
from vlacut.ir.folding import fold_constants
from vlacut.ir.rewriting import remove_unused

_SHOWN = 5
_SMALL = 1000  # bytes of a weight that may hold a shape


def infer_shapes(model: ir.Model, where: str) -> None:
    """Infer type and shape of every value, in place.

    Where a shape is computed by the graph itself, the computation is folded, and so on until all
    shapes are known.

    Raises ModelError, starting with `where`, naming the first values whose shape stays unknown.
    """
    _infer(model)
    unknown = list(_unknown(model))
    while unknown and fold_constants(model):
        remove_unused(model)
        _infer(model)
        unknown = list(_unknown(model))
    if unknown:
        shown = ", ".join(unknown[:_SHOWN]) + (", ..." if len(unknown) > _SHOWN else "")
        raise ModelError(
            with_cure(
                f"{where}: the shapes of {len(unknown)} values depend on more than the inputs' "
                f"shapes, first those made by {shown}; shapes must be static"
            )
        )


def _infer(model: ir.Model) -> None:
    """One run of ONNX's inference; initializers stay in their order."""
    ordered = list(model.graph.initializers.values())
    with _lent(model):
        common.ShapeInferencePass(strict_mode=False)(model)
    model.graph.initializers.clear()
    for value in ordered:
        model.graph.initializers.add(value)


@contextmanager
def _lent(model: ir.Model) -> Iterator[None]:
    """Let subgraphs have the small weights that they read of the graph, for the while.

    ONNX's inference does not look outside of a subgraph for the numbers that a shape depends on.
    """
    lent: list[tuple[ir.Graph, str]] = []
    for graph in list(model.graphs())[1:]:
        read = {value for node in graph for value in node.inputs if value is not None}
        for value in model.graph.initializers.values():
            tensor, name = value.const_value, str(value.name)
            if value in read and tensor is not None and tensor.nbytes <= _SMALL:
                graph.initializers.add(
                    ir.Value(name=name, shape=value.shape, type=value.type, const_value=tensor)
                )
                lent.append((graph, name))
    try:
        yield
    finally:
        for graph, name in lent:
            del graph.initializers[name]


def _unknown(model: ir.Model) -> Iterator[str]:
    """Descriptions of the operators that make a value of unknown shape or type."""
    for node in (node for graph in model.graphs() for node in graph):
        for value in node.outputs:
            read = value.uses() or value.is_graph_output()
            static = value.shape is not None and value.shape.is_static()
            if read and not (static and value.dtype is not None):
                yield f"{node.name} ({node.op_type})"
