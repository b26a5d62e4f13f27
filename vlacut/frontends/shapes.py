"""Types and static shapes on every value of a graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import onnx_ir as ir
from onnx_ir.passes import common

from vlacut.errors import ModelError
from vlacut.frontends.branches import inline_branches
from vlacut.frontends.cures import with_cure
from vlacut.frontends.foreign import settle_foreign
from vlacut.frontends.known_shapes import is_known
from vlacut.frontends.loops import assume_shapes, settle_shapes, unroll_loops
from vlacut.ir.folding import fold_constants
from vlacut.ir.rewriting import remove_unused

_SHOWN = 5
_SMALL = 1000  # bytes of a weight that may hold a shape


def infer_shapes(model: ir.Model, where: str) -> None:
    """Infer type and shape of every value, in place, of the graphs within operators too.

    Where a shape is computed by the graph itself, the computation is folded, an If of a constant
    condition becomes what it chooses, a Loop of a constant number of trips these trips, and so on
    until all shapes are known. Operators that are not ONNX's are tried on ONNX Runtime.

    Raises ModelError, starting with `where`, naming the first values whose shape stays unknown, or
    as `foreign.settle_foreign` does.
    """
    _infer(model)
    while _settled(model, where):
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


def infer_outputs(model: ir.Model, doubtful: Sequence[ir.Value]) -> None:
    """Let outputs have the shapes that follow from the inputs', in place, where they do.

    What a file says of an output whose dimensions have names may be wrong: exporters call a
    dimension after the batch that is as large by chance.
    """
    said = {value: value.shape for value in doubtful}
    for value in said:
        value.shape = None
    if said:
        _infer(model)
    for value, shape in said.items():
        if not is_known(value):
            value.shape = shape


def _settled(model: ir.Model, where: str) -> int:
    """Do what lets more shapes be known, the mildest first; 0 if nothing was to be done."""
    tried = settle_foreign(model, where)
    unknown = any(True for _ in _unknown(model))
    folded = fold_constants(model) if unknown or _branches(model) else 0
    return (
        folded
        or tried
        or inline_branches(model)
        or (unknown and (_loop_shapes(model) or unroll_loops(model, where)))
    )


def _branches(model: ir.Model) -> bool:
    return any(node.op_type == "If" for node in model.graph.all_nodes())


def _loop_shapes(model: ir.Model) -> int:
    """Shapes that loops make, where every trip makes those it is given."""
    assumed = assume_shapes(model)
    if assumed:
        _infer(model)
    return settle_shapes(model, assumed)


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
    for node in model.graph.all_nodes():
        for value in node.outputs:
            read = value.uses() or value.is_graph_output()
            if read and not is_known(value):
                yield f"{node.name} ({node.op_type})"
