#!/usr/bin/env python3
"""vlacut-export: trace a policy where it is at home, and write what vlacut compiles elsewhere.

This file alone, Python from 3.10 on and its library, and your own PyTorch from 2.4 on: copy it
beside your policy, or have it as a command by `pip install vlacut`, which needs numpy alone.

    python vlacut_export.py policy.py:make -o FOLDER
    vlacut compile FOLDER --edge ... --cloud ... --link ... -o policy.vlacut     # elsewhere

`make` returns `(module, args)`, `(module, args, kwargs)`, or a policy of several phases:

    {
        "name": "policy",
        "phases": [
            {"name": "encode", "module": m, "method": "encode", "inputs": {"image": image},
             "outputs": ["context"]},
            {"name": "act", "module": m, "method": "act", "trips": 10,
             "inputs": {"noise": noise, "context": context}, "outputs": ["action"],
             "carried": {"action": "noise"}},
        ],
        "inputs": ["image", "noise"],
        "outputs": ["action"],
    }

FOLDER holds `program.toml` (names, trips, what is carried, versions) and for each phase a `.pt2`
file in the form that torch 2.9 writes: the graph of ATen's operators, the weights it reads, and the
example. Every phase is run beside its trace, on the example and on variations of it, and one that
differs is refused.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import importlib.util
import inspect
import io
import json
import math
import operator
import os
import re
import shutil
import sys
import tempfile
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

_SCHEMA = {"major": 8, "minor": 0}  # torch._export.serde.schema of 2.9
_ATEN_OPSET = 10
_CHUNK_BYTES = 1 << 26
_ALIGNMENT = 64
_TYPES = {
    name: number
    for number, name in (
        *enumerate(("uint8", "int8", "int16", "int32", "int64", "float16", "float32"), 1),
        (8, "float64"),
        *((10, "complex64"), (11, "complex128"), (12, "bool"), (13, "bfloat16"), (28, "uint16")),
        *((29, "float8_e4m3fn"), (30, "float8_e5m2")),
    )
}
_FORMATS = {
    torch.contiguous_format: 1,
    torch.channels_last: 2,
    torch.channels_last_3d: 3,
    torch.preserve_format: 4,
}
_TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
_SLOPPIEST = 5e-2
_DROPPED = ("_assert_tensor_metadata", "_assert_async", "sym_constrain_range", "_is_all_true")


class ExportError(Exception):
    """What is wrong, where, and what to do, on one line."""


def export_policy(
    policy: Any, out: os.PathLike[str] | str, tolerance: float | None = None, check: bool = True
) -> list[str]:
    """Trace a policy and write the folder `out`, which must not be there yet.

    Args:
        policy: `(module, args)`, `(module, args, kwargs)`, or a mapping as above.
        out: path of the folder.
        tolerance: how far a trace may be from its module, as a share of an output's largest
            magnitude; by element type if None.
        check: whether to compare them.

    Returns a line on each phase. Raises ExportError; nothing is half-written.
    """
    folder = Path(out)
    if folder.exists():
        raise ExportError(f"{folder}: is there already; name another folder, or remove it")
    if not folder.absolute().parent.is_dir():
        raise ExportError(f"{folder.absolute().parent}: No such file or directory; make it first")
    described = _described(policy)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=str(folder.absolute().parent)))
    said = []
    try:
        for phase in described["phases"]:
            said.append(_write_phase(phase, staging, tolerance, check))
        (staging / "program.toml").write_text(_toml(described), encoding="utf-8")
        os.chmod(staging, 0o755)
        staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return said


# A policy as phases -----------------------------------------------------------------------------

_PHASE_KEYS = ("name", "module", "inputs", "outputs", "method", "trips", "carried")
_POLICY_KEYS = ("name", "phases", "inputs", "outputs", "state")
_NAME = re.compile(r"[A-Za-z0-9_-]+")


def _described(policy: Any) -> dict[str, Any]:
    if isinstance(policy, Mapping):
        unknown = [key for key in policy if key not in _POLICY_KEYS]
        if unknown or "phases" not in policy or not policy.get("outputs"):
            raise ExportError(
                f"a policy has {', '.join(_POLICY_KEYS)}; "
                + (
                    f"{unknown[0]!r} is none of them"
                    if unknown
                    else "phases and outputs are needed"
                )
            )
        phases = [_phase_of(item) for item in policy["phases"]]
        return {"name": "policy", **policy, "phases": phases}
    items = policy if isinstance(policy, tuple) else (policy,)
    if len(items) not in (2, 3) or not isinstance(items[1], tuple):
        raise ExportError(
            "it must be (module, args), (module, args, kwargs) or a mapping of phases"
        )
    args, kwargs = items[1], dict(items[2]) if len(items) == 3 else {}
    return {"name": "policy", "phases": [_phase_of_module(items[0], args, kwargs)]}


def _phase_of(item: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [key for key in item if key not in _PHASE_KEYS]
    missing = [key for key in _PHASE_KEYS[:4] if key not in item]
    if unknown or missing:
        wrong = f"{unknown[0]!r} is none of them" if unknown else f"{missing[0]} is missing"
        raise ExportError(f"a phase has {', '.join(_PHASE_KEYS)}; {wrong}")
    name, inputs = str(item["name"]), dict(item["inputs"])
    if not _NAME.fullmatch(name):
        raise ExportError(f"phase name {name!r} must be letters, digits, - and _")
    for key, tensor in inputs.items():
        if not isinstance(tensor, torch.Tensor):
            raise ExportError(f"phase {name}: input {key} is no tensor; give an example of it")
    module = _bound(item["module"], item.get("method", "forward"), name)
    carried = dict(item.get("carried", {}))
    for made, read in carried.items():
        if made not in item["outputs"] or read not in inputs:
            raise ExportError(f"phase {name}: carried {made} = {read} must be an output = an input")
    return {
        "name": name,
        "module": module,
        "call": module,
        "inputs": inputs,
        "outputs": list(item["outputs"]),
        "trips": int(item.get("trips", 1)),
        "carried": carried,
    }


def _bound(module: torch.nn.Module, method: str, where: str) -> torch.nn.Module:
    if method == "forward":
        return module
    function = getattr(type(module), method, None)
    if function is None:
        raise ExportError(f"phase {where}: {type(module).__name__} has no method {method}")
    twin = copy.copy(module)  # shares parameters, buffers and submodules
    twin.forward = types.MethodType(function, twin)
    return twin


def _phase_of_module(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """A module with whatever arguments, called with its tensors in a row."""
    leaves, tree = pytree.tree_flatten((args, dict(kwargs)))
    places = [index for index, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    paths = _paths(tree, _argument_names(module, args))
    names = _free_names([paths[place] for place in places])

    def call(*tensors: torch.Tensor) -> Any:
        filled = list(leaves)
        for place, tensor in zip(places, tensors, strict=True):
            filled[place] = tensor
        its_args, its_kwargs = pytree.tree_unflatten(filled, tree)
        return type(module).forward(module, *its_args, **its_kwargs)

    twin = copy.copy(module)
    twin.forward = call  # not a method: it has the module already
    return {
        "name": "main",
        "module": twin,
        "call": twin,
        "inputs": dict(zip(names, (leaves[place] for place in places), strict=True)),
        "outputs": None,  # named as what it returns
        "trips": 1,
        "carried": {},
    }


def _argument_names(module: torch.nn.Module, args: tuple[Any, ...]) -> list[str]:
    try:
        parameters = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [each.name for each in parameters if each.kind in (0, 1)]
    return [names[index] if index < len(names) else f"arg_{index}" for index in range(len(args))]


def _paths(tree: Any, arguments: Sequence[str]) -> list[list[Any]]:
    """Where each leaf of `(args, kwargs)` is: the argument's name, then keys and places."""
    numbered = pytree.tree_unflatten(list(range(tree.num_leaves)), tree)
    found: dict[int, list[Any]] = {}

    def walk(item: Any, path: list[Any]) -> None:
        if isinstance(item, int) and not isinstance(item, bool):
            found[item] = path
        elif isinstance(item, Mapping):
            for key, each in item.items():
                walk(each, [*path, str(key)])
        elif isinstance(item, (list, tuple)):
            for index, each in enumerate(item):
                walk(each, [*path, index])
        else:
            leaves = pytree.tree_leaves(item)
            for index, leaf in enumerate(leaves):
                walk(leaf, [*path, index])

    args, kwargs = numbered
    for name, item in zip(arguments, args, strict=True):
        walk(item, [name])
    for name, item in kwargs.items():
        walk(item, [name])
    return [found[index] for index in range(tree.num_leaves)]


