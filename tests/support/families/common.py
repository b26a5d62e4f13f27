"""What the families share: their register, and sizes and examples of small models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vlacut.tensor import TensorSpec
from vlacut.tensor.numerics import MASKED, probing

Family = Callable[[], tuple[nn.Module, dict[str, Any]]]

FAMILIES: dict[str, Family] = {}

TEXT: Mapping[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 99,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
VISION: Mapping[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
IMAGE = 98  # the token that stands for a place of a picture


def family(make: Family) -> Family:
    FAMILIES[make.__name__] = make
    return make


def ids(count: int, *, pictures: slice | None = None) -> Tensor:
    found = 3 + (torch.arange(count) * 7 % 80)[None]
    if pictures is not None:
        found[0, pictures] = IMAGE
    return found


def other_values(
    specs: Iterable[TensorSpec], example: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Other values of every input: floats drawn anew, masks with padding behind, other words.

    Tokens that stand for something, from 95 on, stay where they are.
    """
    specs = list(specs)
    made = probing(specs, example, MASKED)
    for spec in specs:
        array = example[spec.name]
        if spec.name.endswith("_ids") and array.max() > 2:  # not kinds
            made[spec.name] = np.where(array < 95, 3 + (array + 31) % 80, array)
    return made


def waves(*shape: int) -> Tensor:
    return torch.sin(torch.arange(torch.Size(shape).numel()).float()).reshape(shape)


def spoken(found: Tensor, **more: Any) -> dict[str, Any]:
    return {"input_ids": found, "attention_mask": torch.ones_like(found), **more}


def text(model_type: str, **more: Any) -> dict[str, Any]:
    return {**TEXT, "model_type": model_type, **more}
