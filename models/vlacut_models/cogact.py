"""CogACT: a Prismatic vision-language model whose last hidden state conditions a diffusion head.

Source: Li et al., CogACT (arXiv 2411.19650), and its published code: one pass of the LLM over image
and prompt, whose last token is the cognition token; DiT over 16 actions, 10 DDIM steps of 100 with
classifier-free guidance of 1.5. Its checkpoints are files of torch.save with weights by module;
parameters here are named `MODULE.NAME` after them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from vlacut.frontends.torch import TorchPhase
from vlacut_models.layers.decoder import decode
from vlacut_models.layers.dit import DIT_B, DIT_L, DiT, DiTConfig
from vlacut_models.layers.prismatic import TINY_SIZES, ActionRange, PrismaticConfig, behind_first
from vlacut_models.presets import Examples, Policy, choose, with_presets

_TRAINED_STEPS = 100
_MAX_BETA = 0.999
_GRIPPER_OPEN = 0.5


@dataclass(frozen=True)
class CogACTConfig(PrismaticConfig):
    """Size of a CogACT-like policy.

    Attributes:
        head: the diffusion transformer.
        steps: of DDIM.
        guidance: weight of the condition; 1 is without guidance.
    """

    head: DiTConfig = DIT_B
    steps: int = 10
    guidance: float = 1.5

    @property
    def prefix(self) -> int:
        """Tokens that the LLM sees."""
        return self.prompt + self.patches


PRESETS = {
    "full": CogACTConfig(),
    "large": CogACTConfig(head=DIT_L),
    "tiny": CogACTConfig(**TINY_SIZES, head=DiTConfig(64, 3, 4)),
}


class VisionBackbone(nn.Module):
    """Both towers; parameters as `vision_backbone` of the checkpoint."""

    def __init__(self, config: PrismaticConfig) -> None:
        super().__init__()
        self.dino_featurizer, self.siglip_featurizer = config.towers("gamma")

    def forward(self, pixels: Tensor) -> Tensor:
        first, second = pixels[:, :3], pixels[:, 3:]
        return torch.cat([self.dino_featurizer(first), self.siglip_featurizer(second)], dim=2)


class Projector(nn.Module):
    """Joined visual features to the width of the LLM; parameters as `projector`."""

    def __init__(self, visual: int, llm: int) -> None:
        super().__init__()
        self.projector = nn.Sequential(
            nn.Linear(visual, 4 * visual), nn.GELU(), nn.Linear(4 * visual, llm), nn.GELU(),
            nn.Linear(llm, llm),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        return self.projector(features)


class Llm(nn.Module):
    """Llama under the name `llm`; parameters as `llm_backbone`."""

    def __init__(self, config: PrismaticConfig) -> None:
        super().__init__()
        self.llm = LlamaForCausalLM(config.llama())


class ActionModel(nn.Module):
    """The diffusion head under the name `net`; parameters as `action_model`."""

    def __init__(self, config: CogACTConfig) -> None:
        super().__init__()
        self.net = DiT(config.head, config.llm_width)


class CogACT(nn.Module):
    """The policy: one method per phase, parameters named as in the published checkpoint."""

    times: Tensor
    clean: Tensor

    def __init__(self, config: CogACTConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_backbone = VisionBackbone(config)
        self.projector = Projector(config.visual, config.llm_width)
        self.llm_backbone = Llm(config)
        self.action_model = ActionModel(config)
        self.action_range = ActionRange(config.head.actions)
        times, clean = ddim_schedule(config.steps)
        self.register_buffer("times", times, persistent=False)
        self.register_buffer("clean", clean, persistent=False)

    def vision(self, pixel_values: Tensor) -> Tensor:
        """Images of both towers [1, 6, S, S] to visual tokens [1, N, llm_width]."""
        return self.projector(self.vision_backbone(pixel_values))

    def prefill(self, input_ids: Tensor, visual_tokens: Tensor) -> tuple[Tensor, ...]:
        """Prompt [1, prompt] and image to the cognition token [1, 1, llm_width].

        As published, the LLM is asked to generate one token, so that its head runs as well; the
        token is an output that nothing reads. The last one is the first step's index.
        """
        llm = self.llm_backbone.llm
        hidden = behind_first(llm.model.embed_tokens(input_ids), visual_tokens)
        slots = torch.arange(self.config.prefix, device=hidden.device)
        turn = self.config.turn(slots, hidden.dtype)
        mask = (slots[None, :] <= slots[:, None])[None, None]
        hidden, _ = decode(llm.model.layers, hidden, turn, None, None, mask)
        cognition = llm.model.norm(hidden[:, -1:])
        token = llm.lm_head(cognition).argmax(dim=-1)
        return cognition, token, torch.zeros(1, dtype=torch.int64, device=token.device)

    def denoise(self, noise: Tensor, step: Tensor, cognition: Tensor) -> tuple[Tensor, Tensor]:
        """One DDIM step on an action sequence [1, chunk, actions] in float32."""
        net = self.action_model.net
        condition = torch.cat([cognition, net.z_embedder.uncondition[None]], dim=0)
        both = noise.to(cognition.dtype).expand(2, -1, -1)
        found = net(both, self.times[step], condition).to(noise.dtype)
        guided = found[1:] + self.config.guidance * (found[:1] - found[1:])
        clean, cleaner = self.clean[step], self.clean[step + 1]
        action = (noise - (1.0 - clean).sqrt() * guided) / clean.sqrt()
        return cleaner.sqrt() * action + (1.0 - cleaner).sqrt() * guided, step + 1

    def unnormalize(self, actions: Tensor) -> Tensor:
        """Normalised actions [1, chunk, actions] in the data set's units; the gripper 0 or 1."""
        bounded = actions.clamp(-1.0, 1.0)
        gripper = (bounded[..., -1:] >= _GRIPPER_OPEN).to(bounded.dtype)
        return torch.cat([self.action_range(bounded)[..., :-1], gripper], dim=-1)