def _free_names(paths: Sequence[Sequence[Any]]) -> list[str]:
    """Keys of mappings alone where nothing else is called so, else the whole path."""
    short = [_short(path) for path in paths]
    whole = [".".join(map(str, path)) for path in paths]
    return [one if short.count(one) == 1 else all_ for one, all_ in zip(short, whole, strict=True)]


def _short(path: Sequence[Any]) -> str:
    first = next((at for at, step in enumerate(path) if at and isinstance(step, str)), 0)
    return ".".join(map(str, path[first:]))


# A phase as a .pt2 file -------------------------------------------------------------------------


def _write_phase(phase: dict[str, Any], folder: Path, tolerance: float | None, check: bool) -> str:
    name, tensors = phase["name"], tuple(phase["inputs"].values())
    real = [tensor.detach().clone() for tensor in tensors]  # two that are one would be one input
    exported = _export(phase["module"], tuple(real), name)
    _refuse_writes(exported, name)
    with torch.no_grad():
        returned = phase["call"](*[tensor.clone() for tensor in real])
    names = _output_names(returned, list(phase["inputs"]))
    if phase["outputs"] is None:
        phase["outputs"] = names
    if len(phase["outputs"]) != len(names):
        raise ExportError(
            f"phase {name}: {len(phase['outputs'])} names of outputs "
            f"({', '.join(phase['outputs'])}) for {len(names)} tensors; give one name a tensor"
        )
    said = "not compared with its module: --no-check"
    if check:
        said = _compare(phase, exported, real, tolerance)
    phase["checked"] = said
    _Writer(exported, name, len(names)).write(folder / f"{name}.pt2", real)
    return f"phase {name}: {said}"


