"""What a trace of a module depends on, as a digest: all of it but the numbers of its weights.

That is: the classes and settings of the modules, names, types and shapes of parameters and buffers
and which are one, the contents of those that shapes may be computed from, and the examples. Two
modules of one signature, made by the same sources, trace to the same graph.
"""

from __future__ import annotations

import functools
import hashlib
import json
import types
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import TorchTensor
from torch import nn
from torch.utils import _pytree as pytree

from vlacut.frontends.exported.fakes import is_real
from vlacut.frontends.load import Traceable

_MOST_ELEMENTS = 1 << 20  # of a tensor whose content is part of the digest
_DEEPEST = 8
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def signature(made: Traceable) -> str:
    """The SHA-256 digest of what a function made, in hexadecimal; empty where what it made cannot
    be told apart.
    """
    if not isinstance(made.module, nn.Module) or isinstance(made.module, torch.fx.GraphModule):
        return ""
    digest = hashlib.sha256()
    try:
        for line in _lines(made):
            digest.update(line.encode() + b"\n")
    except _Unknown:
        return ""
    return digest.hexdigest()


def held_weights(module: Any) -> dict[str, ir.TensorProtocol]:
    """Parameters and buffers with content, by name, as the graph's initializers hold them."""
    if not isinstance(module, nn.Module):
        return {}
    return {
        name: TorchTensor(tensor.detach(), name=name)
        for name, tensor in _state(module).items()
        if is_real(tensor)
    }


class _Unknown(Exception):
    """A setting whose value no text tells."""


def _state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _lines(made: Traceable) -> Iterator[str]:
    yield f"state {sorted(made.state.items())}"
    for name, module in made.module.named_modules(remove_duplicate=False):
        kind = type(module)
        own = {
            key: value
            for key, value in vars(module).items()
            if key not in ("_parameters", "_buffers", "_modules")
        }
        yield f"{name}: {kind.__module__}.{kind.__qualname__} {_text(own, _DEEPEST)}"
    first: dict[object, str] = {}
    for name, tensor in _state(made.module).items():
        same = first.setdefault(_identity(tensor), name)
        yield f"{name} = {same}: {_tensor(tensor)}"
    leaves, spec = pytree.tree_flatten((made.args, dict(made.kwargs)))
    yield str(spec)
    for leaf in leaves:
        yield _tensor(leaf) if isinstance(leaf, torch.Tensor) else _text(leaf, _DEEPEST)


def _identity(tensor: torch.Tensor) -> object:
    if not is_real(tensor) or tensor.numel() == 0:
        return id(tensor)
    return (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())


def _tensor(tensor: torch.Tensor) -> str:
    """Type and shape, and the content where it may decide on a graph: whole numbers and truths."""
    text = f"{tensor.dtype}{list(tensor.shape)}{tensor.device.type}"
    if tensor.dtype in _FLOATS or not is_real(tensor) or tensor.numel() > _MOST_ELEMENTS:
        return text
    return text + _content(tensor)


def _content(tensor: torch.Tensor) -> str:
    plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(plain.numpy().tobytes()).hexdigest()


def _text(value: Any, deep: int) -> str:
    """A text that differs where values do; addresses in it would differ always."""
    if deep == 0:
        raise _Unknown
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, Enum)):
        return repr(value)
    if isinstance(value, torch.Tensor):  # no parameter, so it becomes a constant of the graph
        if not is_real(value) or value.numel() > _MOST_ELEMENTS:
            raise _Unknown
        return f"{value.dtype}{list(value.shape)}{_content(value)}"
    if isinstance(value, (torch.dtype, torch.device, torch.Size)):
        return str(value)
    if isinstance(value, Mapping):
        items = (f"{_text(key, deep - 1)}: {_text(item, deep - 1)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_text(item, deep - 1) for item in value)}]"
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(_text(item, deep - 1) for item in value))}}}"
    return _object(value, deep)


def _object(value: Any, deep: int) -> str:
    if isinstance(value, nn.Module):
        return f"module {type(value).__qualname__}"  # listed among the modules, or of no use
    if isinstance(value, functools.partial):
        return f"partial {_text((value.func, value.args, value.keywords), deep - 1)}"
    if isinstance(value, types.FunctionType):  # the digest of its file speaks for its code
        bound = [cell.cell_contents for cell in value.__closure__ or ()]
        inside = _text((bound, value.__defaults__, value.__kwdefaults__), deep - 1)
        return f"{value.__module__}.{value.__qualname__} {inside}"
    if isinstance(value, types.MethodType):
        return f"method {value.__func__.__qualname__}"
    if isinstance(value, (type, types.BuiltinFunctionType)):
        return f"{value.__module__}.{value.__qualname__}"
    kind = type(value)
    text = f"{kind.__module__}.{kind.__qualname__}"
    if hasattr(value, "to_dict"):
        return text + json.dumps(value.to_dict(), sort_keys=True, default=str)
    if hasattr(value, "__dict__"):
        return text + _text(vars(value), deep - 1)
    raise _Unknown
