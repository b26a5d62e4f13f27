"""Diffusion Policy of a LeRobot checkpoint: the last observations once, then the UNet on noise.

An input is the last `n_obs_steps` of what the robot gave, the oldest first, [n, ...], where that is
more than one: they are a tick of the robot's apart, and a step of the program comes after a whole
chunk, so that whoever asks for steps keeps them. LeRobot fills up the first of an episode with
copies of it.

Source: Chi et al., Diffusion Policy (arXiv 2303.04137); LeRobot's checkpoints of 0.4 to 0.6.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vlacut.errors import ModelError
from vlacut.frontends.built import Built
from vlacut.frontends.lerobot.checkpoint import Checkpoint
from vlacut.frontends.lerobot.config import Config
from vlacut.frontends.torch import TorchPhase
from vlacut.tensor.noise import NORMAL, Noise
from vlacut_models.lerobot.act import ENVIRONMENT, STATE
from vlacut_models.lerobot.denoising import Denoising
from vlacut_models.lerobot.keypoints import Encoder
from vlacut_models.lerobot.unet import UNet, UNetConfig, places
from vlacut_models.presets import on_shapes

NOISE, DRAWN = "noise", "noise.steps"
_PARTS = {"0": "conv1", "1": "bn1", **{str(place + 3): f"layer{place}" for place in range(1, 5)}}


class Network(nn.Module):
    """What the checkpoint holds under `diffusion`."""

    def __init__(self, config: Config, sides: Sequence[int], vectors: Sequence[str]) -> None:
        super().__init__()
        self._history, self._cameras = config.count("n_obs_steps", 2), len(config.cameras)
        self._apart = config.of("use_separate_rgb_encoder_per_camera", False)
        numbers = sum(config.inputs[name].shape[0] for name in vectors)
        if self._cameras and self._apart:
            self.rgb_encoder: nn.Module = nn.ModuleList(
                Encoder(config, sides) for _ in range(self._cameras)
            )
        elif self._cameras:
            self.rgb_encoder = Encoder(config, sides)
        points = config.count("spatial_softmax_num_keypoints", 32)
        seen = self._history * (numbers + self._cameras * 2 * points)
        self.unet = UNet(_unet(config, seen))

    def see(self, vectors: Sequence[Tensor], pictures: Sequence[Tensor]) -> Tensor:
        """What is seen, [1, seen], of vectors [n, ...] and pictures [n, 3, H, W] of n observations:
        LeRobot has the state ahead of the pictures, and the environment behind them.
        """
        features = []
        if pictures and self._apart:
            encoders = self.rgb_encoder.children()
            features = [encode(one) for encode, one in zip(encoders, pictures, strict=True)]
        elif pictures:
            together = torch.stack(list(pictures), dim=1).flatten(0, 1)
            made = self.rgb_encoder(together)
            features = [made.reshape(self._history, -1)]
        return torch.cat([vectors[0], *features, *vectors[1:]], dim=-1).flatten()[None]


class Policy(nn.Module):
    """The network between LeRobot's steps; a method a phase."""

    places: Tensor

    def __init__(
        self, checkpoint: Checkpoint, network: Network, vectors: Sequence[str], chunk: int
    ) -> None:
        super().__init__()
        config = checkpoint.config
        self.model, self.steps = network, Denoising(config)
        self.ahead, self.behind = checkpoint.ahead, checkpoint.behind
        self._vectors, self._cameras = tuple(vectors), config.cameras
        self._first = config.count("n_obs_steps", 2) - 1
        self._last = self._first + chunk
        time = config.count("diffusion_step_embed_dim", 128)
        self.register_buffer("places", places(self.steps.timesteps, time))

    def see(self, *raw: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [n, ...] and pictures uint8 [n, H, W, 3] to what is seen, and the first step's
        index; without the axis of n where that is 1.
        """
        names = (*self._vectors, *self._cameras)
        made = []
        for name, tensor in zip(names, raw, strict=True):
            scaled = self.ahead.one(name, tensor)
            made.append(scaled[0] if self._first else scaled)
        count = len(self._vectors)
        return self.model.see(made[:count], made[count:]), torch.zeros(1, dtype=torch.int64)

    def denoise(
        self, noise: Tensor, step: Tensor, seen: Tensor, drawn: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One step on commands [1, horizon, n]."""
        answer = self.model.unet(noise, self.places[step], seen)
        return self.steps(noise, answer, step, drawn), step + 1

    def finish(self, commands: Tensor) -> Tensor:
        """Those from the newest observation on, in the robot's units, [chunk, n]."""
        made: Tensor = self.behind(commands[:, self._first : self._last])
        return made


def diffusion(checkpoint: Checkpoint) -> Built:
    """Diffusion Policy in three phases."""
    config = checkpoint.config
    checkpoint.absolute_alone()
    vectors = _vectors(config)
    history, horizon = config.count("n_obs_steps", 2), config.count("horizon", 16)
    # LeRobot plays what the horizon leaves of a chunk behind the newest observation.
    chunk = min(config.count("n_action_steps", 8), horizon - history + 1)
    if chunk < 1:
        raise ModelError(f"{config.folder}: a horizon of {horizon} ends before it can be played")
    drawn = [checkpoint.examples(seed) for seed in range(history)]
    sides = [one.shape[:2] for name, one in drawn[0].items() if name in config.cameras]
    if any(one != sides[0] for one in sides):
        raise ModelError(f"{config.folder}: all of its cameras need pictures of one size")
    network = on_shapes(lambda: Network(config, sides[0] if sides else (), vectors), torch.float32)
    checkpoint.fill(network, _named(checkpoint.weights("diffusion.")))
    policy = Policy(checkpoint, network, vectors, chunk).eval().requires_grad_(False)
    examples = {
        name: torch.stack([one[name] for one in drawn]) if history > 1 else drawn[0][name]
        for name in (*vectors, *config.cameras)
    }
    return _built(checkpoint, policy, examples, (1, horizon, config.actions))


def _built(
    checkpoint: Checkpoint, policy: Policy, examples: Mapping[str, Tensor], shape: tuple[int, ...]
) -> Built:
    numbers = torch.Generator().manual_seed(1)
    raw = {checkpoint.raw_name(name): one for name, one in examples.items()}
    noise = torch.randn(shape, generator=numbers)
    seen, step = policy.see(*examples.values())
    given = {NOISE: noise, "step": step, "seen": seen}
    steps = len(policy.steps.timesteps)
    if policy.steps.draws:
        given[DRAWN] = torch.randn(steps, *shape[1:], generator=numbers)
    fed = {"denoised": NOISE, "next.step": "step"}
    phases = [
        TorchPhase("see", policy, raw, ("seen", "step"), "see"),
        TorchPhase("denoise", policy, given, tuple(fed), "denoise", steps, fed),
        TorchPhase("finish", policy, {"denoised": noise}, ("action",), "finish"),
    ]
    names = [NOISE, DRAWN] if policy.steps.draws else [NOISE]
    return Built(phases, [*raw, *names], [Noise(name, NORMAL, 0.0, 1.0) for name in names])


def _vectors(config: Config) -> list[str]:
    """The state, and the environment where there is one."""
    others = [name for name in config.inputs if name not in (STATE, ENVIRONMENT, *config.cameras)]
    if others:
        raise ModelError(f"{config.folder}: Diffusion Policy reads no {others[0]}")
    vectors = [name for name in (STATE, ENVIRONMENT) if name in config.inputs]
    if STATE not in vectors or not (config.cameras or ENVIRONMENT in vectors):
        raise ModelError(
            f"{config.folder}: Diffusion Policy needs {STATE}, and a camera or {ENVIRONMENT}"
        )
    return vectors


def _unet(config: Config, seen: int) -> UNetConfig:
    where = config.folder / "config.json"
    widths, groups = (
        config.settings.get("down_dims", [512, 1024, 2048]),
        config.count("n_groups", 8),
    )
    right = isinstance(widths, list) and len(widths) in range(1, 9)
    if not right or not all(type(one) is int and 0 < one < 1 << 14 for one in widths):
        raise ModelError(f"{where}: down_dims is {widths!r:.60}")
    time, horizon = config.count("diffusion_step_embed_dim", 128), config.count("horizon", 16)
    if any(one % groups for one in widths) or horizon % 2 ** len(widths) or time % 2 or time < 4:
        raise ModelError(
            f"{where}: down_dims {widths}, n_groups {groups}, horizon {horizon} and "
            f"diffusion_step_embed_dim {time} do not go together"
        )
    scales = config.of("use_film_scale_modulation", True)
    kernel = config.count("kernel_size", 5)
    return UNetConfig(config.actions, seen, tuple(widths), kernel, groups, time, scales)


def _named(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names of the network here, in float32. LeRobot has a ResNet's parts by their
    places, and compiled modules beneath another name.
    """
    found = {}
    for name, one in weights.items():
        plain = name.replace("_orig_mod.", "")
        plain = re.sub(r"(backbone\.)(\d)\.", lambda has: has[1] + _PARTS[has[2]] + ".", plain)
        found[plain] = one.float() if one.is_floating_point() else one
    return found