def _export(module: torch.nn.Module, tensors: tuple[torch.Tensor, ...], name: str) -> Any:
    for part in module.modules():
        if part.training and isinstance(part, (torch.nn.Dropout, torch.nn.BatchNorm2d)):
            raise ExportError(f"phase {name}: the module is in training; call module.eval() first")
    try:
        with warnings.catch_warnings(), torch.no_grad(), _grad_mode_kept():
            warnings.simplefilter("ignore")
            return torch.export.export(module, tensors, strict=False)
    except Exception as error:  # the user's code may raise anything
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"[:300]
        raise ExportError(
            f"phase {name}: torch {torch.__version__} cannot trace it: {reason}"
        ) from error


def _refuse_writes(exported: Any, name: str) -> None:
    """Weights and inputs stay as they are, or a step could not be run in two places."""
    written = [
        spec.target
        for spec in exported.graph_signature.output_specs
        if spec.kind.name != "USER_OUTPUT"
    ]
    specs = {
        spec.arg.name: spec.target or spec.arg.name for spec in exported.graph_signature.input_specs
    }
    views = dict(specs)  # nodes that are part of one of these
    for node in exported.graph_module.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        for argument, value in zip(schema.arguments if schema else (), node.args, strict=False):
            whole = views.get(value.name) if isinstance(value, torch.fx.Node) else None
            if whole is None or argument.alias_info is None:
                continue
            if argument.alias_info.is_write:
                written.append(whole)
            views[node.name] = whole
    if written:
        raise ExportError(
            f"phase {name}: writes into {written[0]}; return the new value as an output (and call "
            f"module.eval() first, if it is a running statistic)"
        )


@contextmanager
def _grad_mode_kept() -> Iterator[None]:
    """Meanwhile `with torch.no_grad()` does nothing: no gradient is computed in any case.

    Torch 2.4 traces what is inside as a graph of its own, and mixes up the names of outputs.
    """
    kinds: Any = (torch.no_grad, torch.enable_grad, torch.inference_mode)
    before = [(kind, kind.__enter__, kind.__exit__) for kind in kinds]
    try:
        for kind in kinds:
            kind.__enter__ = lambda self: None
            kind.__exit__ = lambda self, *_: None
        yield
    finally:
        for kind, enter, leave in before:
            kind.__enter__, kind.__exit__ = enter, leave


