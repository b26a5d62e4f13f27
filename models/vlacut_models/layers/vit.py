"""Vision transformers with timm's parameter names, as in OpenVLA and CogACT."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf


class PatchEmbed(nn.Module):
    """Image to patch tokens: [1, 3, H, W] to [1, N, width]."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention over [1, N, width], without a mask."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        split = self.qkv(tokens).reshape(batch, count, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nnf.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, width))


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(nnf.gelu(self.fc1(tokens)))


class LayerScale(nn.Module):
    """A learnt scale for each channel, under the name that a checkpoint gives it."""

    def __init__(self, width: int, name: str) -> None:
        super().__init__()
        self._name = name
        self.register_parameter(name, nn.Parameter(torch.ones(width)))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.get_parameter(self._name)


class Block(nn.Module):
    """Pre-norm transformer block; `layer_scale` names its scales, and is empty if it has none."""

    def __init__(self, width: int, heads: int, hidden: int, layer_scale: str = "") -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.ls1 = LayerScale(width, layer_scale) if layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, hidden)
        self.ls2 = LayerScale(width, layer_scale) if layer_scale else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        return tokens + self.ls2(self.mlp(self.norm2(tokens)))


class AttentionPool(nn.Module):
    """SigLIP's head, which pools its tokens: in the checkpoints, but nothing reads it."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.latent = nn.Parameter(torch.zeros(1, 1, width))
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, hidden)


class VisionTower(nn.Module):
    """A ViT read at its second-to-last block, patch tokens only: [1, 3, S, S] to [1, N, width].

    Args:
        image, patch: sides in pixels; N is (image / patch) squared.
        width, depth, heads, hidden: of the transformer.
        registers: class and register tokens in front of the patches (DINOv2 with registers: 5,
            none of which has a position; SigLIP: 0).
        layer_scale: name of the parameter of a block's scales; empty for blocks without.
    """

    def __init__(
        self,
        *,
        image: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        registers: int,
        layer_scale: str = "",
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(patch, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, (image // patch) ** 2, width))
        self.prefix = registers
        if registers:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
            self.reg_token = nn.Parameter(torch.zeros(1, registers - 1, width))
        else:
            self.attn_pool = AttentionPool(width, hidden)
        self.blocks = nn.ModuleList(Block(width, heads, hidden, layer_scale) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patch_embed(image) + self.pos_embed
        if self.prefix:
            first = torch.cat([self.cls_token, self.reg_token], dim=1)
            tokens = torch.cat([first.expand(image.shape[0], -1, -1), tokens], dim=1)
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        return tokens[:, self.prefix :]
