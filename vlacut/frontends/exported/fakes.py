"""Tensors without content: which are, and what stands in for them while torch traces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _pytree as pytree


def is_real(tensor: object) -> bool:
    """Whether it is a tensor with content."""
    return (
        isinstance(tensor, torch.Tensor)
        and not isinstance(tensor, FakeTensor)
        and not tensor.is_meta
    )


@contextmanager
def shapes_only() -> Iterator[None]:
    """Modules built inside have parameters without content (on "meta") and real buffers."""
    register = torch.nn.Module.register_parameter

    def register_shape(self: torch.nn.Module, name: str, param: torch.nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:
            param = torch.nn.Parameter(param.to("meta"), requires_grad=param.requires_grad)
        register(self, name, param)

    torch.nn.Module.register_parameter = register_shape  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = register  # type: ignore[method-assign]


@contextmanager
def faked(module: torch.nn.Module, inputs: Any) -> Iterator[Any]:
    """Yield copies of the inputs, and meanwhile let the module have no tensor on "meta".

    What is on "meta" has a fake tensor on "cpu" as a stand-in: operators refuse to mix "meta" with
    real tensors, but mix fake ones with both. Copies, for torch takes two inputs that are the same
    tensor to be one.
    """
    stores: list[dict[str, Any]] = [
        store for item in module.modules() for store in (item._parameters, item._buffers)
    ]
    meta = [
        (store, name, tensor)
        for store in stores
        for name, tensor in store.items()
        if tensor is not None and tensor.is_meta
    ]
    leaves, spec = pytree.tree_flatten(inputs)
    stand_in = _StandIns()
    try:
        for store, name, tensor in meta:
            store[name] = stand_in.weight(tensor)
        yield pytree.tree_unflatten([stand_in.input(leaf) for leaf in leaves], spec)
    finally:
        for store, name, tensor in meta:
            store[name] = tensor


class _StandIns:
    """Fake tensors on "cpu" for tensors on "meta", one for each."""

    def __init__(self) -> None:
        self._mode = FakeTensorMode()
        self._made: dict[int, torch.Tensor] = {}

    def weight(self, tensor: torch.Tensor) -> torch.Tensor:
        """The one stand-in of a parameter or buffer, so that tied weights stay tied."""
        if id(tensor) not in self._made:
            fake = self._fake(tensor)
            if isinstance(tensor, torch.nn.Parameter):
                fake = torch.nn.Parameter(fake, requires_grad=tensor.requires_grad)
            self._made[id(tensor)] = fake
        return self._made[id(tensor)]

    def input(self, leaf: Any) -> Any:
        """A new tensor for an input that is one."""
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return self._fake(leaf) if leaf.is_meta else leaf.detach().clone()

    def _fake(self, tensor: torch.Tensor) -> torch.Tensor:
        with self._mode:
            return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype)
