"""OpenVLA: two vision towers, a fused projector, Llama-2, seven action tokens.

Source of the architecture: Kim et al., OpenVLA (arXiv 2406.09246) and its published configuration:
DINOv2 ViT-L/14 with registers and SigLIP ViT-so400m/14 at 224 pixels, both read at the
second-to-last block; a three-layer projector of the joined features; Llama-2 7B with a vocabulary
padded to 32,064; actions are the last 256 of its 32,000 tokens, bin centres of [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf
from transformers import LlamaConfig, LlamaForCausalLM

from vlacut.frontends.torch import TorchPhase, program_from_torch
from vlacut.program import Program
from vlacut_models.decoder import KeyValues, decode, rotary
from vlacut_models.presets import choose, on_shapes, with_numbers, with_presets
from vlacut_models.vit import VisionTower

BINS = 256


@dataclass(frozen=True)
class Tower:
    """Size of a vision tower."""

    width: int
    depth: int
    heads: int
    hidden: int


@dataclass(frozen=True)
class OpenVLAConfig:
    """Size of an OpenVLA-like policy.

    Attributes:
        image, patch: sides in pixels.
        dino, siglip: the towers.
        llm_width, llm_hidden, layers, heads: of the LLM.
        vocabulary, padded: tokens it has, and rows of its embedding.
        prompt: tokens of the instruction, the first one (BOS) before the image.
        actions: action tokens, one a degree of freedom.
    """

    image: int = 224
    patch: int = 14
    dino: Tower = Tower(1024, 24, 16, 4096)
    siglip: Tower = Tower(1152, 27, 16, 4304)
    llm_width: int = 4096
    llm_hidden: int = 11008
    layers: int = 32
    heads: int = 32
    vocabulary: int = 32000
    padded: int = 32064
    prompt: int = 24
    actions: int = 7

    @property
    def prefix(self) -> int:
        """Tokens that prefill sees: instruction and image."""
        return self.prompt + (self.image // self.patch) ** 2

    @property
    def positions(self) -> int:
        """Positions in the key-value buffer: the last action token is never fed back."""
        return self.prefix + self.actions - 1


PRESETS = {
    "full": OpenVLAConfig(),
    "tiny": OpenVLAConfig(
        image=56,
        dino=Tower(64, 3, 4, 128),
        siglip=Tower(48, 3, 4, 96),
        llm_width=128,
        llm_hidden=256,
        layers=4,
        heads=4,
        vocabulary=64 + BINS,
        padded=64 + BINS,
        prompt=8,
    ),
}


class VisionBackbone(nn.Module):
    """Both towers; parameters as `vision_backbone` of the checkpoint."""

    def __init__(self, config: OpenVLAConfig) -> None:
        super().__init__()
        sides = {"image": config.image, "patch": config.patch}
        self.featurizer = VisionTower(**sides, **vars(config.dino), registers=5)
        self.fused_featurizer = VisionTower(**sides, **vars(config.siglip), registers=0)

    def forward(self, pixels: Tensor) -> Tensor:
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


class OpenVLA(nn.Module):
    """The policy; a method a phase, parameters named as in the published checkpoint."""

    q01: Tensor
    q99: Tensor

    def __init__(self, config: OpenVLAConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_backbone = VisionBackbone(config)
        self.projector = Projector(config.dino.width + config.siglip.width, config.llm_width)
        self.language_model = LlamaForCausalLM(
            LlamaConfig(
                hidden_size=config.llm_width,
                intermediate_size=config.llm_hidden,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.heads,
                vocab_size=config.padded,
                max_position_embeddings=2048,
                rms_norm_eps=1e-6,
            )
        )
        # Of the data set's actions, to undo their normalisation; no parameters of the checkpoint.
        self.register_buffer("q01", torch.full((config.actions,), -1.0), persistent=False)
        self.register_buffer("q99", torch.full((config.actions,), 1.0), persistent=False)

    def vision(self, pixel_values: Tensor) -> Tensor:
        """Images of both towers [1, 6, S, S] to visual tokens [1, N, llm_width]."""
        return self.projector(self.vision_backbone(pixel_values))

    def prefill(self, input_ids: Tensor, visual_tokens: Tensor) -> tuple[Tensor, ...]:
        """Instruction [1, prompt] and image to the first token, and the key-value buffers."""
        config, model = self.config, self.language_model.model
        text = model.embed_tokens(input_ids)
        hidden = torch.cat([text[:, :1], visual_tokens, text[:, 1:]], dim=1)
        slots = torch.arange(config.prefix, device=hidden.device)
        turn = rotary(slots, self._head_width, 10000.0, hidden.dtype)
        mask = (slots[None, :] <= slots[:, None])[None, None]
        hidden, caches = decode(model.layers, hidden, turn, None, None, mask)
        token = self._next_token(hidden[:, -1:])
        tokens = nnf.pad(token, (0, config.actions - 1))
        position = torch.full((1,), config.prefix, dtype=torch.int64, device=token.device)
        room = (0, 0, 0, config.positions - config.prefix)
        padded = [(nnf.pad(key, room), nnf.pad(value, room)) for key, value in caches]
        return (token, tokens, position, *_flat(padded))

    def decode(
        self, token: Tensor, tokens: Tensor, position: Tensor, *buffers: Tensor
    ) -> tuple[Tensor, ...]:
        """The next token, after the one at `position`."""
        config, model = self.config, self.language_model.model
        hidden = model.embed_tokens(token)
        turn = rotary(position, self._head_width, 10000.0, hidden.dtype)
        slots = torch.arange(config.positions, device=hidden.device)
        write = (slots == position)[None, None, :, None]
        mask = (slots <= position)[None, None, None, :]
        past = list(zip(buffers[0::2], buffers[1::2], strict=True))
        hidden, caches = decode(model.layers, hidden, turn, past, write, mask)
        token = self._next_token(hidden)
        index = position + 1 - config.prefix
        here = (torch.arange(config.actions, device=token.device) == index)[None]
        return (token, torch.where(here, token, tokens), position + 1, *_flat(caches))

    def detokenize(self, tokens: Tensor) -> Tensor:
        """Action tokens [1, actions] to an action [1, actions] in the units of the data set."""
        edges = torch.linspace(-1.0, 1.0, BINS, device=tokens.device)
        centres = (edges[:-1] + edges[1:]) / 2
        bins = (self.config.vocabulary - tokens - 1).clamp(0, BINS - 2)
        return 0.5 * (centres[bins] + 1.0) * (self.q99 - self.q01) + self.q01

    @property
    def _head_width(self) -> int:
        return self.config.llm_width // self.config.heads

    def _next_token(self, hidden: Tensor) -> Tensor:
        logits = self.language_model.lm_head(self.language_model.model.norm(hidden))
        return logits.argmax(dim=-1)


def _flat(caches: KeyValues) -> list[Tensor]:
    return [tensor for pair in caches for tensor in pair]


def buffer_names(layers: int) -> list[str]:
    """Names of the key-value buffers: `key.0`, `value.0`, `key.1`, ..."""
    return [f"{kind}.{layer}" for layer in range(layers) for kind in ("key", "value")]


def phases(policy: OpenVLA, pixels: Tensor, ids: Tensor) -> list[TorchPhase]:
    """The policy's phases on an example observation: pixel values and instruction tokens."""
    config = policy.config
    like: dict[str, Any] = {"dtype": pixels.dtype, "device": pixels.device}
    number: dict[str, Any] = {"dtype": torch.int64, "device": pixels.device}
    visual = torch.zeros(1, (config.image // config.patch) ** 2, config.llm_width, **like)
    buffer = (1, config.heads, config.positions, config.llm_width // config.heads)
    state = {
        "token": torch.zeros(1, 1, **number),
        "tokens": torch.zeros(1, config.actions, **number),
        "position": torch.full((1,), config.prefix, **number),
        **{name: torch.zeros(buffer, **like) for name in buffer_names(config.layers)},
    }
    # The tokens leave the loop under a name of their own, which detokenize reads.
    fed = {("action_tokens" if name == "tokens" else f"next.{name}"): name for name in state}
    tokens = {"action_tokens": state["tokens"]}
    prompt = {"input_ids": ids, "visual_tokens": visual}
    return [
        TorchPhase("vision", policy, {"pixel_values": pixels}, ("visual_tokens",), "vision"),
        TorchPhase("prefill", policy, prompt, tuple(state), "prefill"),
        TorchPhase("decode", policy, state, tuple(fed), "decode", config.actions - 1, fed),
        TorchPhase("detokenize", policy, tokens, ("action",), "detokenize"),
    ]


@with_presets(*PRESETS)
def openvla(preset: str = "full") -> Program:
    """OpenVLA-7B: two vision towers, Llama-2 7B, 7 action tokens."""
    config = choose(PRESETS, "openvla", preset)
    image = (1, 6, config.image, config.image)
    if preset == "full":
        policy = on_shapes(lambda: OpenVLA(config))
        pixels = torch.empty(image, dtype=torch.bfloat16, device="meta")
        ids = torch.empty(1, config.prompt, dtype=torch.int64, device="meta")
    else:
        policy = with_numbers(lambda: OpenVLA(config))
        numbers = torch.Generator().manual_seed(1)
        pixels = torch.randn(image, generator=numbers)
        ids = torch.randint(1, config.vocabulary - BINS, (1, config.prompt), generator=numbers)
    made = phases(policy, pixels, ids)
    # ONNX knows convolutions of bfloat16 from opset 22 on.
    opset = 22 if pixels.dtype == torch.bfloat16 else 20
    return program_from_torch("openvla", made, ["pixel_values", "input_ids"], ["action"], opset)