def _output_names(returned: Any, inputs: Sequence[str]) -> list[str]:
    paths: list[list[Any]] = []

    def walk(item: Any, path: list[Any]) -> None:
        if isinstance(item, torch.Tensor):
            paths.append(path)
        elif isinstance(item, Mapping):
            for key, each in item.items():
                walk(each, [*path, str(key)])
        elif hasattr(item, "_fields"):
            for key, each in zip(item._fields, item, strict=True):
                walk(each, [*path, str(key)])
        elif isinstance(item, (list, tuple)):
            for index, each in enumerate(item):
                walk(each, [*path, index])

    walk(returned, [])
    found = len(pytree.tree_leaves(returned)), len(paths)
    tensors = [leaf for leaf in pytree.tree_leaves(returned) if isinstance(leaf, torch.Tensor)]
    if len(tensors) != found[1]:
        return [f"output_{index}" for index in range(len(tensors))]
    short = [_without_places(path) for path in paths]
    names = []
    for path, one in zip(paths, short, strict=True):
        whole = ".".join(map(str, path)) or "0"
        free = one and short.count(one) == 1
        made = one if free else (whole if path and isinstance(path[0], str) else f"output_{whole}")
        names.append(f"{made}_out" if made in inputs else made)
    return names


def _without_places(path: Sequence[Any]) -> str:
    first = next((at for at, step in enumerate(path) if isinstance(step, str)), len(path))
    return ".".join(map(str, path[first:]))


