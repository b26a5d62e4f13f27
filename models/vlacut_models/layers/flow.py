"""Flow matching as pi0 and SmolVLA use it: Euler steps from noise at time 1 to actions at 0.

Source: Black et al., pi0 (arXiv 2410.24164). Times are known when the model is built, so that their
embeddings are a table: cheaper than sines of large angles at run time, and the same on every side.

Such a policy has three phases: images become tokens; an LLM leaves keys and values of every layer;
in a loop, an action expert of as many layers attends to those.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from vlacut.frontends.torch import TorchPhase
from vlacut_models.layers.decoder import cache_names
from vlacut_models.layers.prismatic import Tower
from vlacut_models.presets import Examples

_SHORTEST_PERIOD = 4e-3
_LONGEST_PERIOD = 4.0


@dataclass(frozen=True)
class FlowConfig:
    """Size of such a policy.

    Attributes:
        image, patch: sides in pixels.
        cameras: images in the observation.
        siglip: the vision tower.
        width, hidden: of the LLM.
        expert_width, expert_hidden: of the action expert.
        layers, heads, groups, head_width: of both; `groups` heads have keys and values.
        vocabulary, prompt: tokens, and how many the instruction is padded to.
        state: of the robot's state and of an action, padded.
        shuffle: side of the square of patches that becomes one token.
        reads_state: whether the LLM reads the state; else the expert does.
        chunk, steps: actions in a chunk, and steps from noise to them.
    """

    image: int
    patch: int
    cameras: int
    siglip: Tower
    width: int
    hidden: int
    expert_width: int
    expert_hidden: int
    layers: int
    heads: int
    groups: int
    head_width: int
    vocabulary: int
    prompt: int
    state: int
    shuffle: int = 1
    reads_state: bool = False
    chunk: int = 50
    steps: int = 10

    @property
    def visual(self) -> int:
        """Visual tokens of all cameras."""
        return self.cameras * (self.image // self.patch // self.shuffle) ** 2

    @property
    def prefix(self) -> int:
        """Tokens of the LLM: images, instruction and, where it reads it, the state."""
        return self.visual + self.prompt + self.reads_state

    def language(self, width: int, hidden: int) -> dict[str, Any]:
        """LLM or expert, as arguments of a configuration of transformers."""
        return {
            "hidden_size": width,
            "intermediate_size": hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.groups,
            "head_dim": self.head_width,
            "vocab_size": self.vocabulary,
        }


def phases(policy: nn.Module, examples: Examples) -> list[TorchPhase]:
    """The three phases, methods of the policy, on an example observation; it has a `config`."""
    config = policy.config
    assert isinstance(config, FlowConfig)
    keys = (1, config.groups, config.prefix, config.head_width)
    caches = {name: examples.filled(0, *keys) for name in cache_names(config.layers)}
    pixels = {"pixel_values": examples.normal(config.cameras, 3, config.image, config.image)}
    mask = examples.filled(True, 1, config.prompt, dtype=torch.bool)
    noise = examples.normal(1, config.chunk, config.state, dtype=torch.float32)
    state = {"state": examples.normal(1, config.state, dtype=torch.float32)}
    prompt = {
        "visual_tokens": examples.filled(0, 1, config.visual, config.width),
        "input_ids": examples.tokens(config.prompt, config.vocabulary),
        "input_mask": mask,
        **(state if config.reads_state else {}),
    }
    noisy = {
        "noise": noise,
        "step": examples.filled(0, 1, dtype=torch.int64),
        **({} if config.reads_state else state),
        "input_mask": mask,
        **caches,
    }
    fed = {"action": "noise", "next.step": "step"}
    return [
        TorchPhase("vision", policy, pixels, ("visual_tokens",), "vision"),
        TorchPhase("prefix", policy, prompt, (*caches, "step"), "prefix"),
        TorchPhase("denoise", policy, noisy, tuple(fed), "denoise", config.steps, fed),
    ]


OBSERVATION = ("pixel_values", "input_ids", "input_mask", "state", "noise")


def time_table(steps: int, width: int) -> Tensor:
    """Embeddings [steps, width] in float32 of the times 1, 1 - 1/steps, ..., 1/steps."""
    share = torch.linspace(0.0, 1.0, width // 2, dtype=torch.float64, device="cpu")
    periods = _SHORTEST_PERIOD * (_LONGEST_PERIOD / _SHORTEST_PERIOD) ** share
    times = 1.0 - torch.arange(steps, dtype=torch.float64, device="cpu") / steps
    angles = times[:, None] * (2 * math.pi / periods)[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=-1).to(torch.float32)


def falling_times(steps: int) -> Tensor:
    """The times 1 + k * (-1 / steps), rounded to float32 as LeRobot's loop has them."""
    length = -1.0 / steps
    return torch.tensor([1.0 + step * length for step in range(steps)], dtype=torch.float32)


def summed_times(steps: int) -> Tensor:
    """The times that float32 comes to that adds -1 / steps each step, as openpi's loop does."""
    length, found = torch.tensor(-1.0 / steps), [torch.tensor(1.0)]
    while len(found) < steps:
        found.append(found[-1] + length)
    return torch.stack(found)


def time_embeddings(times: Tensor, width: int) -> Tensor:
    """Embeddings [steps, width] of float32 times [steps], computed as openpi and LeRobot do: an
    angle has up to 250 turns, so that the rounding of the times counts.
    """
    share = torch.linspace(0.0, 1.0, width // 2, dtype=torch.float64)
    periods = _SHORTEST_PERIOD * (_LONGEST_PERIOD / _SHORTEST_PERIOD) ** share
    angles = (1.0 / periods * 2 * torch.pi)[None, :] * times[:, None]
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(torch.float32)


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
