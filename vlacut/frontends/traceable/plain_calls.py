"""Plain calls: a method that takes and makes plain trees of tensors in the place of caches."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from vlacut.frontends.names import argument_names
from vlacut.frontends.traceable import caches


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


def positional_names(function: Callable[..., Any], count: int) -> list[str]:
    """Names of the first `count` arguments of a function; of those behind a `*args`, numbers."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = [name for name, one in parameters_of(function).items() if one.kind in kinds]
    return named[:count] + [f"input_{index}" for index in range(len(named), count)]


def parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Parameters of a function, by name."""
    return dict(inspect.signature(function).parameters)


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
    parameters = parameters_of(function)
    takes = "use_cache" in parameters or any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()
    )
    if not makes or asked or not takes:
        return {}
    notes.append("use_cache=False: its key-value cache is no output; pass use_cache=True for it")
    return {"use_cache": False}
