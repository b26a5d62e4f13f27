"""Weights of a checkpoint into a module of shapes, by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from vlacut.errors import ModelError

_SHOWN = 3


def fill_module(where: Path, what: str, module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a module of shapes its weights, in their types.

    Args:
        where: the file of the weights, for the error.
        what: a policy's type or configuration, for the error.
        module: to fill.
        weights: by its names; there may be more.

    Raises ModelError listing what is missing, and what is of another shape.
    """
    wanted = module.state_dict()
    missing = [name for name in wanted if name not in weights]
    unlike = [
        f"{name} {list(weights[name].shape)}, must be {list(one.shape)}"
        for name, one in wanted.items()
        if name in weights and weights[name].shape != one.shape
    ]
    if missing or unlike:
        said = [f"lacks {name}" for name in missing] + unlike
        raise ModelError(
            f"{where} does not fit {what}: {'; '.join(said[:_SHOWN])}"
            + (f" and {len(said) - _SHOWN} more" if len(said) > _SHOWN else "")
        )
    module.load_state_dict(dict(weights), strict=False, assign=True)
