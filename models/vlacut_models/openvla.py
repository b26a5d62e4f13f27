"""OpenVLA: a Prismatic vision-language model that says seven action tokens.

Source: Kim et al., OpenVLA (arXiv 2406.09246). Actions are the last 256 of the LLM's 32,000 tokens,
bin centres of [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf
from transformers import LlamaForCausalLM

from vlacut.frontends.torch import TorchPhase
from vlacut_models.layers.decoder import cache_names, decode, flat, paired
from vlacut_models.layers.prismatic import (
    TINY_SIZES,
    WIDE_SIZES,
    ActionRange,
    PrismaticConfig,
    Projector,
    VisionBackbone,
    behind_first,
)
from vlacut_models.presets import Examples, Policy, choose, with_presets

BINS = 256


@dataclass(frozen=True)
class OpenVLAConfig(PrismaticConfig):
    """Size of an OpenVLA-like policy.

    Attributes:
        actions: action tokens, one per degree of freedom.
    """

    actions: int = 7

    @property
    def prefix(self) -> int:
        """Tokens that prefill sees: instruction and image."""
        return self.prompt + self.patches

    @property
    def positions(self) -> int:
        """Positions in the key-value buffer: the last action token is never fed back."""
        return self.prefix + self.actions - 1


PRESETS = {
    "full": OpenVLAConfig(),
    "wide": OpenVLAConfig(**WIDE_SIZES),
    "tiny": OpenVLAConfig(**TINY_SIZES),
}


class OpenVLA(nn.Module):
    """The policy: one method per phase, parameters named as in the published checkpoint."""

    def __init__(self, config: OpenVLAConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_backbone = VisionBackbone(config)
        self.projector = Projector(config.visual, config.llm_width)
        self.language_model = LlamaForCausalLM(config.llama())
        self.action_range = ActionRange(config.actions)

    def vision(self, pixel_values: Tensor) -> Tensor:
        """Images of both towers [1, 6, S, S] to visual tokens [1, N, llm_width]."""
        return self.projector(self.vision_backbone(pixel_values))

    def prefill(self, input_ids: Tensor, visual_tokens: Tensor) -> tuple[Tensor, ...]:
        """Instruction [1, prompt] and image to the first token, and the key-value buffers."""
        config, model = self.config, self.language_model.model
        hidden = behind_first(model.embed_tokens(input_ids), visual_tokens)
        slots = torch.arange(config.prefix, device=hidden.device)
        turn = config.turn(slots, hidden.dtype)
        mask = (slots[None, :] <= slots[:, None])[None, None]
        hidden, caches = decode(model.layers, hidden, turn, None, None, mask)
        token = self._next_token(hidden[:, -1:])
        tokens = nnf.pad(token, (0, config.actions - 1))
        position = torch.full((1,), config.prefix, dtype=torch.int64, device=token.device)
        room = (0, 0, 0, config.positions - config.prefix)
        padded = [(nnf.pad(key, room), nnf.pad(value, room)) for key, value in caches]
        return (token, tokens, position, *flat(padded))

    def decode(
        self, token: Tensor, tokens: Tensor, position: Tensor, *buffers: Tensor
    ) -> tuple[Tensor, ...]:
        """The next token, after the one at `position`."""
        config, model = self.config, self.language_model.model
        hidden = model.embed_tokens(token)
        turn = config.turn(position, hidden.dtype)
        slots = torch.arange(config.positions, device=hidden.device)
        write = (slots == position)[None, None, :, None]
        mask = (slots <= position)[None, None, None, :]
        hidden, caches = decode(model.layers, hidden, turn, paired(buffers), write, mask)
        token = self._next_token(hidden)
        index = position + 1 - config.prefix
        here = (torch.arange(config.actions, device=token.device) == index)[None]
        return (token, torch.where(here, token, tokens), position + 1, *flat(caches))

    def detokenize(self, tokens: Tensor) -> Tensor:
        """Action tokens [1, actions] to an action [1, actions] in the units of the data set."""
        edges = torch.linspace(-1.0, 1.0, BINS, device=tokens.device)
        centres = (edges[:-1] + edges[1:]) / 2
        bins = (self.config.vocabulary - tokens - 1).clamp(0, BINS - 2)
        return self.action_range(centres[bins])

    def _next_token(self, hidden: Tensor) -> Tensor:
        logits = self.language_model.lm_head(self.language_model.model.norm(hidden))
        return logits.argmax(dim=-1)


def phases(policy: OpenVLA, examples: Examples) -> list[TorchPhase]:
    """The policy's phases on an example observation."""
    config = policy.config
    buffer = (1, config.heads, config.positions, config.head_width)
    whole = torch.int64
    state = {
        "token": examples.filled(0, 1, 1, dtype=whole),
        "tokens": examples.filled(0, 1, config.actions, dtype=whole),
        "position": examples.filled(config.prefix, 1, dtype=whole),
        **{name: examples.filled(0, *buffer) for name in cache_names(config.layers)},
    }
    # The tokens leave the loop under a name of their own, which detokenize reads.
    fed = {("action_tokens" if name == "tokens" else f"next.{name}"): name for name in state}
    pixels = {"pixel_values": examples.normal(1, 6, config.image, config.image)}
    prompt = {
        "input_ids": examples.tokens(config.prompt, config.vocabulary - BINS),
        "visual_tokens": examples.filled(0, 1, config.patches, config.llm_width),
    }
    tokens = {"action_tokens": state["tokens"]}
    return [
        TorchPhase("vision", policy, pixels, ("visual_tokens",), "vision"),
        TorchPhase("prefill", policy, prompt, tuple(state), "prefill"),
        TorchPhase("decode", policy, state, tuple(fed), "decode", config.actions - 1, fed),
        TorchPhase("detokenize", policy, tokens, ("action",), "detokenize"),
    ]


@with_presets(PRESETS)
def openvla(preset: str) -> Policy:
    """OpenVLA-7B: two vision towers, Llama-2 7B, 7 action tokens."""
    config = choose(PRESETS, "openvla", preset)
    examples = Examples(preset)
    policy = examples.module(lambda: OpenVLA(config))
    made = phases(policy, examples)
    return examples.policy("openvla", made, ["pixel_values", "input_ids"], ["action"])
