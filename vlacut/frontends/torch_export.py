"""torch.export and the ONNX exporter, with the questions that vlacut has before and after."""

from __future__ import annotations

import io
import logging
import random
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import from_torch_dtype
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from vlacut.errors import ModelError
from vlacut.frontends.cures import with_cure
from vlacut.frontends.explaining import own_line
from vlacut.frontends.normalize import name_by_content
from vlacut.frontends.torchlib import torchlib_once

# Operators that draw where they are told to drop, and nothing else.
_DROPS = (
    *("dropout", "native_dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"),
    *("scaled_dot_product", "_scaled_dot_product", "rrelu", "lstm", "gru", "rnn_"),
)
_KIND = "pkg.torch.export.graph_signature.InputSpec.kind"
_MAX_REASON = 300


def export(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], where: str
) -> ExportedProgram:
    """Trace a module on example inputs.

    Raises ModelError, starting with `where`, with torch's reason.
    """
    said = io.StringIO()  # on an error, by torch: the graph so far
    before = _generators()
    try:
        with quiet(), torch.no_grad(), redirect_stderr(said):
            exported = torch.export.export(module, args, dict(kwargs), strict=False)
    except Exception as error:  # the user's forward may raise anything
        raise ModelError(with_cure(f"{where}: cannot be traced: {reason(error)}")) from error
    sys.stderr.write(said.getvalue())  # otherwise it is the user's
    for name, state in _generators().items():
        if state != before[name]:
            raise ModelError(
                f"{where}: draws from {name} while it is traced, and the numbers would stay the "
                f"same for ever; draw with torch.randn or torch.rand, or let noise be an input"
            )
    return exported


def _generators() -> dict[str, str]:
    """The states of the generators that code draws from without saying so."""
    return {
        "numpy.random": repr(np.random.get_state()),
        "Python's random": repr(random.getstate()),
        "torch's generator, outside of the trace,": repr(torch.get_rng_state().numpy().tobytes()),
    }


def emit(exported: ExportedProgram, opset: int, where: str) -> ir.Model:
    """The ONNX graph of a traced module, with the names of the exporter, in operators of version
    `opset`.

    Weights are named as in the state; of the names of a tied weight it is the first. Constants of
    the code are named by their content. Weights that are known by shape alone have no content.

    Raises ModelError, starting with `where`, for what cannot run step by step on two machines.
    """
    _refuse_draws(exported, where)
    _refuse_complex(exported, where)
    try:
        with quiet(), torch.no_grad(), torchlib_once():
            made = torch.onnx.export(
                exported, dynamo=True, optimize=False, verbose=False, opset_version=opset
            )
    except Exception as error:
        why = reason(error)
        raise _refusal(
            with_cure(f"{where}: has no ONNX form: {why}"), _called(exported, why)
        ) from error
    assert made is not None
    assert made.exported_program is not None
    _refuse_writes(made.exported_program, where)
    model: ir.Model = made.model
    _name_weights(model.graph, exported)
    _keep_output_types(model.graph, exported)
    _drop_zero_biases(model.graph)
    return model


def reason(error: BaseException) -> str:
    """One line saying why torch refused."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"[:_MAX_REASON]
    if type(error).__name__ in ("GuardOnDataDependentSymNode", "UserError"):
        return (
            f"its control flow or a shape depends on the values of a tensor ({text}); compute both "
            f"ways and choose with torch.where"
        )
    return text


def is_real(tensor: object) -> bool:
    """Whether it is a tensor with content."""
    return (
        isinstance(tensor, torch.Tensor)
        and not isinstance(tensor, FakeTensor)
        and not tensor.is_meta
    )


def _refuse_draws(exported: ExportedProgram, where: str) -> None:
    graphs = (
        one for one in exported.graph_module.modules() if isinstance(one, torch.fx.GraphModule)
    )
    for node in (node for one in graphs for node in one.graph.nodes):
        if node.op != "call_function" or not _is_seeded(node.target):
            continue
        name = getattr(node.target, "__name__", "").partition(".")[0]
        if not name.startswith(_DROPS):
            raise _refusal(
                f"{where}: {_path(node)}{name} draws random numbers; noise must be an input", node
            )
        if _drops(node):
            what = "dropout" if "dropout" in name else f"the dropout of {name}"
            raise _refusal(
                f"{where}: {_path(node)}{what} is active; call module.eval() before", node
            )


def _refusal(text: str, node: torch.fx.Node | None) -> ModelError:
    """An error with the innermost line of the model's code that a node was traced from."""
    error = ModelError(text)
    stack = str(node.meta.get("stack_trace") or "") if node else ""
    lines = re.findall(r'File "([^"]+)", line (\d+), in [^\n]*\n\s*([^\n]*)', stack)
    error.place = own_line(reversed(lines))
    return error


