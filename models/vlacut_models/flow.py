"""Flow matching as pi0 and SmolVLA use it: Euler steps from noise at time 1 to actions at 0.

Source: Black et al., pi0 (arXiv 2410.24164). Times are known when the model is built, so that their
embeddings are a table: cheaper than sines of large angles at run time, and the same on every side.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

_SHORTEST_PERIOD = 4e-3
_LONGEST_PERIOD = 4.0


def time_table(steps: int, width: int) -> Tensor:
    """Embeddings [steps, width] in float32 of the times 1, 1 - 1/steps, ..., 1/steps."""
    share = torch.linspace(0.0, 1.0, width // 2, dtype=torch.float64, device="cpu")
    periods = _SHORTEST_PERIOD * (_LONGEST_PERIOD / _SHORTEST_PERIOD) ** share
    times = 1.0 - torch.arange(steps, dtype=torch.float64, device="cpu") / steps
    angles = times[:, None] * (2 * math.pi / periods)[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=-1).to(torch.float32)


class FlowMatching(nn.Module):
    """The projections around an action expert; a policy is a subclass and has them at its top.

    Args:
        width: of the expert.
        actions: of an action, padded.
        steps: of the integration.
    """

    times: Tensor

    def __init__(self, width: int, actions: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.action_in_proj = nn.Linear(actions, width)
        self.action_out_proj = nn.Linear(width, actions)
        self.action_time_mlp_in = nn.Linear(2 * width, width)
        self.action_time_mlp_out = nn.Linear(width, width)
        self.register_buffer("times", time_table(steps, width), persistent=False)

    def embed_actions(self, noise: Tensor, step: Tensor) -> Tensor:
        """Noisy actions [1, chunk, actions] at a step, int64 [1], to tokens [1, chunk, width]."""
        dtype = self.action_in_proj.weight.dtype
        actions = self.action_in_proj(noise.to(dtype))
        time = self.times[step].to(dtype)[:, None].expand_as(actions)
        joined = torch.cat([actions, time], dim=-1)
        return self.action_time_mlp_out(nnf.silu(self.action_time_mlp_in(joined)))

    def integrate(self, noise: Tensor, tokens: Tensor) -> Tensor:
        """Actions after an Euler step along the velocity that the expert's tokens say."""
        velocity = self.action_out_proj(tokens).to(noise.dtype)
        return noise - velocity / self.steps


def places(mask: Tensor) -> Tensor:
    """Positions [N] of tokens, counting those that a mask, bool [1, N], does not hide."""
    return mask[0].to(torch.int64).cumsum(dim=0) - 1


def named(**children: nn.Module) -> Any:
    """A module that only has children: a level of a checkpoint's names that computes nothing."""
    module = nn.Module()
    for name, child in children.items():
        module.add_module(name, child)
    return module
