"""Example inputs: what torch.save wrote of tensors, numbers and containers, without unpickling.

A pickle is a program for a small machine. This one has the instructions that write containers of
plain tensors and no others: there is none that imports, and what would be called is compared with
the names of three functions of torch's, and made here.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vlacut.errors import ModelError
from vlacut.frontends.pt2.archive import open_members
from vlacut.frontends.pt2.good import NotGood, shown
from vlacut.frontends.pt2.tensors import strided

_MOST_ITEMS = 100_000
_TENSOR = "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
_ORDERED = "collections OrderedDict"
_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
}
_CALLED = frozenset((_TENSOR, _PARAMETER, _ORDERED))


@dataclass(frozen=True)
class _Name:
    """What the pickle names; nothing is imported."""

    text: str


@dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype
    data: memoryview


_MARK = object()


def read_examples(data: bytes, where: str) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The example arguments and keywords of a program; None if it has none.

    `data` is what torch.save wrote, empty for none; it is read here, as data. Raises ModelError,
    starting with `where`, if they are anything but plain tensors, numbers and text in containers.
    """
    if not data:
        return None
    members = open_members(memoryview(data), f"{where}: its example inputs")
    try:
        if "data.pkl" not in members:
            raise NotGood("no data.pkl")
        made = _Machine(members).run(bytes(members["data.pkl"]))
        if made is None:
            return None
        args, kwargs = made
        if not isinstance(args, tuple) or not isinstance(kwargs, dict):
            raise NotGood("they are no arguments")
        return args, kwargs
    except (NotGood, ValueError, TypeError, IndexError, KeyError, RecursionError) as error:
        raise ModelError(
            f"{where}: its example inputs are not plain tensors in tuples, lists and dicts "
            f"({error}), and may run code when loaded; save it with such"
        ) from error


class _Machine:
    """Runs a pickle: a stack, marks on it, and a memo."""

    def __init__(self, members: Mapping[str, memoryview]) -> None:
        self._members = members
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, pickle: bytes) -> Any:
        for count, (code, argument, _) in enumerate(pickletools.genops(pickle)):
            if count > _MOST_ITEMS:
                raise NotGood("more than any example's")
            if code.name == "STOP":
                return self._stack.pop()
            if code.name in _CONSTANTS:
                self._stack.append(_CONSTANTS[code.name])
            elif code.name in _LITERALS:
                self._stack.append(argument)
            else:
                step = _STEPS.get(code.name)
                if step is None:
                    raise NotGood(f"the instruction {code.name}")
                step(self, argument)
        raise NotGood("cut short")

    def _mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def _since_mark(self) -> list[Any]:
        at = max(index for index, item in enumerate(self._stack) if item is _MARK)
        items = self._stack[at + 1 :]
        del self._stack[at:]
        return items

    def _pop(self, count: int) -> tuple[Any, ...]:
        if len(self._stack) < count or any(item is _MARK for item in self._stack[-count:]):
            raise NotGood("an empty stack")
        items = tuple(self._stack[-count:])
        del self._stack[-count:]
        return items

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _empty_list(self, _: Any) -> None:
        self._stack.append([])

    def _empty_dict(self, _: Any) -> None:
        self._stack.append({})

    def _append(self, _: Any) -> None:
        self._extend(self._pop(1))

    def _appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: Sequence[Any]) -> None:
        if not self._stack or type(self._stack[-1]) is not list:
            raise NotGood("an item of no list")
        self._stack[-1].extend(items)

    def _setitem(self, _: Any) -> None:
        self._update(self._pop(2))

    def _setitems(self, _: Any) -> None:
        self._update(self._since_mark())

    def _update(self, items: Sequence[Any]) -> None:
        if not self._stack or type(self._stack[-1]) is not dict or len(items) % 2:
            raise NotGood("an item of no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):
                raise NotGood(f"a key {shown(key)}")
            self._stack[-1][key] = value

    def _put(self, argument: Any) -> None:
        (self._memo[argument],) = self._stack[-1:]

    def _memoize(self, _: Any) -> None:
        self._put(len(self._memo))

    def _get(self, argument: Any) -> None:
        self._stack.append(self._memo[argument])

    def _global(self, argument: Any) -> None:
        self._stack.append(_Name(argument))

    def _stack_global(self, _: Any) -> None:
        module, name = self._pop(2)
        self._stack.append(_Name(f"{module} {name}"))

    def _reduce(self, _: Any) -> None:
        function, arguments = self._pop(2)
        if not isinstance(function, _Name) or function.text not in _CALLED:
            raise NotGood(f"a call of {shown(getattr(function, 'text', function))}")
        if function.text == _ORDERED:
            if arguments != ():
                raise NotGood("an ordered dict with items")
            self._stack.append({})
        else:
            self._stack.append(_tensor(function.text, arguments))

    def _persistent(self, _: Any) -> None:
        (told,) = self._pop(1)
        kind, storage, key, _, count = told
        name = storage.text.removeprefix("torch ") if isinstance(storage, _Name) else ""
        if kind != "storage" or name not in _STORAGES or type(key) is not str:
            raise NotGood(f"a storage {shown(told)}")
        dtype, data = _STORAGES[name], self._members[f"data/{key}"]
        if type(count) is not int or count * dtype.itemsize != len(data):
            raise NotGood(f"a storage of {len(data)} bytes for {shown(count)} elements")
        self._stack.append(_Storage(dtype, data))

    def _fixed(count: int) -> Callable[[_Machine, Any], None]:  # type: ignore[misc]
        def step(machine: _Machine, _: Any) -> None:
            machine._stack.append(machine._pop(count))

        return step


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = frozenset(
    (
        *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
        "SHORT_BINUNICODE",
    )
)
_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, argument: None,
    "FRAME": lambda machine, argument: None,
    "MARK": _Machine._mark,
    "TUPLE": _Machine._tuple,
    **{f"TUPLE{count}": _Machine._fixed(count) for count in (1, 2, 3)},
    "EMPTY_LIST": _Machine._empty_list,
    "EMPTY_DICT": _Machine._empty_dict,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "SETITEM": _Machine._setitem,
    "SETITEMS": _Machine._setitems,
    **{name: _Machine._put for name in ("PUT", "BINPUT", "LONG_BINPUT")},
    "MEMOIZE": _Machine._memoize,
    **{name: _Machine._get for name in ("GET", "BINGET", "LONG_BINGET")},
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "BINPERSID": _Machine._persistent,
}


def _tensor(function: str, arguments: Any) -> torch.Tensor:
    if type(arguments) is not tuple:
        raise NotGood("a call without arguments")
    if function == _PARAMETER:
        tensor = arguments[0]
        if not isinstance(tensor, torch.Tensor):
            raise NotGood("a parameter that is no tensor")
        return tensor
    storage, offset, sizes, strides = arguments[:4]
    if not isinstance(storage, _Storage):
        raise NotGood("a tensor without a storage")
    return strided(storage.data, storage.dtype, sizes, strides, offset)