def _called(exported: ExportedProgram, text: str) -> torch.fx.Node | None:
    """The first call of an operator that a text names, as torch writes operators."""
    calls = (node for node in exported.graph.nodes if node.op == "call_function")
    return next((node for node in calls if repr(node.target) in text), None)


def _is_seeded(target: object) -> bool:
    """Whether an operator draws by torch's own mark."""
    return torch.Tag.nondeterministic_seeded in getattr(target, "tags", ())


def _drops(node: torch.fx.Node) -> bool:
    """Whether an operator that may draw does: it is told to, and drops some."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]  # of an operator
    given = {one.name: one.default_value for one in schema if one.has_default_value()}
    given |= dict(zip((one.name for one in schema), node.args, strict=False)) | node.kwargs
    share = next((given[name] for name in ("dropout_p", "dropout", "p") if name in given), 1.0)
    trains = given.get("train", given.get("training")) is not False
    return trains and share != 0 and given.get("num_layers", 2) > 1


def _refuse_complex(exported: ExportedProgram, where: str) -> None:
    """Inside a graph the exporter makes complex numbers pairs; its border must be real."""
    given = exported.graph_signature.user_inputs
    border = [node for node in exported.graph.nodes if node.name in given]
    border += pytree.tree_leaves(exported.graph.output_node().args)
    for node in border:
        traced = node.meta.get("val") if isinstance(node, torch.fx.Node) else None
        if isinstance(traced, torch.Tensor) and traced.is_complex():
            raise ModelError(
                f"{where}: {node.name} is {traced.dtype}; inputs and outputs must be real, "
                f"see torch.view_as_real"
            )


def _path(node: torch.fx.Node) -> str:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return f"{stack[-1][0]}: " if stack and stack[-1][0] else ""


def _refuse_writes(exported: ExportedProgram, where: str) -> None:
    signature = exported.graph_signature
    for kind, names in (
        ("buffer", signature.buffers_to_mutate),
        ("input", signature.user_inputs_to_mutate),
    ):
        for made, name in names.items():
            node = next((node for node in exported.graph.nodes if node.name == made), None)
            raise _refusal(
                f"{where}: writes into its {kind} {name}; return the new value as an output "
                f"(and call module.eval() before, if it is a running statistic)",
                node,
            )


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


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's chatter from the user: its warnings here are about torch's own code."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Modules built inside have parameters without content (on "meta") and real buffers."""
    register = torch.nn.Module.register_parameter

    def register_shape(self: torch.nn.Module, name: str, param: torch.nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:
            param = torch.nn.Parameter(param.to("meta"), requires_grad=param.requires_grad)
        register(self, name, param)

    torch.nn.Module.register_parameter = register_shape  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = register  # type: ignore[method-assign]


@contextmanager
def faked(module: torch.nn.Module, inputs: Any) -> Iterator[Any]:
    """Yield copies of the inputs, and meanwhile let the module have no tensor on "meta".

    What is on "meta" has a fake tensor on "cpu" as a stand-in: operators refuse to mix "meta" with
    real tensors, but mix fake ones with both. Copies, for torch takes two inputs that are the same
    tensor to be one.
    """
    stores: list[dict[str, Any]] = [
        store for item in module.modules() for store in (item._parameters, item._buffers)
    ]
    meta = [
        (store, name, tensor)
        for store in stores
        for name, tensor in store.items()
        if tensor is not None and tensor.is_meta
    ]
    leaves, spec = pytree.tree_flatten(inputs)
    stand_in = _StandIns()
    try:
        for store, name, tensor in meta:
            store[name] = stand_in.weight(tensor)
        yield pytree.tree_unflatten([stand_in.input(leaf) for leaf in leaves], spec)
    finally:
        for store, name, tensor in meta:
            store[name] = tensor


class _StandIns:
    """Fake tensors on "cpu" for tensors on "meta", one for each."""

    def __init__(self) -> None:
        self._mode = FakeTensorMode()
        self._made: dict[int, torch.Tensor] = {}

    def weight(self, tensor: torch.Tensor) -> torch.Tensor:
        """The one stand-in of a parameter or buffer, so that tied weights stay tied."""
        if id(tensor) not in self._made:
            fake = self._fake(tensor)
            if isinstance(tensor, torch.nn.Parameter):
                fake = torch.nn.Parameter(fake, requires_grad=tensor.requires_grad)
            self._made[id(tensor)] = fake
        return self._made[id(tensor)]

    def input(self, leaf: Any) -> Any:
        """A new tensor for an input that is one."""
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return self._fake(leaf) if leaf.is_meta else leaf.detach().clone()

    def _fake(self, tensor: torch.Tensor) -> torch.Tensor:
        with self._mode:
            return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype)
