"""Bytes as plain tensors of torch, within their bounds."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vlacut.frontends.pt2.good import NotGood, shown

_MOST = 2**62


def strided(
    data: memoryview,
    dtype: torch.dtype,
    sizes: Sequence[int],
    strides: Sequence[int],
    offset: int,
) -> torch.Tensor:
    """A tensor over bytes, which it shares, of the shape `sizes`; `strides` and `offset` count
    elements.

    Raises NotGood if it would reach beyond them, or they are no whole number of elements.
    """
    numbers = (*sizes, *strides, offset)
    if any(type(each) is not int or not 0 <= each < _MOST for each in numbers):
        raise NotGood(f"sizes {shown(numbers)}")
    if len(sizes) != len(strides) or len(data) % dtype.itemsize:
        raise NotGood(f"{len(data)} bytes of {dtype} as {shown(tuple(sizes))}")
    if 0 in sizes:
        return torch.empty(tuple(sizes), dtype=dtype)
    pairs = zip(sizes, strides, strict=True)
    last = offset + sum((size - 1) * stride for size, stride in pairs)
    if last >= len(data) // dtype.itemsize:
        raise NotGood(f"{len(data)} bytes, of which element {last} of {dtype} is read")
    return torch.frombuffer(data, dtype=dtype).as_strided(tuple(sizes), tuple(strides), offset)
