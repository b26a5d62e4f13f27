"""Calls of torch by what they do with values: which ask for one, write one, are shaped by one."""

from __future__ import annotations

from typing import Any

import torch

ASKS = frozenset(
    (
        *("tolist", "item", "__bool__", "__int__", "__float__", "__index__", "__contains__"),
        *("is_nonzero", "equal", "allclose", "numpy", "__array__"),
    )
)
PLACES = ("nonzero", "argwhere", "where")
UNKNOWABLE = (  # how the names of calls begin that make other numbers each time
    *("rand", "normal", "bernoulli", "dropout", "multinomial", "uniform", "empty", "exponential"),
    *("geometric", "cauchy", "log_normal", "poisson", "rrelu", "alpha_dropout", "feature_"),
)
SIZED_METHODS = frozenset(
    ("reshape", "view", "expand", "repeat", "tile", "narrow", "new_zeros", "new_ones", "unflatten")
)
SIZED = SIZED_METHODS | {"zeros", "ones"}  # their arguments are sizes, not values
MASKS = (torch.bool, torch.uint8)
_SHAPED_BY_VALUE = frozenset(
    (
        *("nonzero", "argwhere", "unique", "unique_consecutive", "bincount"),
        *("_unique2", "__iter__"),
    )
)
_OF_SCALARS = frozenset(("arange", "linspace", "full", "tensor", "as_tensor"))  # made of tensors
_IN_PLACE = ("__iadd__", "__isub__", "__imul__", "__itruediv__", "__iand__", "__ior__", "__ixor__")


def is_shaped_by_value(name: str, args: tuple[Any, ...], of_tensors: bool) -> bool:
    """Whether the shape of what a call makes depends on the values of what it takes.

    Args:
        name: of the function.
        args: of the call.
        of_tensors: whether there is a tensor among all of its arguments.
    """
    if name in _SHAPED_BY_VALUE:
        return True
    if name in _OF_SCALARS:
        return of_tensors
    if name == "repeat_interleave":
        return len(args) < 2 or isinstance(args[1], torch.Tensor)
    if name == "where":
        return len(args) == 1
    return False


def has_mask(index: Any) -> bool:
    """Whether an index is a mask, or has one."""
    items = index if isinstance(index, tuple) else (index,)
    return any(isinstance(item, torch.Tensor) and item.dtype in MASKS for item in items)


def writes(name: str, kwargs: dict[str, Any]) -> bool:
    """Whether a call changes its first tensor, or `out`."""
    special = name.startswith("__")
    in_place = name.endswith("_") and not special
    return "out" in kwargs or in_place or name in ("__setitem__", *_IN_PLACE)
