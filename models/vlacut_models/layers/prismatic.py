"""The vision-language model of OpenVLA, CogACT and OpenVLA-OFT: two towers, projector, Llama-2.

Source of the architecture: Karamcheti et al., Prismatic VLMs (arXiv 2402.07865), and OpenVLA's
published configuration: DINOv2 ViT-L/14 with registers and SigLIP ViT-so400m/14 at 224 pixels, both
read at the second-to-last block; a three-layer projector of the joined features; Llama-2 7B with a
vocabulary padded to 32,064.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf
from transformers import LlamaConfig

from vlacut_models.layers.decoder import rotary
from vlacut_models.layers.vit import VisionTower

ROTARY_BASE = 10000.0


@dataclass(frozen=True)
class Tower:
    """Size of a vision tower."""

    width: int
    depth: int
    heads: int
    hidden: int


DINOV2_L = Tower(1024, 24, 16, 4096)
SIGLIP_SO400M = Tower(1152, 27, 16, 4304)


@dataclass(frozen=True)
class PrismaticConfig:
    """Size of the vision-language model.

    Attributes:
        image, patch: sides in pixels.
        dino, siglip: the towers.
        llm_width, llm_hidden, layers, heads: of the LLM.
        vocabulary, padded: tokens it has, and rows of its embedding.
        prompt: tokens of the instruction, the first one (BOS) before the image.
    """

    image: int = 224
    patch: int = 14
    dino: Tower = DINOV2_L
    siglip: Tower = SIGLIP_SO400M
    llm_width: int = 4096
    llm_hidden: int = 11008
    layers: int = 32
    heads: int = 32
    vocabulary: int = 32000
    padded: int = 32064
    prompt: int = 24

    @property
    def patches(self) -> int:
        """Visual tokens of an image."""
        return (self.image // self.patch) ** 2

    @property
    def visual(self) -> int:
        """Width of the joined features of both towers."""
        return self.dino.width + self.siglip.width

    @property
    def head_width(self) -> int:
        """Of the LLM."""
        return self.llm_width // self.heads

    def llama(self) -> LlamaConfig:
        """The LLM, for transformers."""
        return LlamaConfig(
            hidden_size=self.llm_width,
            intermediate_size=self.llm_hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            vocab_size=self.padded,
            max_position_embeddings=2048,
            rms_norm_eps=1e-6,
        )

    def towers(self, layer_scale: str) -> tuple[VisionTower, VisionTower]:
        """DINOv2's and SigLIP's; `layer_scale` is what the checkpoint calls a LayerScale's weight.

        They differ in more than size: only DINOv2 has registers and LayerScale.
        """
        sides = {"image": self.image, "patch": self.patch}
        return (
            VisionTower(**sides, **vars(self.dino), registers=5, layer_scale=layer_scale),
            VisionTower(**sides, **vars(self.siglip), registers=0, layer_scale=""),
        )

    def turn(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Rotary embedding of the LLM at some positions."""
        return rotary(positions, self.head_width, ROTARY_BASE, dtype)


# Every width as in full, two layers of each; 256 tokens of its vocabulary are left for actions.
WIDE_SIZES: dict[str, Any] = {
    "dino": replace(DINOV2_L, depth=3),
    "siglip": replace(SIGLIP_SO400M, depth=3),
    "layers": 2,
    "vocabulary": 1000,
    "padded": 1064,
}
# Every component at toy size; 256 tokens of its vocabulary are left for actions.
TINY_SIZES: dict[str, Any] = {
    "image": 56,
    "dino": Tower(64, 3, 4, 128),
    "siglip": Tower(48, 3, 4, 96),
    "llm_width": 128,
    "llm_hidden": 256,
    "layers": 4,
    "heads": 4,
    "vocabulary": 320,
    "padded": 320,
    "prompt": 8,
}


class VisionBackbone(nn.Module):
    """Both towers; parameters as `vision_backbone` of OpenVLA's checkpoint."""

    def __init__(self, config: PrismaticConfig) -> None:
        super().__init__()
        self.featurizer, self.fused_featurizer = config.towers("scale_factor")

    def forward(self, pixels: Tensor) -> Tensor:
        """Images [B, 6, S, S], DINOv2's normalisation before SigLIP's, to [B, N, visual]."""
        first, second = pixels[:, :3], pixels[:, 3:]
        return torch.cat([self.featurizer(first), self.fused_featurizer(second)], dim=2)


class Projector(nn.Module):
    """Joined visual features to the width of the LLM."""

    def __init__(self, visual: int, llm: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(visual, 4 * visual)
        self.fc2 = nn.Linear(4 * visual, llm)
        self.fc3 = nn.Linear(llm, llm)

    def forward(self, features: Tensor) -> Tensor:
        return self.fc3(nnf.gelu(self.fc2(nnf.gelu(self.fc1(features)))))


def behind_first(text: Tensor, visual: Tensor) -> Tensor:
    """Embedded instruction [1, T, W] with visual tokens [1, N, W] behind its first token (BOS)."""
    return torch.cat([text[:, :1], visual, text[:, 1:]], dim=1)


class ActionRange(nn.Module):
    """Undoes the normalisation of actions with the 1st and 99th percentile of the data set.

    Both are buffers that no checkpoint's weights hold; -1 and 1 leave the action as it is.
    """

    q01: Tensor
    q99: Tensor

    def __init__(self, actions: int) -> None:
        super().__init__()
        for name, value in (("q01", -1.0), ("q99", 1.0)):
            self.register_buffer(name, torch.full((actions,), value, device="cpu"), False)

    def forward(self, normalised: Tensor) -> Tensor:
        return 0.5 * (normalised + 1.0) * (self.q99 - self.q01) + self.q01