def ddim_schedule(steps: int) -> tuple[Tensor, Tensor]:
    """Timesteps [steps] from the noisiest on, and shares of signal [steps + 1], the last one 1.

    Of 100 steps with a squared cosine schedule (Nichol and Dhariwal, arXiv 2102.09672), every
    (100 / steps)-th one.
    """

    def left(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    signal, shares = 1.0, []
    for step in range(_TRAINED_STEPS):
        noise = 1 - left((step + 1) / _TRAINED_STEPS) / left(step / _TRAINED_STEPS)
        signal *= 1 - min(noise, _MAX_BETA)
        shares.append(signal)
    taken = list(range(0, _TRAINED_STEPS, _TRAINED_STEPS // steps))[::-1]
    clean = [shares[step] for step in taken] + [1.0]
    return torch.tensor(taken, device="cpu"), torch.tensor(clean, device="cpu")


def phases(policy: CogACT, examples: Examples) -> list[TorchPhase]:
    """The policy's phases on an example observation."""
    config = policy.config
    sequence = (1, config.head.chunk, config.head.actions)
    pixels = {"pixel_values": examples.normal(1, 6, config.image, config.image)}
    prompt = {
        "input_ids": examples.tokens(config.prompt, config.vocabulary),
        "visual_tokens": examples.filled(0, 1, config.patches, config.llm_width),
    }
    noisy = {
        "noise": examples.normal(*sequence, dtype=torch.float32),
        "step": examples.filled(0, 1, dtype=torch.int64),
        "cognition": examples.filled(0, 1, 1, config.llm_width),
    }
    fed = {"actions": "noise", "next.step": "step"}
    actions = {"actions": noisy["noise"]}
    return [
        TorchPhase("vision", policy, pixels, ("visual_tokens",), "vision"),
        TorchPhase("prefill", policy, prompt, ("cognition", "token", "step"), "prefill"),
        TorchPhase("denoise", policy, noisy, tuple(fed), "denoise", config.steps, fed),
        TorchPhase("unnormalize", policy, actions, ("action",), "unnormalize"),
    ]


def see_noise(net: DiT) -> None:
    """Make a head of random weights return roughly its input, as if that were the noise.

    DDIM divides by the share of signal. A head that returns anything else would end in actions at
    their bounds, whatever the observation. The factors were found by trial.
    """
    with torch.no_grad():
        inverse = torch.linalg.pinv(net.x_embedder.linear.weight)
        net.final_layer.linear.weight.copy_(1.8 * inverse)
        net.x_embedder.linear.weight.mul_(2.0)
        net.z_embedder.linear.weight.mul_(8.0)


@with_presets(PRESETS)
def cogact(preset: str) -> Policy:
    """CogACT: OpenVLA's VLM, one cognition token, DiT-B (large: DiT-L) in 10 DDIM steps."""
    config = choose(PRESETS, "cogact", preset)
    examples = Examples(preset)
    policy = examples.module(lambda: CogACT(config))
    if examples.real:
        see_noise(policy.action_model.net)
    made = phases(policy, examples)
    return examples.policy("cogact", made, ["pixel_values", "input_ids", "noise"], ["action"])
