"""RoboFlamingo: OpenFlamingo reads two cameras and the instruction, an LSTM remembers the past.

Source: Li et al., RoboFlamingo (arXiv 2311.01378), and its published configuration: OpenFlamingo-3B
with MPT-1B, both cameras through one resampler, hidden states pooled by their maximum, an LSTM of 4
layers of 1,024 and two MLPs for pose and gripper. What the LSTM remembers is the program's state:
zeros in the first step of an episode.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from vlacut.frontends.torch import TorchPhase
from vlacut_models.layers.clip import ClipTower
from vlacut_models.layers.flamingo import Mpt, Perceiver
from vlacut_models.layers.flow import named
from vlacut_models.layers.prismatic import Tower
from vlacut_models.presets import Examples, Policy, choose, with_presets


@dataclass(frozen=True)
class RoboFlamingoConfig:
    """Size of a RoboFlamingo-like policy.

    Attributes:
        clip: the vision tower.
        image, patch: sides in pixels.
        cameras: images in the observation.
        resampler, latents: layers of the resampler, and tokens that it makes of an image.
        width, depth, heads: of the LLM.
        vocabulary, prompt: tokens, and how many an instruction has, the first one `<image>`.
        memory, cells: width and layers of the LSTM.
        mlp: widths of an MLP between memory and action.
        pose: degrees of freedom without the gripper.
    """

    clip: Tower
    image: int = 224
    patch: int = 14
    cameras: int = 2
    resampler: int = 6
    latents: int = 64
    width: int = 2048
    depth: int = 24
    heads: int = 16
    vocabulary: int = 50280
    prompt: int = 24
    memory: int = 1024
    cells: int = 4
    mlp: tuple[int, ...] = (1024, 512, 256)
    pose: int = 6


PRESETS = {
    "full": RoboFlamingoConfig(clip=Tower(1024, 24, 16, 4096)),
    "tiny": RoboFlamingoConfig(
        clip=Tower(48, 2, 4, 96),
        image=56,
        resampler=2,
        latents=8,
        width=64,
        depth=3,
        heads=4,
        vocabulary=300,
        prompt=8,
        memory=32,
        cells=2,
        mlp=(32, 32),
    ),
}


class Mlp(nn.Module):
    """The MLP of a part of the action, under the name `mlp`."""

    def __init__(self, widths: tuple[int, ...], outputs: int, bound: nn.Module) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(widths[-1], outputs), bound)

    def forward(self, features: Tensor) -> Tensor:
        return self.mlp(features)


class LstmStep(nn.LSTM):
    """An LSTM with its equations written out for one time step."""

    def forward(  # type: ignore[override]  # one step, all states by name
        self, features: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor]:
        """New hidden and cell states [layers, 1, width]; `features` are [1, inputs]."""
        hiddens, cells = [], []
        for layer in range(self.num_layers):
            named_weights = (f"weight_ih_l{layer}", f"weight_hh_l{layer}")
            weights = [self.get_parameter(name) for name in named_weights]
            biases = [self.get_parameter(name.replace("weight", "bias")) for name in named_weights]
            sums = nn.functional.linear(features, weights[0], biases[0])
            sums = sums + nn.functional.linear(hidden[layer], weights[1], biases[1])
            take, keep, candidate, show = sums.reshape(1, 4, -1).unbind(1)
            new = keep.sigmoid() * cell[layer] + take.sigmoid() * candidate.tanh()
            features = show.sigmoid() * new.tanh()
            hiddens.append(features)
            cells.append(new)
        return torch.stack(hiddens), torch.stack(cells)


class ActionDecoder(nn.Module):
    """Features and memory to an action; parameters as `lm_head`."""

    def __init__(self, config: RoboFlamingoConfig) -> None:
        super().__init__()
        self.rnn = LstmStep(config.width, config.memory, config.cells)
        widths = (config.memory, *config.mlp)
        self.actions = Mlp(widths, config.pose, nn.Tanh())
        self.gripper = Mlp(widths, 1, nn.Sigmoid())

    def forward(
        self, features: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        hidden, cell = self.rnn(features, hidden, cell)
        action = torch.cat([self.actions(hidden[-1]), self.gripper(hidden[-1])], dim=-1)
        return action, hidden, cell


class RoboFlamingo(nn.Module):
    """The policy: one method per phase, parameters named as in the published checkpoint."""

    def __init__(self, config: RoboFlamingoConfig) -> None:
        super().__init__()
        self.config = config
        tower, media = config.clip, config.clip.width
        self.vision_encoder = named(visual=ClipTower(tower, config.image, config.patch))
        self.perceiver = Perceiver(media, config.resampler, config.latents)
        llm = Mpt(config.width, config.depth, config.heads, media, config.vocabulary)
        self.lang_encoder = named(transformer=llm)
        self.lm_head = ActionDecoder(config)

    def vision(self, pixel_values: Tensor) -> Tensor:
        """Images [cameras, 3, S, S] to media tokens [1, cameras * latents, media]."""
        tokens = self.perceiver(self.vision_encoder.visual(pixel_values))
        return tokens.reshape(1, -1, self.config.clip.width)

    def language(self, input_ids: Tensor, media_tokens: Tensor) -> Tensor:
        """Instruction [1, prompt] and media to features [1, width]."""
        return self.lang_encoder.transformer(input_ids, media_tokens).amax(dim=1)

    def head(self, features: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, ...]:
        """An action in float32 [1, pose + 1] and the new states of the memory [cells, 1, memory].

        The pose is in [-1, 1] and the gripper in [0, 1].
        """
        action, hidden, cell = self.lm_head(features, hidden, cell)
        return action.to(torch.float32), hidden, cell


def phases(policy: RoboFlamingo, examples: Examples) -> list[TorchPhase]:
    """The policy's phases on an example observation."""
    config = policy.config
    pixels = {"pixel_values": examples.normal(config.cameras, 3, config.image, config.image)}
    media = config.cameras * config.latents
    prompt = {
        "input_ids": examples.tokens(config.prompt, config.vocabulary),
        "media_tokens": examples.filled(0, 1, media, config.clip.width),
    }
    memory = {
        "features": examples.filled(0, 1, config.width),
        "memory.hidden": examples.normal(config.cells, 1, config.memory),
        "memory.cell": examples.normal(config.cells, 1, config.memory),
    }
    made = ("action", "next.memory.hidden", "next.memory.cell")
    return [
        TorchPhase("vision", policy, pixels, ("media_tokens",), "vision"),
        TorchPhase("language", policy, prompt, ("features",), "language"),
        TorchPhase("head", policy, memory, made, "head"),
    ]


@with_presets(PRESETS)
def roboflamingo(preset: str) -> Policy:
    """RoboFlamingo: OpenFlamingo-3B (CLIP ViT-L, MPT-1B) and an LSTM head with its memory."""
    config = choose(PRESETS, "roboflamingo", preset)
    examples = Examples(preset)
    made = phases(examples.module(lambda: RoboFlamingo(config)), examples)
    state = {f"next.{name}": name for name in ("memory.hidden", "memory.cell")}
    return examples.policy(
        "roboflamingo", made, ["pixel_values", "input_ids"], ["action"], state=state
    )