class _Writer:
    """Writes a program of torch.export as torch 2.9 does; its inputs and outputs are tensors."""

    def __init__(self, exported: Any, where: str, outputs: int) -> None:
        self._exported, self._where = exported, where
        self._signature = exported.graph_signature
        self._values: dict[str, Any] = {}
        self._same: dict[str, str] = {}  # a getitem that another one stands for
        self._weights: dict[str, tuple[torch.Tensor, bool]] = {}
        self._constants: dict[str, tuple[torch.Tensor, bool]] = {}
        self._count = outputs

    def write(self, path: Path, example: Sequence[torch.Tensor]) -> None:
        """Write the file. Raises ExportError naming an operator that it has no form for."""
        program = self._program()
        saved = io.BytesIO()
        torch.save((tuple(tensor.cpu().contiguous() for tensor in example), {}), saved)
        with _Archive(path) as archive:
            for folder, kind, tensors in (
                ("weights", "weight", self._weights),
                ("constants", "tensor", self._constants),
            ):
                table = archive.add_tensors(f"data/{folder}/{kind}", tensors)
                archive.add(
                    f"data/{folder}/model_{folder}_config.json",
                    json.dumps({"config": table}).encode(),
                )
            archive.add("models/model.json", json.dumps(program, allow_nan=False).encode())
            archive.add("data/sample_inputs/model.pt", saved.getvalue())
            archive.add("archive_format", b"pt2")
            archive.add("archive_version", b"0")
            archive.add("byteorder", sys.byteorder.encode())

    def _program(self) -> dict[str, Any]:
        graph = self._exported.graph_module.graph
        held = {**self._exported.state_dict, **self._exported.constants}
        specs = {spec.arg.name: spec for spec in self._signature.input_specs}
        given, inputs = [], []
        for node in graph.nodes:
            if node.op != "placeholder":
                continue
            entry = self._input(node, specs[node.name], held)
            if entry is not None:
                inputs.append({"as_tensor": {"name": node.name}})
                given.append(entry)
                self._note(node.name, node.meta["val"])
        nodes = [made for node in graph.nodes for made in self._node(node)]
        (output,) = [node for node in graph.nodes if node.op == "output"]
        outputs = self._outputs(output)
        return {
            "graph_module": {
                "graph": {
                    "inputs": inputs,
                    "outputs": outputs,
                    "nodes": nodes,
                    "tensor_values": self._values,
                    "sym_int_values": {},
                    "sym_bool_values": {},
                    "is_single_tensor_return": False,
                    "custom_obj_values": {},
                },
                "signature": {
                    "input_specs": given,
                    "output_specs": [{"user_output": {"arg": item}} for item in outputs],
                },
                "module_call_graph": [
                    {
                        "fqn": "",
                        "signature": {
                            "inputs": [],
                            "outputs": [],
                            "in_spec": _spec(
                                [_leaves("tuple", self._tensors(given)), _leaves("dict", 0)]
                            ),
                            "out_spec": json.dumps([1, _leaves("tuple", len(outputs))]),
                            "forward_arg_names": [],
                        },
                    }
                ],
            },
            "opset_version": {"aten": _ATEN_OPSET},
            "range_constraints": {},
            "schema_version": _SCHEMA,
            "verifiers": ["TRAINING"],
            "torch_version": str(torch.__version__),
        }

    @staticmethod
    def _tensors(given: Sequence[Mapping[str, Any]]) -> int:
        return sum("user_input" in item for item in given)

    def _input(self, node: Any, spec: Any, held: Mapping[str, Any]) -> dict[str, Any] | None:
        kind, arg = spec.kind.name, {"name": node.name}
        if kind == "USER_INPUT":
            return {"user_input": {"arg": {"as_tensor": arg}}}
        if not node.users:
            return None  # a weight that this phase does not read
        if kind == "PARAMETER":
            self._weights[spec.target] = held[spec.target], True
            return {"parameter": {"arg": arg, "parameter_name": spec.target}}
        if kind == "BUFFER":
            persistent = spec.target in self._exported.state_dict
            store = self._weights if persistent else self._constants
            store[spec.target] = held[spec.target], False
            return {"buffer": {"arg": arg, "buffer_name": spec.target, "persistent": persistent}}
        if kind == "CONSTANT_TENSOR":
            self._constants[spec.target] = held[spec.target], False
            return {"tensor_constant": {"arg": arg, "tensor_constant_name": spec.target}}
        raise ExportError(f"phase {self._where}: {node.name} is a {kind}, and must be a tensor")

    def _outputs(self, output: Any) -> list[dict[str, Any]]:
        nodes = [
            node for node in pytree.tree_leaves(output.args) if isinstance(node, torch.fx.Node)
        ]
        made = [{"as_tensor": {"name": self._named(node)}} for node in nodes]
        if len(made) != self._count:
            raise ExportError(
                f"phase {self._where}: its trace returns {len(made)} tensors, and it {self._count}"
            )
        return made

    def _named(self, node: Any) -> str:
        return self._same.get(str(node.name), str(node.name))

    def _note(self, name: str, tensor: Any) -> None:
        if not isinstance(tensor, torch.Tensor):
            raise ExportError(
                f"phase {self._where}: {name} is no tensor but a {type(tensor).__name__}: a shape "
                f"depends on the values of a tensor; compute both ways and choose with torch.where"
            )
        self._values[name] = _meta(tensor, self._where)

    def _node(self, node: Any) -> Iterator[dict[str, Any]]:
        if node.op in ("placeholder", "output") or node.target is operator.getitem:
            return
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            raise ExportError(
                f"phase {self._where}: {node.name} ({node.target}) is no operator of ATen's that "
                f"stands by itself; write it without control flow that depends on tensors"
            )
        schema = node.target._schema
        if any(word in schema.name for word in _DROPPED) and not node.users:
            return
        name = schema.name.replace("::", ".")
        yield {
            "target": f"torch.ops.{name}.{schema.overload_name or 'default'}",
            "inputs": list(self._arguments(node, schema)),
            "outputs": self._made(node, schema),
            "metadata": {"nn_module_stack": _stack(node)},
        }

    def _arguments(self, node: Any, schema: Any) -> Iterator[dict[str, Any]]:
        for index, argument in enumerate(schema.arguments):
            if index < len(node.args) and not argument.kwarg_only:
                value, kind = node.args[index], 1
            elif argument.name in node.kwargs:
                value, kind = node.kwargs[argument.name], 2
            else:
                continue
            yield {"name": argument.name, "arg": self._value(value, argument, node), "kind": kind}

    def _value(self, value: Any, argument: Any, node: Any) -> dict[str, Any]:
        simple = _simple(value)
        if simple is not None:
            return simple
        if isinstance(value, torch.fx.Node):
            return {"as_tensor": {"name": self._named(value)}}
        if isinstance(value, (list, tuple)):
            return self._list(list(value), str(argument.type), node)
        raise ExportError(
            f"phase {self._where}: {node.name}: {argument.name} is a {type(value).__name__}, for "
            f"which there is no form"
        )

    def _list(self, items: list[Any], kind: str, node: Any) -> dict[str, Any]:
        if any(isinstance(item, torch.fx.Node) for item in items):
            named = [None if item is None else {"name": self._named(item)} for item in items]
            if all(item is not None for item in named):
                return {"as_tensors": named}
            return {
                "as_optional_tensors": [
                    {"as_none": True} if item is None else {"as_tensor": item} for item in named
                ]
            }
        if not items:
            return {"as_tensors": []} if "Tensor" in kind else {"as_ints": []}
        if all(isinstance(item, bool) for item in items):
            return {"as_bools": items}
        if all(isinstance(item, int) for item in items):
            return {"as_ints": items}
        if all(isinstance(item, (int, float)) for item in items):
            return {"as_floats": [_number(float(item)) for item in items]}
        raise ExportError(
            f"phase {self._where}: {node.name} takes {items}: there is no form for it"
        )

    def _made(self, node: Any, schema: Any) -> list[dict[str, Any]]:
        returns, value = schema.returns, node.meta.get("val")
        if not returns or value is None:
            return []
        if len(returns) == 1 and isinstance(value, torch.Tensor):
            self._note(node.name, value)
            return [{"as_tensor": {"name": node.name}}]
        if len(returns) == 1 and not isinstance(value, (list, tuple)):
            self._note(node.name, value)  # which refuses it
        names = [self._taken(node, index, each) for index, each in enumerate(value)]
        if len(returns) == 1:
            return [{"as_tensors": [{"name": name} for name in names]}]
        return [
            {"as_none": True} if name is None else {"as_tensor": {"name": name}} for name in names
        ]

    def _taken(self, node: Any, index: int, value: Any) -> str | None:
        """The name of an operator's output at a place: that of the node which takes it."""
        takers = [user for user in node.users if user.args[1] == index]
        if value is None:
            return None
        name = takers[0].name if takers else f"{node.name}_unused_{index}"
        self._same.update((taker.name, name) for taker in takers[1:])
        self._note(name, value)
        return name


