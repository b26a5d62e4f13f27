"""A Llama decoder over a key-value buffer of fixed size, on transformers' own layers.

Only the parameters and the submodules are transformers'; the attention is written out here, so that
every shape is static: keys and values of all positions there will be, with a mask.
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


def attend(
    layer: Any,
    hidden: Tensor,
    turn: tuple[Tensor, Tensor],
    past: tuple[Tensor, Tensor] | None,
    write: Tensor | None,
    mask: Tensor,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Attention of one layer: new tokens [1, N, width] over all positions in the buffer.

    Args:
        layer: a `LlamaDecoderLayer`.
        hidden: normalised.
        turn: of `rotary`.
        past: key and value buffers [1, heads, S, head_width]; None when the new tokens are first.
        write: bool [1, 1, S, 1], the position of the one new token; None with `past` None.
        mask: bool [1, 1, N, S], true where a token may look.

    Returns the output [1, N, width], and the buffers with the new token in them.
    """
    attention = layer.self_attn
    batch, count, _ = hidden.shape
    heads = [
        project(hidden).view(batch, count, -1, attention.head_dim).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    ]
    query, key = rotate(heads[0], *turn), rotate(heads[1], *turn)
    value = heads[2]
    if past is not None and write is not None:
        key = torch.where(write, key, past[0])
        value = torch.where(write, value, past[1])
    mixed = nnf.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    joined = mixed.transpose(1, 2).reshape(batch, count, -1)
    return attention.o_proj(joined), (key, value)


def decode(
    layers: Iterable[Any],
    hidden: Tensor,
    turn: tuple[Tensor, Tensor],
    past: Sequence[tuple[Tensor, Tensor]] | None,
    write: Tensor | None,
    mask: Tensor,
) -> tuple[Tensor, KeyValues]:
    """All layers; arguments and result as for `attend`, with one pair of buffers a layer."""
    caches: KeyValues = []
    for index, layer in enumerate(layers):
        normed = layer.input_layernorm(hidden)
        held = past[index] if past is not None else None
        mixed, cache = attend(layer, normed, turn, held, write, mask)
        hidden = hidden + mixed
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        caches.append(cache)
    return hidden, caches
