"""Decoder layers of transformers (Llama, Gemma) over keys and values of fixed size.

Only the parameters and the submodules are transformers'. The attention is written out here, so that
every shape is static: keys and values have room for all positions, and a mask hides the unused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as nnf

KeyValues = list[tuple[Tensor, Tensor]]


def rotary(positions: Tensor, width: int, base: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each [1, 1, N, width], of positions [N]; computed in float32."""
    steps = torch.arange(0, width, 2, dtype=torch.float32, device=positions.device) / width
    angles = positions.to(torch.float32)[:, None] * (1.0 / base**steps)[None, :]
    both = torch.cat([angles, angles], dim=-1)[None, None]
    return both.cos().to(dtype), both.sin().to(dtype)


def rotate(tensor: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary embedding of [1, heads, N, width], halves convention."""
    half = tensor.shape[-1] // 2
    turned = torch.cat([-tensor[..., half:], tensor[..., :half]], dim=-1)
    return tensor * cosines + turned * sines


def heads_of(project: Any, hidden: Tensor, width: int) -> Tensor:
    """A projection of [1, N, ...] by heads of a width: [1, heads, N, width]."""
    batch, count, _ = hidden.shape
    return project(hidden).view(batch, count, -1, width).transpose(1, 2)


def mix(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of [1, heads, N, width] over [1, groups, S, width], joined: [1, N, heads * width].

    Heads that share keys become rows of one head, so that keys and values are not repeated.

    `heads` is a multiple of `groups`; head h reads group h // (heads / groups). The mask, bool
    [1, 1, N, S] or [1, 1, 1, S], is true where a row may look; None is everywhere.
    """
    batch, heads, count, width = query.shape
    groups = key.shape[1]
    shared = heads // groups
    rows = query.reshape(batch, groups, shared * count, width)
    if mask is not None and shared > 1 and mask.shape[2] > 1:
        mask = mask.repeat(1, 1, shared, 1)
    mixed = nnf.scaled_dot_product_attention(rows, key, value, attn_mask=mask)
    apart = mixed.reshape(batch, heads, count, width)
    return apart.transpose(1, 2).reshape(batch, count, heads * width)


def keys_of(layer: Any, hidden: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Keys and values [1, groups, N, head_width] of normalised tokens [1, N, width]."""
    attention = layer.self_attn
    key = rotate(heads_of(attention.k_proj, hidden, attention.head_dim), *turn)
    return key, heads_of(attention.v_proj, hidden, attention.head_dim)


def attend(
    layer: Any,
    hidden: Tensor,
    turn: tuple[Tensor, Tensor],
    past: tuple[Tensor, Tensor] | None,
    write: Tensor | None,
    mask: Tensor | None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Attention of one layer: new tokens [1, N, width] over those before and themselves.

    Args:
        layer: a decoder layer of transformers.
        hidden: normalised.
        turn: of `rotary`.
        past: keys and values [1, groups, S, head_width]; None when the new tokens are first.
        write: bool [1, 1, S, 1], the place of the one new token in `past`; None if the new tokens
            come behind it.
        mask: bool [1, 1, N, all], true where a token may look; None for everywhere.

    Returns the output [1, N, width], and all keys and values.
    """
    attention = layer.self_attn
    query = rotate(heads_of(attention.q_proj, hidden, attention.head_dim), *turn)
    key, value = keys_of(layer, hidden, turn)
    if past is not None and write is not None:
        key = torch.where(write, key, past[0])
        value = torch.where(write, value, past[1])
    elif past is not None:
        key = torch.cat([past[0], key], dim=2)
        value = torch.cat([past[1], value], dim=2)
    return attention.o_proj(mix(query, key, value, mask)), (key, value)


def feed(layer: Any, hidden: Tensor, mixed: Tensor) -> Tensor:
    """The rest of a layer after its attention, with both residuals."""
    hidden = hidden + mixed
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def decode(
    layers: Iterable[Any],
    hidden: Tensor,
    turn: tuple[Tensor, Tensor],
    past: Sequence[tuple[Tensor, Tensor]] | None,
    write: Tensor | None,
    mask: Tensor | None,
) -> tuple[Tensor, KeyValues]:
    """All layers; arguments and result as for `attend`, with one pair of buffers per layer."""
    caches: KeyValues = []
    for index, layer in enumerate(layers):
        held = past[index] if past is not None else None
        normed = layer.input_layernorm(hidden)
        mixed, cache = attend(layer, normed, turn, held, write, mask)
        hidden = feed(layer, hidden, mixed)
        caches.append(cache)
    return hidden, caches


def all_keys(
    layers: Sequence[Any], hidden: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor
) -> KeyValues:
    """Keys and values of every layer; what is behind those of the last one is not computed."""
    hidden, caches = decode(layers[:-1], hidden, turn, None, None, mask)
    last = layers[-1]
    return [*caches, keys_of(last, last.input_layernorm(hidden), turn)]


def flat(caches: KeyValues) -> list[Tensor]:
    """Keys and values of every layer as one list, in the order of `cache_names`."""
    return [tensor for pair in caches for tensor in pair]


def paired(tensors: Sequence[Tensor]) -> KeyValues:
    """The inverse of `flat`."""
    return list(zip(tensors[0::2], tensors[1::2], strict=True))


def cache_names(layers: int) -> list[str]:
    """Names of keys and values: `key.0`, `value.0`, `key.1`, ..."""
    return [f"{kind}.{layer}" for layer in range(layers) for kind in ("key", "value")]