def _simple(value: Any) -> dict[str, Any] | None:
    if value is None:
        return {"as_none": True}
    for kind, key in ((bool, "as_bool"), (int, "as_int"), (str, "as_string")):
        if isinstance(value, kind):
            return {key: value}
    if isinstance(value, float):
        return {"as_float": _number(value)}
    if isinstance(value, complex):
        return {"as_complex": {"real": value.real, "imag": value.imag}}
    if isinstance(value, torch.dtype):
        return {"as_scalar_type": _type(value, "an argument")}
    if isinstance(value, torch.device):
        return {"as_device": {"type": "cpu", "index": None}}
    if isinstance(value, torch.memory_format):
        return {"as_memory_format": _FORMATS[value]}
    if isinstance(value, torch.layout):
        return {"as_layout": 7}
    return None


def _number(value: float) -> Any:
    """A float; as text where JSON has none of it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _type(dtype: torch.dtype, where: str) -> int:
    name = str(dtype).rpartition(".")[2]
    if name not in _TYPES:
        raise ExportError(f"{where}: is {dtype}, for which there is no form")
    return _TYPES[name]


def _meta(tensor: torch.Tensor, where: str, requires_grad: bool = False) -> dict[str, Any]:
    sizes, strides = list(tensor.shape), list(tensor.stride())
    if not all(isinstance(size, int) for size in (*sizes, *strides)):
        raise ExportError(f"phase {where}: a shape is {sizes}; shapes must be static")
    return {
        "dtype": _type(tensor.dtype, where),
        "sizes": [{"as_int": size} for size in sizes],
        "requires_grad": requires_grad,
        "device": {"type": "cpu", "index": None},
        "strides": [{"as_int": stride} for stride in strides],
        "storage_offset": {"as_int": 0},
        "layout": 7,
    }


def _stack(node: Any) -> str:
    """The modules that an operator is in: `key,path,type;...`, commas and semicolons left out."""
    entries = []
    for key, (path, kind) in (node.meta.get("nn_module_stack") or {}).items():
        name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
        clean = [re.sub(r"[,;]", "_", str(item)) for item in (key, path, name)]
        entries.append(",".join(clean))
    return ";".join(entries)


def _leaves(kind: str, count: int) -> dict[str, Any]:
    leaf: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
    context = "[]" if kind == "dict" else "null"
    return {"type": f"builtins.{kind}", "context": context, "children_spec": [leaf] * count}


def _spec(children: list[dict[str, Any]]) -> str:
    return json.dumps([1, {"type": "builtins.tuple", "context": "null", "children_spec": children}])


class _Archive:
    """A zip file as torch writes them: members stored, in one folder, their bytes aligned."""

    def __init__(self, path: Path) -> None:
        self._root = path.stem
        self._file = path.open("wb")
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED, allowZip64=True)

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, *_: Any) -> None:
        self._zip.close()
        self._file.close()

    def add(self, name: str, data: bytes) -> None:
        """A member."""
        self._stream(name, [data])

    def add_tensors(
        self, start: str, tensors: Mapping[str, tuple[torch.Tensor, bool]]
    ) -> dict[str, Any]:
        """Members `start_0`, `start_1`, ..., one a distinct tensor; the table of them."""
        table: dict[str, Any] = {}
        written: dict[tuple[Any, ...], str] = {}
        for name, (tensor, is_parameter) in tensors.items():
            identity = (
                tensor.data_ptr() or id(tensor),
                tensor.dtype,
                tensor.shape,
                tensor.stride(),
            )
            plain = tensor.detach().cpu().contiguous()
            if identity not in written:
                written[identity] = f"{start}_{len(written)}"
                self._stream(written[identity], _pieces(plain))
            table[name] = {
                "path_name": written[identity].rpartition("/")[2],
                "is_param": is_parameter,
                "use_pickle": False,
                "tensor_meta": _meta(plain, name, is_parameter and plain.is_floating_point()),
            }
        return table

    def _stream(self, name: str, pieces: Any) -> None:
        info = zipfile.ZipInfo(f"{self._root}/{name}")
        # Before the bytes come 30, the name, a field of 20 that zipfile adds, and this one.
        start = self._file.tell() + 30 + len(info.filename.encode()) + 20 + 4
        room = -start % _ALIGNMENT
        info.extra = b"FB" + room.to_bytes(2, "little") + b"Z" * room
        with self._zip.open(info, "w", force_zip64=True) as member:
            for piece in pieces:
                member.write(piece)


def _pieces(tensor: torch.Tensor) -> Iterator[bytes]:
    nbytes, address = tensor.numel() * tensor.element_size(), tensor.data_ptr()
    for start in range(0, nbytes, _CHUNK_BYTES):
        yield ctypes.string_at(address + start, min(_CHUNK_BYTES, nbytes - start))


# A trace against its module ---------------------------------------------------------------------


def _compare(
    phase: dict[str, Any], exported: Any, example: Sequence[torch.Tensor], tolerance: float | None
) -> str:
    """Run both on the example and on variations of it; raises ExportError where they differ."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = exported.module()
    worst, observations, names = (0.0, 0.0, 0.0, "no output"), 0, phase["outputs"]
    for seed in (0, 1, 2):
        given = [_varied(tensor, seed, index) for index, tensor in enumerate(example)]
        try:
            wanted = _run(phase["call"], given)
        except Exception as error:  # the user's code, on numbers that the user did not choose
            if seed == 0:
                raise ExportError(
                    f"phase {phase['name']}: raises on its example: {error}"
                ) from error
            continue
        observations += 1
        which = "a variation of the example" if seed else "the example"
        for name, one, other in zip(names, _run(traced, given), wanted, strict=True):
            difference, size = _apart(one, other)
            share = difference / size if size else (math.inf if difference else 0.0)
            allowed = tolerance if tolerance is not None else _allowed(wanted)
            if not share <= allowed and _counts(other, wanted):
                raise ExportError(
                    f"phase {phase['name']} is traced wrongly: {name} differs by {difference:.3g} "
                    f"of {size:.3g} from your module's on {which}, and {allowed:g} of that is "
                    f"allowed; look for a mask or a branch that is decided while it is traced"
                )
            worst = max(worst, (share, difference, size, name))
    return (
        f"against your PyTorch module: largest difference {worst[1]:.3g} of {worst[2]:.3g} "
        f"({worst[3]}; {observations} observations)"
    )


