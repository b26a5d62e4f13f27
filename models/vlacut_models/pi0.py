"""pi0: PaliGemma reads images and instruction; a smaller Gemma denoises actions over its keys.

Source: Black et al., pi0 (arXiv 2410.24164), and its published PyTorch checkpoint: SigLIP so400m/14
at 224 pixels and Gemma 2B; an action expert of the same depth and heads, width 1024, whose layers
attend to keys and values of Gemma's layers; 50 actions of 32 numbers in 10 steps.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import GemmaConfig
from transformers.models.gemma.modeling_gemma import GemmaDecoderLayer, GemmaRMSNorm

from vlacut_models.layers.decoder import all_keys, decode, flat, paired, rotary
from vlacut_models.layers.flow import OBSERVATION, FlowConfig, FlowMatching, named, phases, places
from vlacut_models.layers.prismatic import SIGLIP_SO400M, Tower
from vlacut_models.layers.siglip import SiglipTower
from vlacut_models.presets import Examples, Policy, choose, with_presets

ROTARY_BASE = 10000.0


FULL = FlowConfig(
    image=224,
    patch=14,
    cameras=3,
    siglip=SIGLIP_SO400M,
    width=2048,
    hidden=16384,
    expert_width=1024,
    expert_hidden=4096,
    layers=18,
    heads=8,
    groups=1,
    head_width=256,
    vocabulary=257152,
    prompt=48,
    state=32,
)
PRESETS = {
    "full": FULL,
    "tiny": replace(
        FULL,
        image=56,
        cameras=2,
        siglip=Tower(48, 2, 4, 96),
        width=64,
        hidden=128,
        expert_width=32,
        expert_hidden=64,
        layers=3,
        heads=4,
        head_width=16,
        vocabulary=300,
        prompt=8,
        state=8,
        chunk=10,
    ),
}


def gemma(config: FlowConfig, width: int, hidden: int) -> GemmaConfig:
    """Gemma or the expert, for transformers."""
    return GemmaConfig(**config.language(width, hidden), hidden_act="gelu_pytorch_tanh")


class Gemma(nn.Module):
    """Layers and last norm of a Gemma, without embedding."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            GemmaDecoderLayer(config, index) for index in range(config.num_hidden_layers)
        )
        self.norm = GemmaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)


class PaliGemma(nn.Module):
    """Vision tower, projector and LLM; the embedding is the head, as the checkpoint has it."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        tower = SiglipTower(config.siglip, config.image, config.patch)
        self.model = named(
            vision_tower=named(vision_model=tower),
            multi_modal_projector=named(linear=nn.Linear(config.siglip.width, config.width)),
            language_model=Gemma(gemma(config, config.width, config.hidden)),
        )
        self.lm_head = nn.Linear(config.width, config.vocabulary, bias=False)


class Pi0(FlowMatching):
    """The policy: one method per phase, parameters named as in the published checkpoint."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__(config.expert_width, config.state, config.steps)
        self.config = config
        expert = Gemma(gemma(config, config.expert_width, config.expert_hidden))
        # In the checkpoint, but the expert says no words.
        unread = nn.Linear(config.expert_width, config.vocabulary, bias=False)
        self.paligemma_with_expert = named(
            paligemma=PaliGemma(config),
            gemma_expert=named(model=expert, lm_head=unread),
        )
        self.state_proj = nn.Linear(config.state, config.expert_width)

    def vision(self, pixel_values: Tensor) -> Tensor:
        """Images [cameras, 3, S, S] to visual tokens [1, visual, width]."""
        model = self.paligemma_with_expert.paligemma.model
        features = model.vision_tower.vision_model(pixel_values)
        return model.multi_modal_projector.linear(features).reshape(1, -1, self.config.width)

    def prefix(self, visual_tokens: Tensor, input_ids: Tensor, input_mask: Tensor) -> list[Tensor]:
        """Keys and values of every layer, of images and instruction; and the first step's index.

        Args:
            visual_tokens: of all cameras.
            input_ids: instruction [1, prompt], padded.
            input_mask: bool [1, prompt], false for padding.
        """
        paligemma = self.paligemma_with_expert.paligemma
        text = nn.functional.embedding(input_ids, paligemma.lm_head.weight)
        hidden = torch.cat([visual_tokens, text * self.config.width**0.5], dim=1)
        seen = self._seen(input_mask)
        turn = rotary(places(seen), self.config.head_width, ROTARY_BASE, hidden.dtype)
        layers = paligemma.model.language_model.layers
        caches = all_keys(layers, hidden, turn, seen[None, None])
        return [*flat(caches), torch.zeros(1, dtype=torch.int64, device=hidden.device)]

    def denoise(
        self, noise: Tensor, step: Tensor, state: Tensor, input_mask: Tensor, *caches: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One Euler step on actions, float32 [1, chunk, state]; `state` is float32 [1, state]."""
        config, expert = self.config, self.paligemma_with_expert.gemma_expert.model
        robot = self.state_proj(state.to(self.state_proj.weight.dtype))[:, None]
        hidden = torch.cat([robot, self.embed_actions(noise, step)], dim=1)
        seen = self._seen(input_mask)
        slots = torch.arange(config.chunk + 1, device=noise.device)
        behind = seen.sum(dim=1) + slots
        turn = rotary(behind, config.head_width, ROTARY_BASE, hidden.dtype)
        # The state does not see the actions; actions see everything.
        among = (slots[None, :] == 0) | (slots[:, None] > 0)
        mask = torch.cat([seen.expand(config.chunk + 1, -1), among], dim=1)[None, None]
        hidden, _ = decode(expert.layers, hidden, turn, paired(caches), None, mask)
        return self.integrate(noise, expert.norm(hidden[:, 1:])), step + 1

    def _seen(self, input_mask: Tensor) -> Tensor:
        """Bool [1, visual + prompt]: every visual token, and the instruction without padding."""
        return nn.functional.pad(input_mask, (self.config.visual, 0), value=True)


@with_presets(PRESETS)
def pi0(preset: str) -> Policy:
    """pi0: PaliGemma and an action expert, 50 actions by flow matching in 10 steps."""
    config = choose(PRESETS, "pi0", preset)
    examples = Examples(preset)
    made = phases(examples.module(lambda: Pi0(config)), examples)
    return examples.policy("pi0", made, OBSERVATION, ["action"])
