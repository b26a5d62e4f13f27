"""OpenVLA-OFT: all action tokens of a chunk in one pass, and a regression head.

Source: Kim et al., Fine-Tuning VLA Models (arXiv 2502.19645), as trained for LIBERO: two cameras
and the robot's state in front of the instruction; a chunk of 8 actions, whose 56 tokens are empty
embeddings; attention in both directions; a residual MLP trained with an L1 loss. Its checkpoints
hold VLM, action head and projector of the state in files of their own; parameters are named
`action_head.NAME` and `proprio_projector.NAME` after the latter two.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf
from transformers import LlamaForCausalLM

from vlacut.frontends.torch import TorchPhase
from vlacut_models.layers.decoder import decode
from vlacut_models.layers.prismatic import (
    TINY_SIZES,
    ActionRange,
    PrismaticConfig,
    Projector,
    VisionBackbone,
    behind_first,
)
from vlacut_models.presets import Examples, Policy, choose, with_presets

_STOP = 2  # Llama's end of a sequence


@dataclass(frozen=True)
class OpenVLAOFTConfig(PrismaticConfig):
    """Size of an OpenVLA-OFT-like policy.

    Attributes:
        cameras: images in the observation.
        state: width of the robot's state.
        actions, chunk: degrees of freedom, and actions in a chunk.
        blocks: residual blocks of the head.
    """

    cameras: int = 2
    state: int = 8
    actions: int = 7
    chunk: int = 8
    blocks: int = 2

    @property
    def start(self) -> int:
        """Where the hidden states of the actions start: at the instruction's last token."""
        return self.cameras * self.patches + self.prompt

    @property
    def sequence(self) -> int:
        """Tokens that the LLM sees: images, state, instruction, actions, stop."""
        return self.start + 1 + self.actions * self.chunk + 1


PRESETS = {"full": OpenVLAOFTConfig(), "tiny": OpenVLAOFTConfig(**TINY_SIZES)}


class StateProjector(nn.Module):
    """The robot's state as a token; parameters as `proprio_projector`."""

    def __init__(self, state: int, llm: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(state, llm)
        self.fc2 = nn.Linear(llm, llm)

    def forward(self, state: Tensor) -> Tensor:
        return self.fc2(nnf.gelu(self.fc1(state)))


class ResidualBlock(nn.Module):
    """Norm, linear layer and ReLU, added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        return features + self.ffn(features)


class ResidualMlp(nn.Module):
    """[1, N, inputs] to [1, N, outputs]."""

    def __init__(self, inputs: int, width: int, outputs: int, blocks: int) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(inputs)
        self.fc1 = nn.Linear(inputs, width)
        self.mlp_resnet_blocks = nn.ModuleList(ResidualBlock(width) for _ in range(blocks))
        self.layer_norm2 = nn.LayerNorm(width)
        self.fc2 = nn.Linear(width, outputs)

    def forward(self, features: Tensor) -> Tensor:
        features = nnf.relu(self.fc1(self.layer_norm1(features)))
        for block in self.mlp_resnet_blocks:
            features = block(features)
        return self.fc2(self.layer_norm2(features))


class ActionHead(nn.Module):
    """Hidden states of a chunk's tokens to its actions; parameters as `action_head`."""

    def __init__(self, config: OpenVLAOFTConfig) -> None:
        super().__init__()
        width, actions = config.llm_width, config.actions
        self.model = ResidualMlp(actions * width, width, actions, config.blocks)
        self.chunk = config.chunk

    def forward(self, hidden: Tensor) -> Tensor:
        return self.model(hidden.reshape(1, self.chunk, -1))


class OpenVLAOFT(nn.Module):
    """The policy: one method per phase, parameters named as in the published checkpoints."""

    def __init__(self, config: OpenVLAOFTConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_backbone = VisionBackbone(config)
        self.projector = Projector(config.visual, config.llm_width)
        self.language_model = LlamaForCausalLM(config.llama())
        self.proprio_projector = StateProjector(config.state, config.llm_width)
        self.action_head = ActionHead(config)
        self.action_range = ActionRange(config.actions)

    def vision(self, pixel_values: Tensor) -> Tensor:
        """Images [1, cameras * 6, S, S] to visual tokens [1, cameras * N, llm_width]."""
        side = self.config.image
        features = self.vision_backbone(pixel_values.reshape(-1, 6, side, side))
        return self.projector(features.reshape(1, -1, self.config.visual))

    def language(self, input_ids: Tensor, visual_tokens: Tensor, state: Tensor) -> Tensor:
        """Hidden states [1, actions * chunk, llm_width] of the tokens of a chunk.

        Args:
            input_ids: instruction [1, prompt], BOS first.
            visual_tokens: of all cameras.
            state: float32 [1, state], normalised.
        """
        config, model = self.config, self.language_model.model
        count = config.actions * config.chunk
        text = model.embed_tokens(nnf.pad(input_ids, (0, 1), value=_STOP))
        empty = text.new_zeros(1, count, config.llm_width)
        text = torch.cat([text[:, :-1], empty, text[:, -1:]], dim=1)
        robot = self.proprio_projector(state.to(text.dtype))[:, None]
        hidden = behind_first(text, torch.cat([visual_tokens, robot], dim=1))
        slots = torch.arange(config.sequence, device=hidden.device)
        turn = config.turn(slots, hidden.dtype)
        hidden, _ = decode(model.layers, hidden, turn, None, None, None)
        return model.norm(hidden[:, config.start : config.start + count])

    def head(self, hidden: Tensor) -> Tensor:
        """Hidden states to a chunk of actions [1, chunk, actions] in the units of the data set."""
        return self.action_range(self.action_head(hidden).to(torch.float32))


def phases(policy: OpenVLAOFT, examples: Examples) -> list[TorchPhase]:
    """The policy's phases on an example observation."""
    config = policy.config
    side, count = config.image, config.actions * config.chunk
    pixels = {"pixel_values": examples.normal(1, 6 * config.cameras, side, side)}
    prompt = {
        "input_ids": examples.tokens(config.prompt, config.vocabulary),
        "visual_tokens": examples.filled(0, 1, config.cameras * config.patches, config.llm_width),
        "state": examples.normal(1, config.state, dtype=torch.float32),
    }
    hidden = {"hidden": examples.filled(0, 1, count, config.llm_width)}
    return [
        TorchPhase("vision", policy, pixels, ("visual_tokens",), "vision"),
        TorchPhase("language", policy, prompt, ("hidden",), "language"),
        TorchPhase("head", policy, hidden, ("action",), "head"),
    ]


@with_presets(PRESETS)
def openvla_oft(preset: str) -> Policy:
    """OpenVLA-OFT: OpenVLA decoding 8 actions in parallel, with an L1-regression head."""
    config = choose(PRESETS, "openvla-oft", preset)
    examples = Examples(preset)
    made = phases(examples.module(lambda: OpenVLAOFT(config)), examples)
    return examples.policy("openvla-oft", made, ["pixel_values", "input_ids", "state"], ["action"])