def _counts(tensor: torch.Tensor, all_: Sequence[torch.Tensor]) -> bool:
    """Whole numbers do not where types are coarse and there are others."""
    floats = [each for each in all_ if each.is_floating_point()]
    coarse = any(_TOLERANCES.get(each.dtype, _SLOPPIEST) > 1e-3 for each in floats)
    return tensor.is_floating_point() or not coarse


def _allowed(tensors: Sequence[torch.Tensor]) -> float:
    floats = [each.dtype for each in tensors if each.is_floating_point()]
    return max((_TOLERANCES.get(dtype, _SLOPPIEST) for dtype in floats), default=1e-4)


def _run(call: Callable[..., Any], given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        made = pytree.tree_leaves(call(*[tensor.clone() for tensor in given]))
    return [leaf for leaf in made if isinstance(leaf, torch.Tensor)]


def _varied(tensor: torch.Tensor, seed: int, index: int) -> torch.Tensor:
    """Floats drawn anew; masks of 0 and 1 turned over in part; whole numbers in their range."""
    numbers = torch.Generator().manual_seed(1000 * seed + index)
    plain = tensor.detach().cpu()
    if seed == 0 or plain.numel() == 0:
        return tensor
    if plain.is_floating_point():
        made = torch.randn(plain.shape, generator=numbers) * plain.float().std(unbiased=False)
        return (made + plain.float().mean()).to(tensor)
    low, high = int(plain.min()), int(plain.max())
    if plain.dtype == torch.bool or (low >= 0 and high <= 1):
        last = plain.shape[-1] if plain.ndim else 1
        places = torch.arange(last)
        turned = (
            places >= (last + 1) // 2
            if seed == 1
            else ((torch.rand(plain.shape, generator=numbers) < 0.5) & (places > 0))
        )
        turned = turned if last > 1 else torch.ones((), dtype=torch.bool)
        return torch.where(turned, 1 - plain.long(), plain.long()).to(tensor)
    return torch.randint(low, high + 1, plain.shape, generator=numbers).to(tensor)


def _apart(one: torch.Tensor, other: torch.Tensor) -> tuple[float, float]:
    """The largest difference, and the largest finite magnitude of the other."""
    if one.shape != other.shape:
        return math.inf, 1.0
    left, right = one.detach().cpu().double(), other.detach().cpu().double()
    alike = (left == right) | (left.isnan() & right.isnan())
    rest = (left - right).abs()[~alike]
    finite = right.abs()[right.isfinite()]
    difference = float(rest.max()) if rest.numel() else 0.0
    return difference, float(finite.max()) if finite.numel() else 0.0


# program.toml, and the command ------------------------------------------------------------------


def _toml(described: Mapping[str, Any]) -> str:
    lines = [
        f"# written by vlacut-export: torch {torch.__version__}, Python {sys.version.split()[0]}",
        f"name = {_text(described['name'])}",
    ]
    outputs = described.get("outputs") or described["phases"][-1]["outputs"]
    if described.get("inputs"):
        lines.append(f"inputs = {_texts(described['inputs'])}")
    lines.append(f"outputs = {_texts(outputs)}")
    if described.get("state"):
        lines.append(f"state = {_table(described['state'])}")
    for phase in described["phases"]:
        lines += [
            "",
            "[[phase]]",
            f"# {phase['checked']}",
            f"name = {_text(phase['name'])}",
            f"file = {_text(phase['name'] + '.pt2')}",
            f"inputs = {_texts(phase['inputs'])}",
            f"outputs = {_texts(phase['outputs'])}",
        ]
        if phase["trips"] != 1:
            lines.append(f"trips = {phase['trips']}")
        if phase["carried"]:
            lines.append(f"carried = {_table(phase['carried'])}")
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    return json.dumps(str(value))  # what JSON escapes, TOML's basic strings do alike


def _texts(values: Any) -> str:
    return f"[{', '.join(map(_text, values))}]"


def _table(values: Mapping[str, str]) -> str:
    return "{ " + ", ".join(f"{_text(key)} = {_text(item)}" for key, item in values.items()) + " }"


def _made_by(text: str) -> Any:
    """What the function returns that `file.py:function` names."""
    file, _, name = text.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        raise ExportError(f"{text}: write file.py:function, of a file that is there")
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(f"vlacut_user_{path.stem}", str(path))
    assert spec is not None  # for it ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise ExportError(f"{path}: has no function {name}")
    return function()


def main(words: Sequence[str] | None = None) -> int:
    """The command; its exit status, 2 for what is wrong."""
    parser = argparse.ArgumentParser(
        prog="vlacut-export", description="Trace a policy in your own environment, for vlacut."
    )
    parser.add_argument("model", metavar="FILE.py:FUNCTION")
    parser.add_argument("-o", "--out", required=True, help="the folder to write")
    parser.add_argument("--tolerance", type=float, help="share of an output's largest magnitude")
    parser.add_argument("--no-check", action="store_true", help="do not compare with the module")
    asked = parser.parse_args(words)
    try:
        for line in export_policy(
            _made_by(asked.model), asked.out, asked.tolerance, not asked.no_check
        ):
            print(line)
    except ExportError as error:
        print(f"vlacut-export: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"vlacut-export: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    options = "--edge ... --cloud ... --link ... -o BUNDLE"
    print(f"wrote {asked.out}; next: vlacut compile {asked.out} {options}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
