"""What a trace must not do if it shall run step by step on two machines."""

from __future__ import annotations

import re

import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from vlacut.errors import ModelError
from vlacut.frontends.explaining import own_line

# Operators that draw where they are told to drop, and nothing else.
_DROPS = (
    *("dropout", "native_dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"),
    *("scaled_dot_product", "_scaled_dot_product", "rrelu", "lstm", "gru", "rnn_"),
)


def refuse_draws(exported: ExportedProgram, where: str) -> None:
    graphs = (
        one for one in exported.graph_module.modules() if isinstance(one, torch.fx.GraphModule)
    )
    for node in (node for one in graphs for node in one.graph.nodes):
        if node.op != "call_function" or not _is_seeded(node.target):
            continue
        name = getattr(node.target, "__name__", "").partition(".")[0]
        if not name.startswith(_DROPS):
            raise refusal(
                f"{where}: {_path(node)}{name} draws random numbers; noise must be an input", node
            )
        if _drops(node):
            what = "dropout" if "dropout" in name else f"the dropout of {name}"
            raise refusal(
                f"{where}: {_path(node)}{what} is active; call module.eval() before", node
            )


def refuse_complex(exported: ExportedProgram, where: str) -> None:
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


def refuse_writes(exported: ExportedProgram, where: str) -> None:
    signature = exported.graph_signature
    for kind, names in (
        ("buffer", signature.buffers_to_mutate),
        ("input", signature.user_inputs_to_mutate),
    ):
        for made, name in names.items():
            node = next((node for node in exported.graph.nodes if node.name == made), None)
            raise refusal(
                f"{where}: writes into its {kind} {name}; return the new value as an output "
                f"(and call module.eval() before, if it is a running statistic)",
                node,
            )


def refusal(text: str, node: torch.fx.Node | None) -> ModelError:
    """An error with the innermost line of the model's code that a node was traced from."""
    error = ModelError(text)
    stack = str(node.meta.get("stack_trace") or "") if node else ""
    lines = re.findall(r'File "([^"]+)", line (\d+), in [^\n]*\n\s*([^\n]*)', stack)
    error.place = own_line(reversed(lines))
    return error


def called(exported: ExportedProgram, text: str) -> torch.fx.Node | None:
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


def _path(node: torch.fx.Node) -> str:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return f"{stack[-1][0]}: " if stack and stack[-1][0] else ""
