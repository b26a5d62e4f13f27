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

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.weak import WeakTensorKeyDictionary

from vlacut.frontends.traceable.calls import (
    ASKS,
    MASKS,
    PLACES,
    SIZED,
    SIZED_METHODS,
    UNKNOWABLE,
    has_mask,
    is_shaped_by_value,
    writes,
)
from vlacut.frontends.traceable.following import Followed, constant, follow, given
from vlacut.frontends.traceable.granted import Granted, Known
from vlacut.frontends.traceable.rewritten import REWRITTEN, places_of

_MOST_ELEMENTS = 1 << 20  # of a tensor whose value is kept in mind


class KnownValues(TorchFunctionMode):
    """Keeps values in mind while a forward runs inside; use it in a `with`.

    Attributes:
        granted: what the trace depends on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.granted = Granted()
        self._known = WeakTensorKeyDictionary()

    def tell(self, tensor: torch.Tensor, value: torch.Tensor, name: str = "") -> None:
        """Let a tensor of the trace be known: a constant, or the input of that name.

        `value` is real and of the same shape; one of more than 2**20 elements is not kept.
        """
        if not _is_small(value):
            return
        if name:
            self.granted.give(name, value)
        known = Known(value, frozenset((name,)), given(name, value)) if name else Known(value)
        self._known[tensor] = known

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
        if name in SIZED:
            first, rest = (args[:1], args[1:]) if name in SIZED_METHODS else ((), args)
            args = (*first, *pytree.tree_map(self._number, rest))
        tensors = [
            leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)
        ]
        known = [one for one in map(self._of, tensors) if one is not None]
        if len(known) < len(tensors) or name.startswith(UNKNOWABLE):
            if tensors and writes(name, kwargs):
                for alias, _ in self._aliases(kwargs.get("out", tensors[0])):
                    self._known.pop(alias, None)  # type: ignore[no-untyped-call]
            return func(*args, **kwargs)
        inputs = frozenset().union(*(one.inputs for one in known))
        if name in ("nonzero", "argwhere") and inputs and not self.granted.numeric(inputs):
            places = self._places(args[0])
            return places if kwargs.get("as_tuple") else torch.stack(places, dim=-1)
        if name in ASKS and self.granted.may_fix(inputs):
            if len(args) == 1 and self.granted.numeric(inputs):
                self.granted.assume(known[0])
            return self._value(func, args, kwargs)
        if name == "__setitem__" and has_mask(args[1]) and not self.granted.numeric(inputs):
            self.granted.may_fix(inputs)
            self._value(func, args, kwargs)
            for alias, other in self._aliases(args[0]):
                self._known[alias] = Known(other.value, other.inputs | inputs)
            return args[0].copy_(self._constant(known[0].value))
        if writes(name, kwargs):
            return self._write(func, args, kwargs, inputs)
        shaped = is_shaped_by_value(name, args, bool(tensors))
        # Values must not become constants.
        values = self.granted.numeric(inputs) and name not in PLACES
        if shaped and not values and self.granted.may_fix(inputs):
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
            self._known[alias] = Known(known.value, known.inputs | inputs, None, before)
        return made

    def _aliases(self, tensor: torch.Tensor) -> list[tuple[torch.Tensor, Known]]:
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
                self._known[output] = Known(value, inputs, how)
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

    def _place_rows(self, mask: Any) -> None:
        """A mask that places rows is true as often as in the example."""
        known = self._of(mask) if isinstance(mask, torch.Tensor) else None
        if known is not None and known.inputs and not self.granted.numeric(known.inputs):
            self.granted.count(known)

    def _attribute(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        made = func(*args)
        known = self._of(args[0]) if isinstance(made, torch.Tensor) else None
        if known is not None:
            with _disable_current_modes():
                value = func(known.value)
            if isinstance(value, torch.Tensor):
                self._known[made] = Known(value, known.inputs)
        return made

    def _of(self, tensor: torch.Tensor) -> Known | None:
        found: Known | None = self._known.get(tensor)  # type: ignore[no-untyped-call]
        plain = type(tensor) is torch.Tensor and not torch._is_functional_tensor(tensor)
        if found is None and plain and _is_small(tensor):
            return Known(tensor)  # a constant of the code
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
        self._known[made] = Known(leaf)
        return made

    def _places_masked(self, args: tuple[Any, ...]) -> bool:
        """Whether an assignment needs positions for its mask; `x[mask] = 0` does not."""
        if self._is_constant(args[0]) or not has_mask(args[1]):
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
        if not isinstance(index, torch.Tensor) or index.dtype not in MASKS:
            return index
        known = self._of(index)
        if known is None or (
            self.granted.numeric(known.inputs) and not self.granted.may_fix(known.inputs)
        ):
            return index
        if known.inputs and not self.granted.numeric(known.inputs):
            return self._places(index)
        if self.granted.numeric(known.inputs):
            self.granted.assume(known)
        with _disable_current_modes():
            positions = known.value.nonzero(as_tuple=True)
        return tuple(self._constant(one) for one in positions)

    def _places(self, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Where a known mask is true: as often as in the example, wherever that is."""
        known = self._of(mask)
        assert known is not None
        self.granted.count_places(known)
        with _disable_current_modes():
            count = int(known.value.count_nonzero())
        with self:
            return places_of(mask, count)

    def _is_constant(self, tensor: torch.Tensor) -> bool:
        known = self._of(tensor)
        return known is not None and not known.inputs

    def _number(self, item: Any) -> Any:
        known = self._of(item) if isinstance(item, torch.Tensor) else None
        if known is None or not self.granted.may_fix(known.inputs):
            return item
        with _disable_current_modes():
            return int(known.value)


def _is_small(tensor: torch.Tensor) -> bool:
    """Whether a tensor's values can be kept in mind; one whose size depends on values is not."""
    size = tensor.numel()
    return isinstance(size, int) and size <= _MOST_ELEMENTS and not tensor.is_meta


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
