"""Flamingo's parts with the parameter names of OpenFlamingo: resampler, gated layers, MPT.

Source of the architecture: Alayrac et al., Flamingo (arXiv 2204.14198), and OpenFlamingo's model of
3B: a perceiver of 6 layers makes 64 tokens of an image; before every layer of MPT-1B (ALiBi, norms
on query and key, no biases) a gated layer attends to them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from vlacut_models.layers.decoder import heads_of, mix

_HEADS = 8
_HEAD_WIDTH = 64


def feed_forward(width: int) -> nn.Sequential:
    """Norm and an MLP of four times the width, without biases."""
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, 4 * width, bias=False),
        nn.GELU(),
        nn.Linear(4 * width, width, bias=False),
    )


class CrossAttention(nn.Module):
    """Queries [B, N, width] over keys [B, M, keys]; both normalised by the caller."""

    def __init__(self, width: int, keys: int) -> None:
        super().__init__()
        inner = _HEADS * _HEAD_WIDTH
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(keys, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def attend(self, queries: Tensor, keys: Tensor) -> Tensor:
        query = heads_of(self.to_q, queries, _HEAD_WIDTH)
        both = heads_of(self.to_kv, keys, _HEAD_WIDTH)
        return self.to_out(mix(query, both[:, :_HEADS], both[:, _HEADS:], None))


class PerceiverAttention(CrossAttention):
    """Latents over an image's tokens and themselves."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width)
        self.norm_media = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, latents: Tensor) -> Tensor:
        latents = self.norm_latents(latents)
        return self.attend(latents, torch.cat([self.norm_media(tokens), latents], dim=1))


class PerceiverLayer(nn.ModuleList):
    """Attention and an MLP, under the names `0` and `1`."""

    def __init__(self, width: int) -> None:
        super().__init__([PerceiverAttention(width), feed_forward(width)])

    def forward(self, tokens: Tensor, latents: Tensor) -> Tensor:
        latents = latents + self[0](tokens, latents)
        return latents + self[1](latents)


class Perceiver(nn.Module):
    """Images' tokens [B, N, width] to [B, latents, width]."""

    def __init__(self, width: int, depth: int, latents: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.zeros(latents, width))
        self.layers = nn.ModuleList(PerceiverLayer(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        latents = self.latents[None].expand(tokens.shape[0], -1, -1)
        for layer in self.layers:
            latents = layer(tokens, latents)
        return self.norm(latents)


class MediaAttention(CrossAttention):
    """Text over media tokens."""

    def __init__(self, width: int, media: int) -> None:
        super().__init__(width, media)
        self.norm = nn.LayerNorm(width)

    def forward(self, text: Tensor, media: Tensor) -> Tensor:
        return self.attend(self.norm(text), media)


class GatedLayer(nn.Module):
    """Attention to media and an MLP, each behind a gate that is closed (0) before training."""

    def __init__(self, width: int, media: int) -> None:
        super().__init__()
        self.attn = MediaAttention(width, media)
        self.attn_gate = nn.Parameter(torch.zeros(1))
        self.ff = feed_forward(width)
        self.ff_gate = nn.Parameter(torch.zeros(1))

    def forward(self, text: Tensor, media: Tensor) -> Tensor:
        text = text + self.attn(text, media) * self.attn_gate.tanh()
        return text + self.ff(text) * self.ff_gate.tanh()


class MptAttention(nn.Module):
    """Self-attention with norms on query and key."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._head_width = width // heads
        self.Wqkv = nn.Linear(width, 3 * width, bias=False)
        self.q_ln = nn.LayerNorm(width, bias=False)
        self.k_ln = nn.LayerNorm(width, bias=False)
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        query, key, value = self.Wqkv(hidden).unflatten(-1, (3, -1)).unbind(-2)
        mixed = nnf.scaled_dot_product_attention(
            heads_of(self.q_ln, query, self._head_width),
            heads_of(self.k_ln, key, self._head_width),
            heads_of(nn.Identity(), value, self._head_width),
            attn_mask=bias,
        )
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class MptMlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp_up = nn.Linear(width, 4 * width, bias=False)
        self.mlp_down = nn.Linear(4 * width, width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.mlp_down(nnf.gelu(self.mlp_up(hidden)))


class MptBlock(nn.Module):
    """Pre-norm block of MPT."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, bias=False)
        self.attn = MptAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width, bias=False)
        self.mlp = MptMlp(width)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        hidden = hidden + self.attn(self.ln_1(hidden), bias)
        return hidden + self.mlp(self.ln_2(hidden))


class FlamingoLayer(nn.Module):
    """A gated layer and the block behind it."""

    def __init__(self, width: int, heads: int, media: int) -> None:
        super().__init__()
        self.gated_cross_attn_layer = GatedLayer(width, media)
        self.decoder_layer = MptBlock(width, heads)

    def forward(self, hidden: Tensor, media: Tensor, bias: Tensor) -> Tensor:
        return self.decoder_layer(self.gated_cross_attn_layer(hidden, media), bias)


class Mpt(nn.Module):
    """Tokens [1, T] and media [1, M, media] to hidden states [1, T, width]."""

    def __init__(self, width: int, depth: int, heads: int, media: int, vocabulary: int) -> None:
        super().__init__()
        self._heads = heads
        self.wte = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(FlamingoLayer(width, heads, media) for _ in range(depth))
        self.ln_f = nn.LayerNorm(width, bias=False)

    def forward(self, ids: Tensor, media: Tensor) -> Tensor:
        hidden = self.wte(ids)
        bias = alibi(self._heads, ids.shape[1], hidden)
        for block in self.blocks:
            hidden = block(hidden, media, bias)
        return self.ln_f(hidden)


def alibi(heads: int, count: int, like: Tensor) -> Tensor:
    """Causal ALiBi biases [1, heads, count, count] in the type and on the device of a tensor.

    Head h of H (a power of two) loses 2^(-8h/H) a position. Source: Press et al., arXiv 2108.12409.
    """
    slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1, device=like.device) / heads)
    slots = torch.arange(count, device=like.device)
    behind = (slots[:, None] - slots[None, :]).to(torch.float32)
    lost = -slopes[:, None, None] * behind
    return lost.masked_fill(behind < 0, float("-inf"))[None].to(like.dtype)
