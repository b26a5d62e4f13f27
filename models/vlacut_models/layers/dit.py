"""CogACT's diffusion transformer over an action sequence, with its checkpoint's parameter names.

Source of the architecture: Li et al., CogACT (arXiv 2411.19650), and Peebles and Xie, DiT (arXiv
2212.09748): one condition token before the action tokens, blocks without adaptive norms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from vlacut_models.layers.vit import Attention

_FREQUENCIES = 256
_LONGEST_PERIOD = 10000.0


@dataclass(frozen=True)
class DiTConfig:
    """Size of the head; DiT-B if not given.

    Attributes:
        width, depth, heads: of the transformer.
        actions, chunk: degrees of freedom, and actions in a sequence.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    actions: int = 7
    chunk: int = 16


DIT_B = DiTConfig()
DIT_L = DiTConfig(width=1024, depth=24, heads=16)


class Embedder(nn.Module):
    """A linear layer under the name `linear`."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, width)

    def forward(self, values: Tensor) -> Tensor:
        return self.linear(values)


class ConditionEmbedder(Embedder):
    """Embeds the cognition token, and holds the one that means "no condition"."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__(inputs, width)
        self.uncondition = nn.Parameter(torch.zeros(1, inputs))


class TimestepEmbedder(nn.Module):
    """Timesteps [B] to [B, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, steps: Tensor) -> Tensor:
        half = _FREQUENCIES // 2
        places = torch.arange(half, dtype=torch.float32, device=steps.device) / half
        angles = steps[:, None].to(torch.float32) * torch.exp(-math.log(_LONGEST_PERIOD) * places)
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
        return self.mlp(waves.to(self.mlp.get_parameter("0.weight").dtype))


class Mlp(nn.Module):
    """Two linear layers with GELU in its tanh form between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(nnf.gelu(self.fc1(tokens), approximate="tanh"))


class DiTBlock(nn.Module):
    """Pre-norm transformer block whose norms have no parameters."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class FinalLayer(nn.Module):
    """Tokens to noise."""

    def __init__(self, width: int, actions: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(width, actions)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.linear(self.norm_final(tokens))


class DiT(nn.Module):
    """The noise in an action sequence, given a timestep and a condition."""

    def __init__(self, config: DiTConfig, condition: int) -> None:
        super().__init__()
        width = config.width
        # In the checkpoint, but nothing reads it: histories of actions were given up.
        self.history_embedder = Embedder(config.actions, width)
        self.x_embedder = Embedder(config.actions, width)
        self.t_embedder = TimestepEmbedder(width)
        self.z_embedder = ConditionEmbedder(condition, width)
        self.positional_embedding = nn.Parameter(torch.zeros(config.chunk + 1, width))
        self.blocks = nn.ModuleList(DiTBlock(width, config.heads) for _ in range(config.depth))
        self.final_layer = FinalLayer(width, config.actions)

    def forward(self, actions: Tensor, steps: Tensor, condition: Tensor) -> Tensor:
        """The noise [B, chunk, actions] in actions of that shape.

        Args:
            actions: noisy.
            steps: int64 [1] or [B], of the diffusion.
            condition: [B, 1, condition].
        """
        first = self.t_embedder(steps)[:, None] + self.z_embedder(condition)
        tokens = torch.cat([first, self.x_embedder(actions)], dim=1) + self.positional_embedding
        for block in self.blocks:
            tokens = block(tokens)
        return self.final_layer(tokens)[:, 1:]
