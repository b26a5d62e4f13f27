"""The ONNX graph of a traced module, by torch's exporter, and what that leaves to mend."""

from __future__ import annotations

import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import from_torch_dtype
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from vlacut.frontends.cures import with_cure
from vlacut.frontends.exported.fakes import is_real
from vlacut.frontends.exported.refusals import (
    called,
    refusal,
    refuse_complex,
    refuse_draws,
    refuse_writes,
)
from vlacut.frontends.exported.saying import quiet, reason
from vlacut.frontends.exported.torchlib import torchlib_once
from vlacut.frontends.normalize import name_by_content

_KIND = "pkg.torch.export.graph_signature.InputSpec.kind"


def emit(exported: ExportedProgram, opset: int, where: str) -> ir.Model:
    """The ONNX graph of a traced module, with the names of the exporter, in operators of version
    `opset`.

    Weights are named as in the state; of the names of a tied weight it is the first. Constants of
    the code are named by their content. Weights that are known by shape alone have no content.

    Raises ModelError, starting with `where`, for what cannot run step by step on two machines.
    """
    refuse_draws(exported, where)
    refuse_complex(exported, where)
    try:
        with quiet(), torch.no_grad(), torchlib_once():
            made = torch.onnx.export(
                exported, dynamo=True, optimize=False, verbose=False, opset_version=opset
            )
    except Exception as error:
        why = reason(error)
        raise refusal(
            with_cure(f"{where}: has no ONNX form: {why}"), called(exported, why)
        ) from error
    assert made is not None
    assert made.exported_program is not None
    refuse_writes(made.exported_program, where)
    model: ir.Model = made.model
    _name_weights(model.graph, exported)
    _keep_output_types(model.graph, exported)
    _drop_zero_biases(model.graph)
    return model


def _name_weights(graph: ir.Graph, exported: ExportedProgram) -> None:
    first: dict[tuple[object, ...], str] = {}
    for name, tensor in exported.state_dict.items():
        first.setdefault(_identity(tensor), name)
    for name, value in list(graph.initializers.items()):
        tensor = getattr(value.const_value, "raw", None)
        if not is_real(tensor):
            value.const_value = None
        elif value.metadata_props.get(_KIND) == "CONSTANT_TENSOR":
            name_by_content(value)
            continue
        known = exported.state_dict.get(name)
        wanted = name if known is None else first[_identity(known)]
        if wanted in graph.initializers:
            if wanted != name:
                ir.convenience.replace_all_uses_with(value, graph.initializers[wanted])
                del graph.initializers[name]
        else:
            value.name = wanted


def _keep_output_types(graph: ir.Graph, exported: ExportedProgram) -> None:
    """Cast outputs to the types that the module gives them.

    PyTorch 2.13's exporter computes sums and maxima of 16 bits in float32, and casts back what
    another operator reads, but not what is an output.
    """
    leaves = pytree.tree_leaves(exported.graph.output_node().args)
    nodes = [leaf for leaf in leaves if isinstance(leaf, torch.fx.Node)]
    for index, (value, node) in enumerate(zip(graph.outputs, nodes, strict=False)):
        traced, maker = node.meta["val"], value.producer()
        if maker is None or not isinstance(traced, torch.Tensor):
            continue
        dtype = from_torch_dtype(traced.dtype)
        if value.dtype != dtype:
            graph.outputs[index] = _cast(maker, value, dtype)


def _drop_zero_biases(graph: ir.Graph) -> None:
    """Let a convolution without a bias have none: of conv3d, onnxscript 0.7 makes [channels, 2]."""
    for node in graph:
        bias = node.inputs[2] if node.op_type == "Conv" and len(node.inputs) > 2 else None
        maker = bias.producer() if bias is not None else None
        zero = maker.inputs[0] if maker is not None and maker.op_type == "Expand" else None
        source = zero.producer() if zero is not None else None
        if source is not None and source.op_type == "CastLike" and source.inputs[0] is not None:
            known = ir.convenience.get_const_tensor(source.inputs[0])
            if known is not None and not known.numpy().any():
                node.resize_inputs(2)


def _cast(maker: ir.Node, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """A value in another type, right behind the operator that makes it."""
    cast = ir.node("Cast", [value], {"to": int(dtype)}, name=f"{maker.name}.cast")
    cast.metadata_props.update(maker.metadata_props)
    made = cast.outputs[0]
    made.name, made.shape, made.type = f"{value.name}.cast", value.shape, ir.TensorType(dtype)
    maker.graph.insert_after(maker, cast)  # type: ignore[union-attr]  # it is in the graph
    return made


def _identity(tensor: torch.Tensor) -> tuple[object, ...]:
    """Equal for two tensors that are one weight."""
    if not is_real(tensor) or tensor.numel() == 0:
        return (id(tensor),)
    return (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
