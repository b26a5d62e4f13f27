"""The graph of a .pt2 file: torch's schema 8, as far as it describes plain tensors and operators.

What torch makes of a file becomes Python source (names of operators and arguments), attributes
(operators), or imports (trees); so names are identifiers, operators are ATen's or of a list, and
trees are of tuples, lists and mappings. torch._export.serde.schema has the fields; which of them
are read, and what is good in them, stands here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vlacut.frontends.pt2.fields import (
    device,
    element_type,
    name,
    sym_bool,
    sym_float,
    sym_int,
    tensor,
    tensor_meta,
    text,
    weight_name,
    whole,
)
from vlacut.frontends.pt2.good import (
    Check,
    NotGood,
    empty,
    flag,
    integer,
    many,
    nullable,
    number,
    passed_over,
    record,
    shown,
    table,
    union,
    within,
    word,
)
from vlacut.frontends.pt2.trees import tree

_ATEN = re.compile(r"torch\.ops\.aten\.[A-Za-z_]\w*\.[A-Za-z_]\w*", re.ASCII)
_ONNX = re.compile(r"torch\.ops\.onnx\.[A-Za-z]\w*\.opset\d+", re.ASCII)
_SYMBOLIC = frozenset(
    (
        *(f"_operator.{name}" for name in ("eq", "ne", "le", "ge", "lt", "gt", "neg", "pos")),
        *(f"_operator.{name}" for name in ("mul", "add", "sub", "floordiv", "mod", "pow")),
        *(f"_operator.{name}" for name in ("truediv", "and_", "or_", "getitem")),
        *(f"torch.sym_{name}" for name in ("not", "int", "float", "ite", "max", "min", "sqrt")),
        *(f"math.{name}" for name in ("trunc", "ceil", "floor")),
    )
)
_OF_GRAPHS = frozenset(
    f"torch.ops.higher_order.{name}"
    for name in ("wrap_with_set_grad_enabled", "wrap_with_autocast", "cond", "scan", "while_loop")
)
# Arguments of ATen's operators that are text, and choose a way to compute. Not among them are the
# names of files (from_file) and what is printed (_print).
_TEXTS = frozenset(
    (
        *("approximate", "assert_msg", "driver", "equation", "indexing", "interpolation", "mode"),
        *("norm", "ord", "p", "pad_mode", "padding", "padding_side", "reduce", "rounding_mode"),
        *("side", "UPLO"),
    )
)


def _target(value: Any) -> str:
    if isinstance(value, str):
        if _ATEN.fullmatch(value) or _ONNX.fullmatch(value):
            return value
        if value in _SYMBOLIC or value in _OF_GRAPHS:
            return value
    raise NotGood(f"{shown(value)} is no operator with an ONNX form, and may run code when loaded")


_sym_int_argument = union({"as_name": name, "as_int": whole})
_sym_float_argument = union({"as_name": name, "as_float": number})
_sym_bool_argument = union({"as_name": name, "as_bool": flag})
_optional_tensor = union({"as_tensor": tensor, "as_none": passed_over})


def _graph_argument(value: Any) -> Any:
    return record({"name": name, "graph": _graph})(value)


_KINDS: Mapping[str, Check] = {
    "as_none": lambda value: True,
    "as_tensor": tensor,
    "as_tensors": many(tensor),
    "as_int": whole,
    "as_ints": many(whole),
    "as_float": number,
    "as_floats": many(number),
    "as_sym_int": _sym_int_argument,
    "as_sym_ints": many(_sym_int_argument),
    "as_sym_float": _sym_float_argument,
    "as_sym_floats": many(_sym_float_argument),
    "as_sym_bool": _sym_bool_argument,
    "as_sym_bools": many(_sym_bool_argument),
    "as_scalar_type": element_type,
    "as_memory_format": integer(1, 4),
    "as_layout": integer(7, 7),
    "as_device": device,
    "as_bool": flag,
    "as_bools": many(flag),
    "as_optional_tensor": _optional_tensor,
    "as_optional_tensors": many(_optional_tensor),
    "as_complex": record({"real": number, "imag": number}),
    "as_int_lists": many(many(whole)),
}
_argument = union(_KINDS)
_chosen = union({**_KINDS, "as_string": text})  # the argument's name is in _TEXTS
_of_graphs = union({**_KINDS, "as_graph": _graph_argument, "as_string": text})
_input_name = word(re.compile(r"\w*", re.ASCII), "an argument's name")


def _inputs(values: Any, target: str) -> list[Any]:
    made = []
    for value in many(lambda item: item)(values):
        called = value.get("name") if isinstance(value, dict) else None
        argument = _chosen if called in _TEXTS else _argument
        argument = _of_graphs if target in _OF_GRAPHS else argument
        fields = {"name": _input_name, "arg": argument}
        made.append(record(fields, {"kind": integer(0, 2)})(value))
    return made


def _metadata(value: Any) -> dict[str, str]:
    """Of what is said of an operator the modules it is in are read, as text."""
    stack = value.get("nn_module_stack") if isinstance(value, dict) else None
    return {} if stack is None else {"nn_module_stack": text(stack)}


def _node(value: Any) -> Any:
    target = _target(value.get("target") if isinstance(value, dict) else None)
    return record(
        {
            "target": _target,
            "inputs": lambda values: _inputs(values, target),
            "outputs": many(_argument),
            "metadata": _metadata,
        },
        {"is_hop_single_tensor_return": flag, "name": name},
    )(value)


_graph = record(
    {
        "inputs": many(_argument),
        "outputs": many(_argument),
        "nodes": many(_node),
        "tensor_values": table(name, tensor_meta),
        "sym_int_values": table(name, sym_int),
        "sym_bool_values": table(name, sym_bool),
    },
    {
        "is_single_tensor_return": flag,
        "custom_obj_values": empty,
        "sym_float_values": table(name, sym_float),
    },
)


def _calls(value: Any) -> list[Any]:
    """How the whole is called; how its modules are is not needed."""
    entries = [item for item in many(lambda item: item)(value) if isinstance(item, dict)]
    roots = [item for item in entries if item.get("fqn") == ""]
    if len(roots) != 1:
        raise NotGood(f"{len(roots)} descriptions of the inputs and outputs of the whole")
    signature = record(
        {
            "inputs": many(_argument),
            "outputs": many(_argument),
            "in_spec": lambda value: tree(value, arguments=True),
            "out_spec": tree,
        },
        {"forward_arg_names": many(name)},
    )
    return [record({"fqn": text, "signature": signature})(roots[0])]


_constant = union(
    {
        "as_none": lambda value: True,
        "as_int": whole,
        "as_float": number,
        "as_bool": flag,
        "as_string": text,
    }
)
_user = {"as_string": text, **_KINDS}
_signature = record(
    {
        "input_specs": many(
            union(
                {
                    "user_input": record({"arg": union(_user)}),
                    "parameter": record({"arg": tensor, "parameter_name": weight_name}),
                    "buffer": record(
                        {"arg": tensor, "buffer_name": weight_name, "persistent": flag}
                    ),
                    "tensor_constant": record({"arg": tensor, "tensor_constant_name": weight_name}),
                    "constant_input": record({"name": name, "value": _constant}),
                }
            )
        ),
        "output_specs": many(
            union(
                {
                    "user_output": record({"arg": union(_user)}),
                    "buffer_mutation": record({"arg": tensor, "buffer_name": weight_name}),
                    "parameter_mutation": record({"arg": tensor, "parameter_name": weight_name}),
                    "user_input_mutation": record({"arg": tensor, "user_input_name": name}),
                }
            )
        ),
    }
)
_program = record(
    {
        "graph_module": record(
            {"graph": _graph, "signature": _signature, "module_call_graph": _calls},
            {"metadata": lambda value: {}, "treespec_namedtuple_fields": empty},
        ),
        "opset_version": table(word(re.compile(r"\w+"), "a namespace"), integer(0, 1000)),
        "range_constraints": table(
            word(re.compile(r"[a-z]{1,3}\d{1,9}", re.ASCII), "a symbol"),
            record({"min_val": nullable(whole), "max_val": nullable(whole)}),
        ),
        "schema_version": record({"major": integer(8, 8), "minor": integer(0, 1000)}),
    },
    {
        "verifiers": many(word(re.compile("ATEN|TRAINING"), "a dialect")),
        "torch_version": text,
        "guards_code": empty,
    },
)


def good_program(value: Any) -> Any:
    """A graph and its signature, as torch's schema has them; NotGood naming what else is there.

    Expressions are sympy's objects, not text.
    """
    return within("graph", _program, value)
