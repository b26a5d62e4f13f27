"""SmolVLA: the lower half of SmolVLM2, and an action expert that attends to itself and to it.

Source: Shukor et al., SmolVLA (arXiv 2506.01844), and its published checkpoint: 16 layers of
SmolVLM2-500M, whose SigLIP reads 512-pixel images into 64 tokens each; an expert of 3/4 the width;
its even layers attend to the VLM's keys and to earlier actions, its odd ones to projections of the
VLM's keys alone; 50 actions of 32 numbers in 10 steps.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from vlacut_models.layers.decoder import all_keys, attend, feed, flat, paired, rotary
from vlacut_models.layers.flow import OBSERVATION, FlowConfig, FlowMatching, named, phases, places
from vlacut_models.layers.prismatic import Tower
from vlacut_models.layers.siglip import SiglipTower
from vlacut_models.layers.smolvla_parts import Connector, Expert, TextModel, cross_attend, llama
from vlacut_models.presets import Examples, Policy, choose, with_presets

_ROTARY_BASE = 10000.0


FULL = FlowConfig(
    image=512,
    patch=16,
    cameras=3,
    siglip=Tower(768, 12, 12, 3072),
    shuffle=4,
    width=960,
    hidden=2560,
    expert_width=720,
    expert_hidden=2048,
    layers=16,
    heads=15,
    groups=5,
    head_width=64,
    vocabulary=49280,
    prompt=48,
    state=32,
    reads_state=True,
)
PRESETS = {
    "full": FULL,
    "wide": replace(FULL, siglip=Tower(768, 2, 12, 3072), layers=2, vocabulary=1000),
    "tiny": replace(
        FULL,
        image=64,
        patch=8,
        cameras=2,
        siglip=Tower(48, 2, 4, 96),
        shuffle=2,
        width=96,
        hidden=128,
        expert_width=72,
        expert_hidden=96,
        layers=4,
        heads=6,
        groups=2,
        head_width=16,
        vocabulary=300,
        prompt=8,
        state=8,
        chunk=10,
    ),
}


class SmolVLAModel(FlowMatching):
    """What the checkpoint holds under `model`; a method a phase."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__(config.expert_width, config.state, config.steps)
        self.config = config
        vlm = named(
            vision_model=SiglipTower(config.siglip, config.image, config.patch),
            connector=Connector(config),
            text_model=TextModel(llama(config, config.width, config.hidden)),
        )
        expert = Expert(llama(config, config.expert_width, config.expert_hidden))
        # In the checkpoint, but the policy says no words.
        unread = nn.Linear(config.width, config.vocabulary, bias=False)
        self.vlm_with_expert = named(vlm=named(model=vlm, lm_head=unread), lm_expert=expert)
        self.state_proj = nn.Linear(config.state, config.width)

    def vision(self, pixel_values: Tensor) -> Tensor:
        """Images [cameras, 3, S, S] to visual tokens [1, visual, width]."""
        vlm = self.vlm_with_expert.vlm.model
        return vlm.connector(vlm.vision_model(pixel_values)).reshape(1, -1, self.config.width)

    def prefix(
        self, visual_tokens: Tensor, input_ids: Tensor, input_mask: Tensor, state: Tensor
    ) -> list[Tensor]:
        """Keys and values of every layer; and the first step's index.

        Args:
            visual_tokens: of all cameras.
            input_ids: instruction [1, prompt], padded.
            input_mask: bool [1, prompt], false for padding.
            state: float32 [1, state]; images and instruction do not see it.
        """
        config, text_model = self.config, self.vlm_with_expert.vlm.model.text_model
        text = text_model.embed_tokens(input_ids)
        robot = self.state_proj(state.to(text.dtype))[:, None]
        scale = config.width**0.5
        hidden = torch.cat([visual_tokens * scale, text * scale, robot], dim=1)
        seen = self._seen(input_mask)
        turn = rotary(places(seen), config.head_width, _ROTARY_BASE, hidden.dtype)
        slots = torch.arange(config.prefix, device=hidden.device)
        last = config.prefix - 1
        mask = ((slots[None, :] < last) | (slots[:, None] == last)) & seen
        caches = all_keys(text_model.layers, hidden, turn, mask[None, None])
        return [*flat(caches), torch.zeros(1, dtype=torch.int64, device=hidden.device)]

    def denoise(
        self, noise: Tensor, step: Tensor, input_mask: Tensor, *caches: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One Euler step on actions, float32 [1, chunk, state]."""
        config, expert = self.config, self.vlm_with_expert.lm_expert
        hidden = self.embed_actions(noise, step)
        seen = self._seen(input_mask)
        slots = torch.arange(config.chunk, device=noise.device)
        turns = [
            rotary(start + slots, config.head_width, _ROTARY_BASE, hidden.dtype)
            for start in (seen.sum(dim=1), 0)
        ]
        causal = slots[None, :] <= slots[:, None]
        among = torch.cat([seen.expand(config.chunk, -1), causal], dim=1)[None, None]
        for index, (layer, past) in enumerate(zip(expert.layers, paired(caches), strict=True)):
            normed = layer.input_layernorm(hidden)
            if index % 2 == 0:
                mixed, _ = attend(layer, normed, turns[0], past, None, among)
            else:
                mixed = cross_attend(layer, normed, turns[1], past, seen[None, None])
            hidden = feed(layer, hidden, mixed)
        return self.integrate(noise, expert.norm(hidden)), step + 1

    def _seen(self, input_mask: Tensor) -> Tensor:
        """Bool [1, prefix]: every visual token, the instruction without padding, the state."""
        return nn.functional.pad(input_mask, (self.config.visual, 1), value=True)


class SmolVLA(nn.Module):
    """The policy, parameters named as in the published checkpoint."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        self.model = SmolVLAModel(config)

    def vision(self, pixel_values: Tensor) -> Tensor:
        return self.model.vision(pixel_values)

    def prefix(self, *tensors: Tensor) -> list[Tensor]:
        return self.model.prefix(*tensors)

    def denoise(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.denoise(*tensors)


@with_presets(PRESETS)
def smolvla(preset: str) -> Policy:
    """SmolVLA: half of SmolVLM2-500M and a small action expert, 50 actions in 10 steps."""
    config = choose(PRESETS, "smolvla", preset)
    examples = Examples(preset)
    made = phases(examples.module(lambda: SmolVLA(config)), examples)
    return examples.policy("smolvla", made, OBSERVATION, ["action"])
