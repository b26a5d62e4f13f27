"""pi05's network: pi0's, whose expert hears of the time by its norms, and of the state by words.

Source: Physical Intelligence, pi0.5 (arXiv 2504.16054), and its published PyTorch checkpoints: each
norm of the expert scales, shifts and gates by a projection of the time's embedding. The times are
known when the policy is built, so the projections are rows of a table: of 430 M parameters that
the expert has, 114 M are read once, when it is made.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from vlacut_models.layers.decoder import attend, paired, rotary
from vlacut_models.layers.flow import FlowConfig
from vlacut_models.pi0 import ROTARY_BASE, Pi0

_EPSILON = 1e-6


class AdaptiveNorm(nn.Module):
    """RMS norm of tokens, by a scale, a shift and a gate that the step alone tells.

    Args:
        width: of the tokens, and of the time's embedding.
        steps: of the integration.
    """

    table: Tensor

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, 3 * width)
        self.register_buffer("table", torch.zeros(steps, 3 * width), persistent=False)

    def settle(self, moments: Tensor) -> None:
        """Make the table of the embeddings [steps, width], and forget the projection."""
        self.table = self.dense(moments)
        del self.dense

    def forward(self, tokens: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [1, N, width] at a step, int64 [1], normalised; and the gate [1, 1, width]."""
        scale, shift, gate = self.table[step][:, None].chunk(3, dim=-1)
        mean = tokens.square().mean(dim=-1, keepdim=True)
        return tokens * (mean + _EPSILON).rsqrt() * (1 + scale) + shift, gate


class Pi05(Pi0):
    """pi05's phases; `settle` once it has its weights."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__(config)
        del self.state_proj, self.action_time_mlp_in, self.action_time_mlp_out
        width = config.expert_width
        self.time_mlp_in, self.time_mlp_out = nn.Linear(width, width), nn.Linear(width, width)
        expert = self.paligemma_with_expert.gemma_expert.model
        for layer in expert.layers:
            layer.input_layernorm = AdaptiveNorm(width, config.steps)
            layer.post_attention_layernorm = AdaptiveNorm(width, config.steps)
        expert.norm = AdaptiveNorm(width, config.steps)

    @torch.no_grad()
    def settle(self) -> None:
        """Put what the times come to in the place of what they go through."""
        moments = nnf.silu(self.time_mlp_out(nnf.silu(self.time_mlp_in(self.times))))
        for one in self.modules():
            if isinstance(one, AdaptiveNorm):
                one.settle(moments)
        del self.time_mlp_in, self.time_mlp_out

    def advance(
        self, noise: Tensor, step: Tensor, input_mask: Tensor, *caches: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One Euler step on actions, float32 [1, chunk, n]; all of them see everything."""
        config, expert = self.config, self.paligemma_with_expert.gemma_expert.model
        hidden = self.action_in_proj(noise)
        seen = self._seen(input_mask)
        behind = seen.sum(dim=1) + torch.arange(config.chunk)
        turn = rotary(behind, config.head_width, ROTARY_BASE, hidden.dtype)
        mask = nnf.pad(seen, (0, config.chunk), value=True)[None, None]
        for layer, past in zip(expert.layers, paired(caches), strict=True):
            normed, gate = layer.input_layernorm(hidden, step)
            mixed, _ = attend(layer, normed, turn, past, None, mask)
            hidden = hidden + mixed * gate
            normed, gate = layer.post_attention_layernorm(hidden, step)
            hidden = hidden + layer.mlp(normed) * gate
        normed, _ = expert.norm(hidden, step)
        return self.integrate(noise, normed), step + 1
