"""How presets are made: full ones on shapes alone, tiny ones with numbers from a fixed seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from vlacut.errors import ModelError
from vlacut.frontends.torch import shapes_only
from vlacut.program import Program

C = TypeVar("C")
M = TypeVar("M", bound=nn.Module)


class Maker(Protocol):
    """What the entry points of `vlacut.models` name."""

    presets: tuple[str, ...]

    def __call__(self, preset: str = "full") -> Program: ...


def choose(presets: Mapping[str, C], model: str, preset: str) -> C:
    """The configuration of a preset; ModelError naming those there are."""
    if preset not in presets:
        raise ModelError(f"{model} has no preset {preset!r}; it has {', '.join(presets)}")
    return presets[preset]


def with_presets(*names: str) -> Callable[[Callable[[str], Program]], Any]:
    """Notes the names of the presets on a function, for the list of models."""

    def note(make: Callable[[str], Program]) -> Callable[[str], Program]:
        make.presets = names  # type: ignore[attr-defined]  # that is what Maker says
        return make

    return note


def on_shapes(make: Callable[[], M], dtype: torch.dtype = torch.bfloat16) -> M:
    """The module with shapes and no weights: not a byte is allocated for them. Buffers are real."""
    with shapes_only():
        return make().to(dtype).eval()


def with_numbers(make: Callable[[], M], seed: int = 0) -> M:
    """The module in float32 with weights from a seed, scaled so that outputs depend on inputs.

    Matrices are normal with variance 1 / fan-in, biases and embeddings of positions normal with a
    tenth of that, and what scales a norm stays 1. The caller's generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make().eval()
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if parameter.dim() > 1:
                    fan_in = parameter[0].numel() if "embed" not in name else 1
                    parameter.normal_(0.0, fan_in**-0.5)
                elif name.endswith("bias"):
                    parameter.normal_(0.0, 0.1)
        return module.requires_grad_(False)
