"""A part that computes, on the CPU or on a GPU, and what it says if it cannot."""

from __future__ import annotations

import torch

from vlacut.errors import BackendError
from vlacut_backends.aten.module import PartModule


def compute(module: PartModule, given: list[torch.Tensor], name: str) -> tuple[torch.Tensor, ...]:
    """Outputs of a part in order, of inputs in order. Raises BackendError naming the part."""
    try:
        with torch.inference_mode():
            made: tuple[torch.Tensor, ...] = module(*given)
    except BackendError as error:
        raise BackendError(f"part {name}: {error}") from error
    except Exception as error:  # torch's own exceptions share no base but this
        said = str(error).strip().partition("\n")[0]
        raise BackendError(f"part {name}: PyTorch failed: {said}") from error
    return made
