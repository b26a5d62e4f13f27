"""How a value that is known follows from inputs, in the operations that a premise has.

What is not among these is not followed; who depends on it has its inputs fixed instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from vlacut.tensor.premise import Operation

_MOST_TAKEN = 1 << 12  # elements of a bundle's own; larger ones come by reshape and expand
_COMPARED = {
    "eq": "eq", "equal": "eq", "ne": "ne", "not_equal": "ne", "lt": "lt", "less": "lt",
    "le": "le", "less_equal": "le", "gt": "gt", "greater": "gt", "ge": "ge", "greater_equal": "ge",
}  # fmt: skip
_JOINED = {
    "and": "and", "bitwise_and": "and", "logical_and": "and",
    "or": "or", "bitwise_or": "or", "logical_or": "or",
    "xor": "xor", "bitwise_xor": "xor", "logical_xor": "xor",
}  # fmt: skip
_INVERTED = ("invert", "bitwise_not", "logical_not")
_SAME = ("to", "bool", "long", "int", "type", "detach", "clone", "contiguous", "cpu", "type_as")
_RESHAPED = ("reshape", "view", "flatten", "unflatten", "unsqueeze", "squeeze", "view_as")
_EXPANDED = ("expand", "expand_as", "broadcast_to")
_TAKEN = ("getitem", "select", "narrow", "permute", "transpose", "t", "flip", "repeat")
_REDUCED = ("sum", "any", "all")


@dataclass(frozen=True, eq=False)
class Followed:
    """A value that an operation makes of others.

    Attributes:
        kind: of the operation, as `vlacut.tensor.premise` has it.
        of: the values it takes.
        shape: of what it makes.
        name: of the input, where it is one.
        numbers: of a constant in row-major order, or what else the operation is told.
    """

    kind: str
    of: tuple[Followed, ...]
    shape: tuple[int, ...]
    name: str = ""
    numbers: tuple[float, ...] = ()


def operations(last: Followed, names: Mapping[str, str]) -> tuple[Operation, ...]:
    """The operations that a value follows by, in order; `names` renames inputs."""
    places: dict[Followed, int] = {}
    made: list[Operation] = []

    def place(one: Followed) -> int:
        if one not in places:
            of = tuple(map(place, one.of))
            name = names.get(one.name, one.name)
            made.append(Operation(one.kind, of, name, one.numbers, one.shape))
            places[one] = len(made) - 1
        return places[one]

    place(last)
    return tuple(made)


def given(name: str, tensor: Tensor) -> Followed | None:
    """An input of the observation; None if numpy has none of its type."""
    if tensor.dtype == torch.bfloat16 or tensor.is_complex():
        return None
    return Followed("input", (), tuple(tensor.shape), name)


def constant(tensor: Tensor) -> Followed | None:
    """A constant of the code; None if it is too large to be written down."""
    if tensor.numel() > _MOST_TAKEN or tensor.is_complex():
        return None
    with _disable_current_modes():
        numbers = tuple(float(number) for number in tensor.detach().reshape(-1).tolist())
    finite = all(map(math.isfinite, numbers))
    return Followed("constant", (), tuple(tensor.shape), "", numbers) if finite else None


def follow(
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    made: Tensor,
    source: Callable[[Any], Followed | None],
    value: Callable[[Any], Tensor],
    again: Callable[[Tensor], Any],
) -> Followed | None:
    """How what a call made follows from what it took; None if no premise can say it.

    Args:
        name: of the function: `eq` or `__eq__`.
        args: of the call.
        kwargs: of the call.
        made: the value that it made.
        source: how an argument follows; None for one that does not.
        value: the value of a tensor among the arguments.
        again: the same call with another first argument.
    """
    name, shape = name.strip("_"), tuple(made.shape)
    if kwargs and name not in (*_REDUCED, *_SAME):
        return None
    if name in _COMPARED or name in _JOINED:
        return _of_two(name, args, shape, source, value)
    first = source(args[0]) if args and isinstance(args[0], Tensor) else None
    if first is None:
        return None
    of, old = (first,), value(args[0])
    if name in _INVERTED:
        return Followed("not", of, shape) if old.dtype == torch.bool else None
    if name in _SAME:
        return _cast(first, old, made)
    if name in _RESHAPED and old.dtype == made.dtype and old.numel() == made.numel():
        return Followed("reshape", of, shape)
    if name in _EXPANDED:
        return Followed("expand", of, shape)
    if name in _TAKEN and made.numel() <= _MOST_TAKEN and _is_plain(args[1:]):
        with _disable_current_modes():
            taken = again(torch.arange(old.numel()).reshape(old.shape)).reshape(-1).tolist()
        return Followed("take", of, shape, "", tuple(map(float, taken)))
    if name in _REDUCED:
        return _reduced(name, first, old, args[1:], kwargs, made)
    return None


def _of_two(
    name: str,
    args: tuple[Any, ...],
    shape: tuple[int, ...],
    source: Callable[[Any], Followed | None],
    value: Callable[[Any], Tensor],
) -> Followed | None:
    tensors = [value(one) for one in args if isinstance(one, Tensor)]
    pair = [_operand(one, source, tensors[0].dtype) for one in args]
    if len(pair) != 2 or pair[0] is None or pair[1] is None:
        return None
    if name in _JOINED:
        if len(tensors) != 2 or any(one.dtype != torch.bool for one in tensors):
            return None  # on whole numbers it is bit by bit
        return Followed(_JOINED[name], (pair[0], pair[1]), shape)
    return Followed(_COMPARED[name], (pair[0], pair[1]), shape)


def _operand(
    one: Any, source: Callable[[Any], Followed | None], dtype: torch.dtype
) -> Followed | None:
    if isinstance(one, Tensor):
        return source(one)
    if not isinstance(one, (bool, int, float)):
        return None
    if isinstance(one, float) and dtype.is_floating_point:
        with _disable_current_modes():
            one = torch.tensor(one, dtype=dtype).item()  # torch compares in the tensor's type
    return Followed("constant", (), (), "", (float(one),))


def _cast(first: Followed, old: Tensor, made: Tensor) -> Followed | None:
    if old.shape != made.shape:
        return None
    if old.dtype == made.dtype:
        return first
    if made.dtype == torch.bool:
        return Followed("true", (first,), first.shape)
    whole = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    if old.dtype == torch.bool and made.dtype in whole:
        return Followed("whole", (first,), first.shape)
    return None


def _reduced(
    name: str,
    first: Followed,
    old: Tensor,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    made: Tensor,
) -> Followed | None:
    """A reduction over axes, of truths or whole numbers: sums of floats depend on their order."""
    named = dict(zip(("dim", "keepdim"), args, strict=False)) | dict(kwargs)
    if old.is_floating_point() or not set(named) <= {"dim", "keepdim"}:
        return None
    dims = named.get("dim")
    axes = range(old.dim()) if dims is None else (dims,) if isinstance(dims, int) else dims
    numbers = tuple(float(axis % max(old.dim(), 1)) for axis in axes)
    kept = tuple(1 if float(axis) in numbers else size for axis, size in enumerate(old.shape))
    whole = Followed("whole", (first,), first.shape) if name == "sum" else first
    reduced = Followed(name, (whole,), kept, "", numbers)
    return Followed("reshape", (reduced,), tuple(made.shape)) if math.prod(kept) >= 0 else None


def _is_plain(items: tuple[Any, ...]) -> bool:
    """Whether nothing among the arguments is a tensor or made of one."""
    return not any(isinstance(leaf, Tensor) for leaf in _leaves(items))


def _leaves(item: Any) -> Iterator[Any]:
    if isinstance(item, (tuple, list)):
        for one in item:
            yield from _leaves(one)
    elif isinstance(item, slice):
        yield from (item.start, item.stop, item.step)
    else:
        yield item
