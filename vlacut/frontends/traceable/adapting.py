"""What is done to a module so that it can be traced, each thing said in one line.

- Key-value caches become flat tensors, see `caches`; where nobody asked for one, the module is told
  not to make it.
- Attention and experts of transformers take the implementation that has an ONNX form.
- Checks of what was given drop out: they need values, and are the caller's.
- Draws of random numbers become inputs, see `noise`.
- Values that follow from constants and the example are known, see `known`.

The module itself is as it was when the block ends.
"""

from __future__ import annotations

import copy
import inspect
import os
import sys
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.distributions import Distribution
from torch.utils import _pytree as pytree

from vlacut.frontends.exported.fakes import is_real
from vlacut.frontends.names import argument_names
from vlacut.frontends.traceable import caches
from vlacut.frontends.traceable.experts import dense_experts
from vlacut.frontends.traceable.granted import Granted
from vlacut.frontends.traceable.known import KnownValues
from vlacut.frontends.traceable.noise import Draws, argument_for, notes_of
from vlacut.tensor.noise import Noise

_NO_CHECKS = "TRANSFORMERS_DISABLE_TORCH_CHECK"  # read by transformers at every check
_EXPORTED = ("sdpa", "eager")  # attention that has an ONNX form
_EXPERTS = "vlacut"


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
    parameters = _parameters(plain.function)
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
    with ExitStack() as stack:
        stack.enter_context(_attributes_kept(module))
        stack.enter_context(_without_checks())
        for config in _configs(module):
            stack.enter_context(_exported_kinds(config, module, notes))
        stack.enter_context(_faithful_masks(module, notes))
        yield ready


class PlainCall:
    """A method of a module that takes and makes plain trees of tensors in the place of caches.

    Args:
        function: the method.
        args: positional ones of its example.
        kwargs: those by keyword.
        names: of positional inputs, where they are not those of the arguments.

    Attributes:
        function: the method itself.
        args, kwargs: the example, plain.
        examples: the tensors of the example by name, in order.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        names: Sequence[str],
    ) -> None:
        self.function = function
        self._args, self._kwargs = args, dict(kwargs)
        self._names = names or positional_names(function, len(args))
        self.args: tuple[Any, ...] = tuple(map(_plain, args))
        self.kwargs = {name: _plain(item) for name, item in kwargs.items()}
        self.examples = self.named(self.args, self.kwargs)

    def named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """The tensors of arguments, by name."""
        found = self.leaves(args, kwargs)
        return {name: leaf for leaf, name in found if isinstance(leaf, torch.Tensor)}

    def leaves(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
        """Every leaf of arguments with its name."""
        arguments = {**dict(zip(self._names, args, strict=True)), **kwargs}
        return zip(pytree.tree_leaves(arguments), argument_names(arguments), strict=True)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = [_object(known, item) for known, item in zip(self._args, args, strict=True)]
        named = {name: _object(self._kwargs[name], item) for name, item in kwargs.items()}
        return _plain(self.function(*given, **named))


def plain_call(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    method: str = "forward",
    names: Sequence[str] = (),
    notes: list[str] | None = None,
) -> PlainCall:
    """A module's method as it is traced, and run beside its trace; `notes` gets what was done."""
    function = getattr(module, method)
    said = notes if notes is not None else []
    kwargs = {**kwargs, **_without_cache(module, function, args, kwargs, said)}
    return PlainCall(function, args, kwargs, names)


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


def _plain(item: Any) -> Any:
    """Caches in a result or an argument as mappings of tensors; one in a mapping is of it."""
    if caches.is_cache(item):
        return caches.flatten(item)
    if type(item) is dict or (hasattr(item, "to_tuple") and isinstance(item, Mapping)):
        made: dict[Any, Any] = {}
        for name, value in item.items():
            made |= caches.flatten(value) if caches.is_cache(value) else {name: _plain(value)}
        return made
    return type(item)(map(_plain, item)) if type(item) in (tuple, list) else item


