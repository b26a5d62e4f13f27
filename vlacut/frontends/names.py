"""Names of a traced module's inputs and outputs: the user's own, as far as they tell them apart.

A tensor is named by its path: the argument of `forward`, then keys and places in it, with dots
between. What leads to a key of a mapping is left out where no other tensor would be called alike:
`batch["observation.images.top"]` is `observation.images.top`, `pair[1]` is `pair.1`. What is
returned has no argument's name: it goes by its keys, or is `output_0`, `output_1.0`, ... An output
that has an input's name is called `NAME_out`, for both are values of one graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument
from torch.utils import _pytree as pytree

from vlacut.errors import ModelError

_Path = list[Any]  # a key of a mapping, or a field, is a string; a place is an integer


def input_names(exported: ExportedProgram) -> list[str]:
    """A name for each input that is a tensor, in order."""
    specs = [
        item for item in exported.graph_signature.input_specs if item.kind is InputKind.USER_INPUT
    ]
    given = [str(item.arg.name) for item in specs]
    spec, signature = exported.call_spec.in_spec, exported.module_call_graph[0].signature
    arguments = list(getattr(signature, "forward_arg_names", None) or ())
    if spec is not None and spec.num_leaves == len(specs):
        args, kwargs = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
        if len(arguments) == len(args) + len(kwargs):
            given = argument_names({**dict(zip(arguments, args, strict=False)), **kwargs})
    tensors = [isinstance(item.arg, TensorArgument) for item in specs]
    return [name for name, is_tensor in zip(given, tensors, strict=True) if is_tensor]


def argument_names(arguments: Mapping[str, Any]) -> list[str]:
    """A name for each leaf of arguments, tensor or not, in order."""
    paths = _paths(dict(arguments))
    short = [_behind(path) for path in paths]
    return [
        one if short.count(one) == 1 else ".".join(map(str, path))
        for one, path in zip(short, paths, strict=True)
    ]


def output_names(exported: ExportedProgram, inputs: Sequence[str]) -> list[str]:
    """A name for each output that is a tensor, in order.

    Raises ModelError if the program does not say what it returns.
    """
    spec = exported.call_spec.out_spec
    if spec is None:
        raise ModelError("the exported program does not say what it returns; export it again")
    made = [
        item.arg
        for item in exported.graph_signature.output_specs
        if item.kind is OutputKind.USER_OUTPUT
    ]
    paths = _paths(pytree.tree_unflatten(list(range(spec.num_leaves)), spec))
    found = zip(paths, made, strict=True)
    kept = [path for path, arg in found if isinstance(arg, TensorArgument)]
    short = [".".join(map(str, path[_first_key(path) :])) for path in kept]
    return [
        _unlike(_output(path, one, short.count(one) == 1), inputs)
        for path, one in zip(kept, short, strict=True)
    ]


def _output(path: _Path, keys: str, is_free: bool) -> str:
    whole = ".".join(map(str, path)) or "0"
    if keys and is_free:
        return keys
    return whole if path and isinstance(path[0], str) else f"output_{whole}"


def _unlike(name: str, inputs: Sequence[str]) -> str:
    while name in inputs:
        name += "_out"
    return name


def _paths(tree: Any) -> list[_Path]:
    """Where each leaf of a tree is, in order."""
    found, _ = pytree.tree_flatten_with_path(tree)
    return [[_step(each) for each in path] for path, _ in found]


def _step(step: Any) -> Any:
    if isinstance(step, pytree.SequenceKey):
        return step.idx
    return str(getattr(step, "key", getattr(step, "name", step)))


def _behind(path: _Path) -> str:
    """A path from its first key in an argument on; whole where there is none."""
    first = 1 + _first_key(path[1:])
    return ".".join(map(str, path[first:] or path))


def _first_key(path: _Path) -> int:
    return next((at for at, step in enumerate(path) if isinstance(step, str)), len(path))
