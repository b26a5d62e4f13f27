"""Key-value caches of transformers as flat tensors by name, and back.

A cache is an object with layers, each with tensors. Outside of the module it is a mapping from
`past.LAYER.key`, `past.LAYER.value` (and `past.LAYER.NAME` for what else a layer keeps) to tensors;
inside it is a copy of the example's object with these tensors in it.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch

_SHORT = {"keys": "key", "values": "value"}
_SIDES = {"self_attention_cache": "self", "cross_attention_cache": "cross"}

_PAST = "past."  # what a cache is called, whatever the model calls its argument


def is_cache(item: object) -> bool:
    """Whether it is a cache of transformers; what is not imported makes none."""
    module = sys.modules.get("transformers.cache_utils")
    return module is not None and isinstance(item, module.Cache)


def flatten(cache: Any) -> dict[str, torch.Tensor]:
    """The tensors of a cache by name, layer by layer, in its own shapes."""
    return {_PAST + name: getattr(layer, attribute) for name, layer, attribute in _slots(cache)}


def unflatten(template: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """A copy of a cache that holds other tensors, given by the names of `flatten`."""
    made = _copy(template)
    for name, layer, attribute in _slots(made):
        setattr(layer, attribute, tensors[_PAST + name])
    return made


def _copy(cache: Any) -> Any:
    """A cache with layers of its own, and the same tensors."""
    made = copy.copy(cache)
    for side in _SIDES:
        if hasattr(made, side):
            setattr(made, side, _copy(getattr(made, side)))
    if hasattr(made, "layers"):
        made.layers = [copy.copy(layer) for layer in made.layers]
    for name, value in vars(made).items():
        if isinstance(value, (dict, list)) and name != "layers":
            setattr(made, name, copy.copy(value))
    return made


def _slots(cache: Any) -> Iterator[tuple[str, Any, str]]:
    """Name, layer and attribute of every tensor."""
    sides = [side for side in _SIDES if hasattr(cache, side)]
    for side in sides:
        for name, layer, attribute in _slots(getattr(cache, side)):
            yield f"{_SIDES[side]}.{name}", layer, attribute
    for index, layer in enumerate(() if sides else getattr(cache, "layers", ())):
        for attribute, value in list(vars(layer).items()):
            if isinstance(value, torch.Tensor):
                yield f"{index}.{_SHORT.get(attribute, attribute)}", layer, attribute