def _object(template: Any, item: Any) -> Any:
    return caches.unflatten(template, item) if caches.is_cache(template) else item


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def positional_names(function: Callable[..., Any], count: int) -> list[str]:
    """Names of the first `count` arguments of a function; of those behind a `*args`, numbers."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = [name for name, one in _parameters(function).items() if one.kind in kinds]
    return named[:count] + [f"input_{index}" for index in range(len(named), count)]


def _without_cache(
    module: nn.Module,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    notes: list[str],
) -> dict[str, Any]:
    """`use_cache=False` where a module would make a cache that nobody asked for."""
    config: Any = getattr(module, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    makes = any(getattr(one, "use_cache", False) is True for one in (config, text))
    asked = "use_cache" in kwargs or any(map(caches.is_cache, (*args, *kwargs.values())))
    parameters = _parameters(function)
    takes = "use_cache" in parameters or any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()
    )
    if not makes or asked or not takes:
        return {}
    notes.append("use_cache=False: its key-value cache is no output; pass use_cache=True for it")
    return {"use_cache": False}


@contextmanager
def _attributes_kept(module: nn.Module) -> Iterator[None]:
    """Tensors that a forward notes on its modules are forgotten: they are of the trace."""
    before = [(item, dict(vars(item))) for item in module.modules()]
    try:
        yield
    finally:
        for item, attributes in before:
            for name, value in list(vars(item).items()):
                if attributes.get(name) is value or name in ("_parameters", "_buffers", "_modules"):
                    continue
                if any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(value)):
                    vars(item).pop(name)
                    vars(item).update({name: attributes[name]} if name in attributes else {})


@contextmanager
def _without_checks() -> Iterator[None]:
    before, validates = os.environ.get(_NO_CHECKS), Distribution._validate_args
    os.environ[_NO_CHECKS] = "1"
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(validates)
        if before is None:
            del os.environ[_NO_CHECKS]
        else:
            os.environ[_NO_CHECKS] = before


def _configs(module: nn.Module) -> list[Any]:
    """The configurations of transformers in a module, each once."""
    found = {}
    for item in module.modules():
        config = getattr(item, "config", None)
        if hasattr(config, "_attn_implementation_internal"):
            found[id(config)] = config
    return list(found.values())


@contextmanager
def _exported_kinds(config: Any, module: nn.Module, notes: list[str]) -> Iterator[None]:
    """Let a configuration choose attention and experts that have an ONNX form."""
    before = {
        name: vars(config)[name]
        for name in ("_attn_implementation_internal", "_experts_implementation_internal")
        if name in vars(config)
    }
    attention = before.get("_attn_implementation_internal")
    if attention is not None and attention not in _EXPORTED:
        config._attn_implementation_internal = "sdpa"
        _say(notes, f"attention: sdpa in the place of {attention}")
    if before.get("_experts_implementation_internal") is not None and _has_experts(module):
        sys.modules["transformers.integrations.moe"].ALL_EXPERTS_FUNCTIONS[_EXPERTS] = dense_experts
        config._experts_implementation_internal = _EXPERTS
        _say(notes, "experts: products of all of them at once, which have an ONNX form")
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)


def _has_experts(module: nn.Module) -> bool:
    return any(hasattr(item, "_is_expert_parallel") for item in module.modules())


def _say(notes: list[str], line: str) -> None:
    if line not in notes:
        notes.append(line)


@contextmanager
def _faithful_masks(module: nn.Module, notes: list[str]) -> Iterator[None]:
    """Let a prefix model leave its mask out where it does so when it is not traced.

    Where no position is padding, transformers gives attention no mask but a flag, `is_causal`; if
    it traces, a causal mask. In a model whose attention is bidirectional these are not the same.
    Then the mask's values are asked for, and the mask is fixed.
    """
    masking: Any = sys.modules.get("transformers.masking_utils")
    prefix = any(getattr(one, "use_bidirectional_attention", None) for one in _configs(module))
    if masking is None or not prefix:
        yield
        return
    before = masking.is_torchdynamo_exporting, masking.is_tracing
    masking.is_torchdynamo_exporting = lambda: False
    masking.is_tracing = lambda *_: False
    try:
        yield
    finally:
        masking.is_torchdynamo_exporting, masking.is_tracing = before
