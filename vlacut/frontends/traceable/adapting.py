"""What is done to a module so that it can be traced, each thing said in one line.

- Key-value caches become flat tensors, see `caches`; where nobody asked for one, the module is told
  not to make it (`plain_calls`).
- Attention and experts of transformers take the implementation that has an ONNX form, and checks of
  what was given drop out: they need values, and are the caller's (`set_aside`).
- Draws of random numbers become inputs, see `noise`.
- Values that follow from constants and the example are known, see `known`.

The module itself is as it was when the block ends.
"""

from __future__ import annotations

import copy
import inspect
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from vlacut.frontends.exported.fakes import is_real
from vlacut.frontends.traceable.granted import Granted
from vlacut.frontends.traceable.known import KnownValues
from vlacut.frontends.traceable.noise import Draws, argument_for, notes_of
from vlacut.frontends.traceable.plain_calls import PlainCall, parameters_of, plain_call
from vlacut.frontends.traceable.set_aside import set_for_tracing
from vlacut.tensor.noise import Noise


@dataclass
class Adapted:
    """A module that can be traced, with its example.

    Attributes:
        module: whose forward takes and makes plain trees of tensors.
        args, kwargs: the example, caches flattened.
        granted: what the trace depended on, once it was made.
        notes: what was done, a line each.
        examples: the tensors of the example by name, see `vlacut.frontends.names`.
        leaves: gives every leaf of arguments, with its name among the examples.
        draws: what the last trace drew.
        argument: by which the module takes noise, once `lift` was called.
        sign: lets `module` be seen to take an argument of that name.
        drawn_examples: what was drawn in the example, once `lift` was called.
    """

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    granted: Granted
    notes: list[str]
    examples: dict[str, torch.Tensor]
    leaves: Callable[[tuple[Any, ...], Mapping[str, Any]], Iterator[tuple[Any, str]]]
    draws: Draws
    argument: str
    sign: Callable[[str], None]
    drawn_examples: list[torch.Tensor] = field(default_factory=list)

    def lift(self, before: int) -> dict[str, Any]:
        """What the last trace drew, as an argument of the module: by name, in the shapes drawn. The
        next trace takes its noise by it.

        `before` is how many inputs of noise the program has already; a note tells of these ones.
        """
        found = self.draws.found
        made = [draw.example(before + place) for place, draw in enumerate(found)]
        names = [f"{self.argument}.{place}" for place in range(len(made))]
        self.drawn_examples = made
        self.examples.update(zip(names, made, strict=True))
        self.notes.extend(notes_of(found))
        self.sign(self.argument)
        return {self.argument: made}

    def noise(self, names: Sequence[str]) -> list[Noise]:
        """The distributions of inputs that have these names."""
        found = zip(self.draws.found, names, strict=True)
        return [replace(draw.noise, input=name) for draw, name in found]


@contextmanager
def adapted(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    method: str = "forward",
    free: Collection[str] = (),
    names: Sequence[str] = (),
) -> Iterator[Adapted]:
    """The module as it can be traced, with one of its methods as forward; as it was, afterwards.

    Inputs in `free` are made by another phase, or change from trip to trip: they are never fixed.
    `names` are those of positional inputs, where they are not those of the arguments.
    """
    notes: list[str] = []
    plain = plain_call(module, args, kwargs, method, names, notes)
    known = KnownValues()
    call = _Traced(plain, module, known, free)
    twin = copy.copy(module)  # shares parameters, buffers and submodules
    parameters = parameters_of(plain.function)
    argument = argument_for({**parameters, **kwargs})

    def forward(_: nn.Module, *given: Any, **named: Any) -> Any:
        ready.draws = Draws(named.pop(argument, None))
        return call(ready.draws, given, named)

    def sign(*added: str) -> None:
        first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        others = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in added]
        every = sorted([first, *parameters.values(), *others], key=lambda one: one.kind)
        forward.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]

    sign()
    twin.forward = types.MethodType(forward, twin)
    ready = Adapted(
        *(twin, plain.args, plain.kwargs, known.granted, notes, plain.examples, plain.leaves),
        Draws(),
        argument,
        sign,
    )
    with set_for_tracing(module, notes):
        yield ready


class _Traced:
    """A plain call in a trace, with what is known."""

    def __init__(
        self, call: PlainCall, module: nn.Module, known: KnownValues, free: Collection[str]
    ) -> None:
        self._call, self._module, self._known = call, module, known
        self._values = {
            name: tensor.detach().clone()
            for name, tensor in call.examples.items()
            if is_real(tensor) and name not in free
        }
        self._buffers = {
            name: buffer.detach().clone()
            for name, buffer in module.named_buffers()
            if is_real(buffer) and not buffer.is_floating_point()
        }

    def __call__(self, draws: Draws, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        for name, tensor in self._call.named(args, kwargs).items():
            if name in self._values:
                self._known.tell(tensor, self._values[name], name)
        for name, buffer in self._module.named_buffers():
            if name in self._buffers:
                self._known.tell(buffer, self._buffers[name])
        with self._known, draws:
            return self._call(*args, **kwargs)
