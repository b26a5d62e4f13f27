"""The UNet of Diffusion Policy: convolutions over the chunk, told the time and what is seen.

Source: Chi et al., Diffusion Policy (arXiv 2303.04137), section 3 and its published code, as
LeRobot's checkpoints hold it; FiLM is Perez et al. (arXiv 1709.07871).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of the UNet.

    Attributes:
        actions: numbers in a command.
        seen: numbers of what is seen.
        widths: channels of each level, from the top; each level but the last halves the chunk.
        kernel: width of a convolution.
        groups: of each norm.
        time: width of the time's embedding.
        scales: whether what is seen scales features, too, and does not only shift them.
    """

    actions: int
    seen: int
    widths: tuple[int, ...]
    kernel: int
    groups: int
    time: int
    scales: bool


class Block(nn.Module):
    """A convolution, its norm, and Mish."""

    def __init__(self, config: UNetConfig, width: int, made: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv1d(width, made, config.kernel, padding=config.kernel // 2),
            nn.GroupNorm(config.groups, made),
            nn.Mish(),
        )

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.block(x)
        return made


class Residual(nn.Module):
    """Two blocks, between which the features are changed by what is seen."""

    def __init__(self, config: UNetConfig, width: int, made: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Block(config, width, made), Block(config, made, made)
        told = 2 * made if config.scales else made
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(config.time + config.seen, told))
        self.residual_conv = nn.Conv1d(width, made, 1) if width != made else nn.Identity()
        self._scales = config.scales

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """Features [1, width, T], told [1, time + seen], to [1, made, T]."""
        inner = self.conv1(x)
        change = self.cond_encoder(told).unsqueeze(-1)
        if self._scales:
            scale, shift = change.chunk(2, dim=1)
            inner = scale * inner + shift
        else:
            inner = inner + change
        made: Tensor = self.conv2(inner) + self.residual_conv(x)
        return made


def _level(config: UNetConfig, width: int, made: int, ends: nn.Module) -> nn.ModuleList:
    return nn.ModuleList([Residual(config, width, made), Residual(config, made, made), ends])


class UNet(nn.Module):
    """Down a level at a time, through the middle, and up again beside what was kept."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        widths, time = config.widths, config.time
        # The first of these is the embedding of the time, a table of `places` here.
        self.diffusion_step_encoder = nn.Sequential(
            nn.Identity(), nn.Linear(time, 4 * time), nn.Mish(), nn.Linear(4 * time, time)
        )
        pairs = list(zip((config.actions, *widths[:-1]), widths, strict=True))
        down = [_level(config, *pair, nn.Conv1d(pair[1], pair[1], 3, 2, 1)) for pair in pairs[:-1]]
        self.down_modules = nn.ModuleList([*down, _level(config, *pairs[-1], nn.Identity())])
        self.mid_modules = nn.ModuleList(Residual(config, widths[-1], widths[-1]) for _ in range(2))
        ups = [
            _level(config, 2 * made, width, nn.ConvTranspose1d(width, width, 4, 2, 1))
            for width, made in reversed(pairs[1:])
        ]
        self.up_modules = nn.ModuleList(ups)
        self.final_conv = nn.Sequential(
            Block(config, widths[0], widths[0]), nn.Conv1d(widths[0], config.actions, 1)
        )

    def forward(self, x: Tensor, place: Tensor, seen: Tensor) -> Tensor:
        """Noisy commands [1, T, actions], a row of `places` and what is seen, to the same shape."""
        told = torch.cat([self.diffusion_step_encoder(place), seen], dim=-1)
        x, kept = x.transpose(1, 2), []
        for level in self.down_modules:
            first, second, down = level.children()
            x = second(first(x, told), told)
            kept.append(x)
            x = down(x)
        for one in self.mid_modules:
            x = one(x, told)
        for level in self.up_modules:
            first, second, up = level.children()
            x = torch.cat((x, kept.pop()), dim=1)
            x = up(second(first(x, told), told))
        made: Tensor = self.final_conv(x).transpose(1, 2)
        return made


def places(timesteps: Sequence[int], width: int) -> Tensor:
    """Embeddings [steps, width] of timesteps: sines, then cosines, whose frequencies fall by 10000
    (Vaswani et al., arXiv 1706.03762), in float32 as LeRobot has them.
    """
    half = width // 2
    slower = torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
    angles = torch.tensor(timesteps)[:, None] * slower[None]
    return torch.cat((angles.sin(), angles.cos()), dim=-1)
