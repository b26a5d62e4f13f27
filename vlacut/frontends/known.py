"""What is known while a module is traced: values that follow from constants and from the example.

torch.export traces on tensors without content, and fails where Python asks for a value or a shape
depends on one. Where that value follows from constants of the code, it is known. Where it follows
from an input, it is known for the example, and that input is *fixed*: the graph is right for no
other value of it. Every call of torch is made twice, on the tensors of the trace and on what is
known; the second answers, where somebody asks.

A value that follows from numbers (pictures, states) fixes nothing: nobody can give the same picture
twice. It is not known, but to the models of transformers, which ask whether a picture is padding:
what they decide is *assumed* for all others. What is counted or assumed is a premise
(`vlacut.tensor.premise`): an observation for which it does not hold is refused when it comes.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.weak import WeakTensorKeyDictionary

from vlacut.frontends.following import Followed, constant, follow, given, operations
from vlacut.frontends.rewritten import REWRITTEN, places_of
from vlacut.tensor.premise import Premise

_MOST_ELEMENTS = 1 << 20  # of a tensor whose value is kept in mind
_ASKS = frozenset(
    (
        *("tolist", "item", "__bool__", "__int__", "__float__", "__index__", "__contains__"),
        *("is_nonzero", "equal", "allclose"),
    )
)
_SHAPED_BY_VALUE = frozenset(
    (
        *("nonzero", "argwhere", "unique", "unique_consecutive", "bincount"),
        *("_unique2", "__iter__"),
    )
)
_PLACES = ("nonzero", "argwhere", "where")
_OF_SCALARS = frozenset(("arange", "linspace", "full", "tensor", "as_tensor"))  # made of tensors
_UNKNOWABLE = (
    *("rand", "normal", "bernoulli", "dropout", "multinomial", "uniform", "empty", "exponential"),
    *("geometric", "cauchy", "log_normal", "poisson", "rrelu", "alpha_dropout", "feature_"),
)
_ASSUMING = "/transformers/models/"  # code that looks for pictures that are padding
_SIZED_METHODS = frozenset(
    ("reshape", "view", "expand", "repeat", "tile", "narrow", "new_zeros", "new_ones", "unflatten")
)
_SIZED = _SIZED_METHODS | {"zeros", "ones"}  # their arguments are sizes, not values
_MASKS = (torch.bool, torch.uint8)


@dataclass(frozen=True)
class _Known:
    """A value, and the inputs that it follows from."""

    value: torch.Tensor
    inputs: frozenset[str] = frozenset()
    how: Followed | None = None  # it follows from them; None if no premise can say it
    # What it was, and how that followed, before something was written into it.
    before: tuple[tuple[Followed, torch.Tensor], ...] = ()


class KnownValues(TorchFunctionMode):
    """Keeps values in mind while a forward runs inside; use it in a `with`.

    Attributes:
        fixed: inputs of whole numbers or truths whose value the trace depends on, each with the
            `file:line` that asked first.
        assumed: the same of inputs of other numbers.
        counted: the same of inputs that a mask follows from which is true as often as in the
            example, wherever that is.
    """

    _premises: list[tuple[Followed, tuple[float, ...], bool, str]]

    def __init__(self) -> None:
        super().__init__()
        self._known = WeakTensorKeyDictionary()
        self._numbers: set[str] = set()
        self.fixed: dict[str, str] = {}
        self.assumed: dict[str, str] = {}
        self.counted: dict[str, str] = {}
        self._premises = []
        self._names: Mapping[str, str] = {}
        self._given: dict[str, np.ndarray] = {}

    @property
    def premises(self) -> tuple[Premise, ...]:
        """What the trace takes for granted of an observation, each once."""
        made = (
            Premise(operations(how, self._names), expected, counted, place)
            for how, expected, counted, place in self._premises
        )
        return tuple(dict.fromkeys(made))

    def tell(self, tensor: torch.Tensor, value: torch.Tensor, name: str = "") -> None:
        """Let a tensor of the trace be known: a constant, or the input of that name.

        `value` is real and of the same shape; one of more than 2**20 elements is not kept.
        """
        if not _is_small(value):
            return
        if name and (value.is_floating_point() or value.is_complex()):
            self._numbers.add(name)
        if name and value.dtype != torch.bfloat16:
            with _disable_current_modes():
                self._given[name] = value.detach().cpu().numpy().copy()
        known = _Known(value, frozenset((name,)), given(name, value)) if name else _Known(value)
        self._known[tensor] = known

    def rename(self, names: Mapping[str, str]) -> None:
        """Call inputs otherwise from now on; `names` has every one of them."""
        self._names = names
        for found in (self.fixed, self.assumed, self.counted):
            renamed = {
                ", ".join(names[one] for one in group.split(", ")): place
                for group, place in found.items()
            }
            found.clear()
            found.update(renamed)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if torch._C._functorch.peek_interpreter_stack() is not None:
            return func(*args, **kwargs)  # in a vmap nothing has its own shape
        name = getattr(func, "__name__", "")
        if name == "__get__":
            return self._attribute(func, args)
        if name in REWRITTEN:
            self._place_rows(args[1] if len(args) > 1 else kwargs.get("mask"))
            return REWRITTEN[name](*args, **kwargs)
        if name == "masked_select":
            func, name, args = torch.Tensor.__getitem__, "__getitem__", args[:2]
        if name == "__getitem__" or (name == "__setitem__" and self._places_masked(args)):
            args = (args[0], self._index(args[1]), *args[2:])
        if name in _SIZED:
            first, rest = (args[:1], args[1:]) if name in _SIZED_METHODS else ((), args)
            args = (*first, *pytree.tree_map(self._number, rest))
        tensors = [
            leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)
        ]
        known = [one for one in map(self._of, tensors) if one is not None]
        if len(known) < len(tensors) or name.startswith(_UNKNOWABLE):
            if tensors and _writes(name, kwargs):
                for alias, _ in self._aliases(kwargs.get("out", tensors[0])):
                    self._known.pop(alias, None)  # type: ignore[no-untyped-call]
            return func(*args, **kwargs)
        inputs = frozenset().union(*(one.inputs for one in known))
        if name in ("nonzero", "argwhere") and inputs and not inputs & self._numbers:
            places = self._places(args[0])
            return places if kwargs.get("as_tuple") else torch.stack(places, dim=-1)
        if name in _ASKS and self._may_fix(inputs):
            if len(args) == 1 and inputs & self._numbers:
                self._assume(known[0])
            return self._value(func, args, kwargs)
        if name == "__setitem__" and _has_mask(args[1]) and not inputs & self._numbers:
            self._may_fix(inputs)
            self._value(func, args, kwargs)
            for alias, other in self._aliases(args[0]):
                self._known[alias] = _Known(other.value, other.inputs | inputs)
            return args[0].copy_(self._constant(known[0].value))
        if _writes(name, kwargs):
            return self._write(func, args, kwargs, inputs)
        shaped = name in _SHAPED_BY_VALUE or _is_shaped_by_value(name, args, bool(tensors))
        values = inputs & self._numbers and name not in _PLACES  # which must not become constants
        if shaped and not values and self._may_fix(inputs):
            return pytree.tree_map(self._constant, self._value(func, args, kwargs))
        return self._beside(func, args, kwargs, inputs)

    def _write(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        inputs: frozenset[str],
    ) -> Any:
        """A call that changes a tensor whose value is known; so are all that share its memory.

        A premise cannot say what was written; it can say what was there before, which decides on
        it.
        """
        aliases = self._aliases(kwargs.get("out", args[0]))
        with _disable_current_modes():
            earlier = [known.value.clone() for _, known in aliases]
        made = func(*args, **kwargs)
        try:
            self._value(func, args, kwargs)
        except (RuntimeError, TypeError, ValueError, IndexError):
            for alias, _ in aliases:
                self._known.pop(alias, None)  # type: ignore[no-untyped-call]
            return made
        for (alias, known), value in zip(aliases, earlier, strict=True):
            was = ((known.how, value),) if known.how is not None else ()
            before = known.before or was
            self._known[alias] = _Known(known.value, known.inputs | inputs, None, before)
        return made

    def _aliases(self, tensor: torch.Tensor) -> list[tuple[torch.Tensor, _Known]]:
        """Known tensors whose values share memory with that of one."""
        known = self._of(tensor)
        if known is None:
            return []
        place = known.value.untyped_storage().data_ptr()
        pairs = list(self._known.items())  # type: ignore[no-untyped-call]
        return [
            (alias, other)
            for alias, other in pairs
            if other.value.untyped_storage().data_ptr() == place
        ]

    def _beside(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        inputs: frozenset[str],
    ) -> Any:
        """The call in the trace; what it makes is known by the same call on values."""
        made = func(*args, **kwargs)
        outputs = _tensors(made)
        if not outputs or not all(map(_is_small, outputs)):
            return made
        try:
            values = _tensors(self._value(func, args, kwargs))
        except (RuntimeError, TypeError, ValueError, IndexError):
            return made  # not known, as most values
        for index, (output, value) in enumerate(zip(outputs, values, strict=False)):
            if (output.shape, output.dtype) == (value.shape, value.dtype):
                how = self._follow(func, args, kwargs, value, index) if inputs else None
                self._known[output] = _Known(value, inputs, how)
        return made

    def _follow(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        made: torch.Tensor,
        index: int,
    ) -> Followed | None:
        """How one of the tensors that a call makes follows from inputs."""

        def source(tensor: torch.Tensor) -> Followed | None:
            known = self._of(tensor)
            if known is None:
                return None
            return known.how if known.inputs else constant(known.value)

        def value(tensor: torch.Tensor) -> torch.Tensor:
            known = self._of(tensor)
            return tensor if known is None else known.value

        def again(first: torch.Tensor) -> torch.Tensor:
            return _tensors(func(first, *args[1:], **kwargs))[index]

        name = getattr(func, "__name__", "")
        return follow(name, args, kwargs, made, source, value, again)

    def _assume(self, known: _Known) -> bool:
        """Take for granted that a value is as it is for the example; whether that can be asked."""
        followed = known.before if known.how is None else ((known.how, known.value),)
        added = bool(followed)
        for how, value in followed:
            with _disable_current_modes():
                numbers = tuple(map(float, value.reshape(-1).tolist()))
            added &= self._take_for_granted(how, numbers, counted=False)
        return added

    def _count(self, known: _Known) -> None:
        """Take for granted how often a mask is true; where that cannot be asked, fix its inputs."""
        with _disable_current_modes():
            count = float(known.value.count_nonzero())
        if known.how is None:
            said = self._assume(known)
        else:
            said = self._take_for_granted(known.how, (count,), counted=True)
        if not said:
            self._may_fix(known.inputs)

    def _take_for_granted(
        self, how: Followed, expected: tuple[float, ...], *, counted: bool
    ) -> bool:
        """Add a premise, if it holds of the example; whether it was added."""
        premise = Premise(operations(how, {}), expected, counted, _short(_asker()))
        if premise.broken(self._given):
            return False
        self._premises.append((how, expected, counted, premise.place))
        return True

    def _place_rows(self, mask: Any) -> None:
        """A mask that places rows is true as often as in the example."""
        known = self._of(mask) if isinstance(mask, torch.Tensor) else None
        if known is not None and known.inputs and not known.inputs & self._numbers:
            self._count(known)

    def _attribute(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        made = func(*args)
        known = self._of(args[0]) if isinstance(made, torch.Tensor) else None
        if known is not None:
            with _disable_current_modes():
                value = func(known.value)
            if isinstance(value, torch.Tensor):
                self._known[made] = _Known(value, known.inputs)
        return made

    def _of(self, tensor: torch.Tensor) -> _Known | None:
        found: _Known | None = self._known.get(tensor)  # type: ignore[no-untyped-call]
        plain = type(tensor) is torch.Tensor and not torch._is_functional_tensor(tensor)
        if found is None and plain and _is_small(tensor):
            return _Known(tensor)  # a constant of the code
        return found

    def _value(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The call on what is known, outside of the trace."""

        def value(leaf: Any) -> Any:
            known = self._of(leaf) if isinstance(leaf, torch.Tensor) else None
            return leaf if known is None else known.value

        given, named = pytree.tree_map(value, (args, kwargs))
        with _disable_current_modes():
            return func(*given, **named)

    def _constant(self, leaf: Any) -> Any:
        """A value as a constant of the trace."""
        if not isinstance(leaf, torch.Tensor):
            return leaf
        with _disable_current_modes():
            data = leaf.tolist()
        made = torch.tensor(data, dtype=leaf.dtype).reshape(leaf.shape)
        self._known[made] = _Known(leaf)
        return made

    def _places_masked(self, args: tuple[Any, ...]) -> bool:
        """Whether an assignment needs positions for its mask; `x[mask] = 0` does not."""
        if self._is_constant(args[0]) or not _has_mask(args[1]):
            return False
        rows = isinstance(args[2], torch.Tensor) and args[2].dim() > 0
        return rows or isinstance(args[1], tuple)

    def _index(self, index: Any) -> Any:
        """An index with numbers and, in the place of masks, positions, where these are known."""
        if isinstance(index, tuple):
            made: list[Any] = []
            for item in index:
                found = self._index(item)
                made.extend(found if isinstance(found, tuple) else (found,))
            return tuple(made)
        if isinstance(index, slice):
            return slice(*map(self._number, (index.start, index.stop, index.step)))
        if not isinstance(index, torch.Tensor) or index.dtype not in _MASKS:
            return index
        known = self._of(index)
        if known is None or (known.inputs & self._numbers and not self._may_fix(known.inputs)):
            return index
        if known.inputs and not known.inputs & self._numbers:
            return self._places(index)
        if known.inputs & self._numbers:
            self._assume(known)
        with _disable_current_modes():
            positions = known.value.nonzero(as_tuple=True)
        return tuple(self._constant(one) for one in positions)

    def _places(self, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Where a known mask is true: as often as in the example, wherever that is."""
        known = self._of(mask)
        assert known is not None
        self.counted.setdefault(", ".join(sorted(known.inputs)), _short(_asker()))
        self._count(known)
        with _disable_current_modes():
            count = int(known.value.count_nonzero())
        with self:
            return places_of(mask, count)

    def _is_constant(self, tensor: torch.Tensor) -> bool:
        known = self._of(tensor)
        return known is not None and not known.inputs

    def _number(self, item: Any) -> Any:
        known = self._of(item) if isinstance(item, torch.Tensor) else None
        if known is None or not self._may_fix(known.inputs):
            return item
        with _disable_current_modes():
            return int(known.value)

    def _may_fix(self, inputs: frozenset[str]) -> bool:
        """Fix the inputs; False where they are numbers, and the code is not known to allow it."""
        place = _asker() if inputs else ""
        if inputs & self._numbers and _ASSUMING not in place:
            return False
        for name in sorted(inputs):
            known = self.assumed if name in self._numbers else self.fixed
            known.setdefault(name, _short(place))
        return True


def _is_shaped_by_value(name: str, args: tuple[Any, ...], of_tensors: bool) -> bool:
    """Whether the shape of what a call makes depends on the values of what it takes."""
    if name in _OF_SCALARS:
        return of_tensors
    if name == "repeat_interleave":
        return len(args) < 2 or isinstance(args[1], torch.Tensor)
    if name == "where":
        return len(args) == 1
    return False


def _has_mask(index: Any) -> bool:
    items = index if isinstance(index, tuple) else (index,)
    return any(isinstance(item, torch.Tensor) and item.dtype in _MASKS for item in items)


def _writes(name: str, kwargs: dict[str, Any]) -> bool:
    """Whether a call changes its first tensor, or `out`."""
    special = name.startswith("__")
    in_place = name.endswith("_") and not special
    return "out" in kwargs or in_place or name in ("__setitem__", *_IN_PLACE)


_IN_PLACE = ("__iadd__", "__isub__", "__imul__", "__itruediv__", "__iand__", "__ior__", "__ixor__")


def _is_small(tensor: torch.Tensor) -> bool:
    """Whether a tensor's values can be kept in mind; one whose size depends on values is not."""
    size = tensor.numel()
    return isinstance(size, int) and size <= _MOST_ELEMENTS and not tensor.is_meta


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _short(place: str) -> str:
    return "/".join(place.split("/")[-2:])


def _asker() -> str:
    """`file:line` of the innermost code that is neither torch's nor ours."""
    inside = ("/torch/", "/vlacut/frontends/")
    for frame in reversed(traceback.extract_stack()):
        if not any(part in frame.filename for part in inside):
            return f"{frame.filename}:{frame.lineno}"
    return "torch"
