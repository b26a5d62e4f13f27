"""Calls of torch that have no ONNX form of static shapes, as calls that have one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def masked_scatter(given: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """`Tensor.masked_scatter`: the n-th place that the mask holds true gets element n of `source`.

    Where the mask is one for whole rows, as that of pictures among tokens is, rows are placed.
    """
    mask = mask.expand(given.shape)
    width = given.shape[-1] if given.dim() and mask.stride(-1) == 0 else 1
    rows = mask[..., 0] if width > 1 else mask
    order = rows.reshape(-1).to(torch.int64).cumsum(0) - 1
    elements = source.reshape(-1, width)
    placed = elements[order.clamp(0, elements.shape[0] - 1)].reshape(given.shape)
    return torch.where(mask, placed, given)


def places_of(mask: Tensor, count: int) -> tuple[Tensor, ...]:
    """`mask.nonzero(as_tuple=True)` of a mask that is true `count` times: for each dimension, an
    int64 [count].
    """
    flat = (mask != 0).reshape(-1)
    order = torch.where(flat, flat.to(torch.int64).cumsum(0) - 1, count).clamp(max=count)
    numbers = torch.arange(flat.numel(), device=mask.device)
    places = numbers.new_zeros(count + 1).scatter(0, order, numbers)[:count]
    found: list[Tensor] = []
    for size in reversed(mask.shape):
        found.insert(0, places % size)
        places = places // size
    return tuple(found)


REWRITTEN: Mapping[str, Callable[..., Any]] = {"masked_scatter": masked_scatter}
