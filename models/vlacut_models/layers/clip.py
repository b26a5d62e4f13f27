"""CLIP's vision transformer with open_clip's parameter names, as in OpenFlamingo."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from vlacut_models.layers.decoder import mix
from vlacut_models.layers.prismatic import Tower


class Attention(nn.Module):
    """Self-attention with one projection for query, key and value."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        joined = nnf.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        split = joined.reshape(batch, count, 3, self._heads, width // self._heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        return self.out_proj(mix(query, key, value, None))


class Mlp(nn.Module):
    """Two linear layers with the sigmoid form of GELU that CLIP was trained with."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden)
        self.c_proj = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.c_fc(tokens)
        return self.c_proj(hidden * torch.sigmoid(1.702 * hidden))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.ln_1(tokens))
        return tokens + self.mlp(self.ln_2(tokens))


class Blocks(nn.Module):
    """The blocks, under the name `resblocks`."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(
            Block(tower.width, tower.heads, tower.hidden) for _ in range(tower.depth)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        for block in self.resblocks:
            tokens = block(tokens)
        return tokens


class ClipTower(nn.Module):
    """Images [B, 3, S, S] to patch tokens [B, N, width]; the class token is dropped at the end."""

    def __init__(self, tower: Tower, image: int, patch: int) -> None:
        super().__init__()
        width = tower.width
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((image // patch) ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Blocks(tower)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        first = self.class_embedding[None, None].expand(images.shape[0], -1, -1)
        tokens = torch.cat([first, patches], dim=1) + self.positional_embedding
        return self.transformer(self.ln_pre(tokens))[:, 1:]
