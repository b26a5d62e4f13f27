"""A plain policy: a vision transformer, the robot's state, and an MLP that says a chunk of actions.

Source of the architecture: behaviour cloning on a pretrained ViT-B/16 (Dosovitskiy et al., arXiv
2010.11929), read at its class token. The encoder's parameters are named as in the checkpoints of
transformers' ViT.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import ViTConfig, ViTModel

from vlacut.frontends.torch import TorchPhase
from vlacut_models.layers.prismatic import Tower
from vlacut_models.presets import Examples, Policy, choose, with_presets

VIT_B = Tower(768, 12, 12, 3072)


@dataclass(frozen=True)
class VitMlpConfig:
    """Size of the policy.

    Attributes:
        image, patch: sides in pixels.
        vit: the encoder.
        state: width of the robot's state.
        hidden: of the MLP.
        actions, chunk: degrees of freedom, and actions in a chunk.
    """

    image: int = 224
    patch: int = 16
    vit: Tower = VIT_B
    state: int = 8
    hidden: int = 512
    actions: int = 7
    chunk: int = 8

    def transformer(self) -> ViTConfig:
        """The encoder, for transformers."""
        config = ViTConfig(
            hidden_size=self.vit.width,
            num_hidden_layers=self.vit.depth,
            num_attention_heads=self.vit.heads,
            intermediate_size=self.vit.hidden,
            image_size=self.image,
            patch_size=self.patch,
        )
        config._attn_implementation = "sdpa"
        return config


PRESETS = {
    "full": VitMlpConfig(),
    "tiny": VitMlpConfig(image=32, patch=8, vit=Tower(32, 3, 4, 64), hidden=32, chunk=4),
}


class VitMlp(nn.Module):
    """The policy, of one phase."""

    def __init__(self, config: VitMlpConfig) -> None:
        super().__init__()
        self.config = config
        self.vit = ViTModel(config.transformer(), add_pooling_layer=False)
        self.mlp = nn.Sequential(
            nn.Linear(config.vit.width + config.state, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.actions * config.chunk),
        )

    def forward(self, pixel_values: Tensor, state: Tensor) -> Tensor:
        """Image [1, 3, S, S] and state, float32 [1, state], to actions [1, chunk, actions]."""
        seen = self.vit(pixel_values).last_hidden_state[:, 0]
        actions = self.mlp(torch.cat([seen, state.to(seen.dtype)], dim=-1))
        return actions.to(torch.float32).reshape(1, self.config.chunk, self.config.actions)


def phases(policy: VitMlp, examples: Examples) -> list[TorchPhase]:
    """The policy's one phase on an example observation."""
    config = policy.config
    observation = {
        "pixel_values": examples.normal(1, 3, config.image, config.image),
        "state": examples.normal(1, config.state, dtype=torch.float32),
    }
    return [TorchPhase("policy", policy, observation, ("action",))]


@with_presets(PRESETS)
def vit_mlp(preset: str) -> Policy:
    """ViT-B/16 and an MLP: a plain policy of 86 M parameters."""
    config = choose(PRESETS, "vit-mlp", preset)
    examples = Examples(preset)
    made = phases(examples.module(lambda: VitMlp(config)), examples)
    return examples.policy("vit-mlp", made, ["pixel_values", "state"], ["action"])
