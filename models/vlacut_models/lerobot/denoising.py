"""Denoising of Diffusion Policy: what a step makes of the UNet's answer, as a table of numbers.

With a of a timestep, the product of 1 - beta up to it, and b of the timestep that follows (1 at the
last):

    clean = (x - sqrt(1 - a) * answer) / sqrt(a), within the clip       where it answers noise
    DDPM  x' = sqrt(b) * (1 - a/b) / (1 - a) * clean + sqrt(a/b) * (1 - b) / (1 - a) * x + s * n
    DDIM  x' = sqrt(b) * clean + sqrt(1 - b) * noise

with n drawn anew for each step and s^2 = (1 - b) / (1 - a) * (1 - a/b). All in float32, and in the
order of diffusers, so that the bits are the same.

Source: Ho et al., DDPM (arXiv 2006.11239), formulas 6, 7 and 15; Song et al., DDIM (arXiv
2010.02502), formula 12 with eta 0; huggingface/diffusers, schedulers/scheduling_{ddpm,ddim}.py.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vlacut.errors import ModelError
from vlacut.frontends.lerobot.config import Config

DDPM, DDIM = "DDPM", "DDIM"
_LARGEST_BETA = 0.999
_LEAST_VARIANCE = 1e-20


class Denoising(nn.Module):
    """The steps of a scheduler.

    Args:
        config: of the policy; `noise_scheduler_type`, `beta_schedule` and what they read.

    Attributes:
        timesteps: of each step, the noisiest first.
        draws: whether a step adds noise of its own.

    Raises ModelError for a scheduler, or settings, that are not known.
    """

    root: Tensor
    rest: Tensor
    clean: Tensor
    kept: Tensor
    added: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        where = config.folder / "config.json"
        kind, answers = config.of("noise_scheduler_type", DDPM), config.of("prediction_type", "")
        if kind not in (DDPM, DDIM):
            raise ModelError(f"{where}: no noise_scheduler_type {kind!r:.40}; there are DDPM, DDIM")
        if answers not in ("", "epsilon", "sample"):
            raise ModelError(f"{where}: no prediction_type {answers!r:.40}")
        trained = config.count("num_train_timesteps", 100)
        steps = trained
        if config.settings.get("num_inference_steps") is not None:
            steps = config.count("num_inference_steps", trained)
        if steps > trained:
            raise ModelError(f"{where}: {steps} steps are more than the {trained} of its training")
        self.draws, self._noise = kind == DDPM, answers != "sample"
        self._clip = config.of("clip_sample_range", 1.0) if config.of("clip_sample", True) else None
        apart = trained // steps
        self.timesteps = [place * apart for place in reversed(range(steps))]
        product = torch.cumprod(1.0 - _betas(config, trained), dim=0)
        now = product[self.timesteps]
        # DDPM goes on at the next step's timestep, and DDIM `apart` below: the same ones.
        after = torch.cat((now[1:], torch.ones(1)))
        for name, one in _tables(now, after, self.draws).items():
            self.register_buffer(name, one)

    def forward(self, x: Tensor, answer: Tensor, step: Tensor, drawn: Tensor | None) -> Tensor:
        """Commands of the next step: of the UNet's answer for x, both [1, T, n], at step int64 [1];
        `drawn` [steps, T, n] is the noise of a scheduler that draws.
        """
        root, rest = self.root[step], self.rest[step]
        clean = (x - rest * answer) / root if self._noise else answer
        noise = answer if self._noise else (x - root * answer) / rest
        if self._clip is not None:
            clean = clean.clamp(-self._clip, self._clip)
        made = self.clean[step] * clean + self.kept[step] * (x if self.draws else noise)
        if drawn is not None:
            made = made + self.added[step] * drawn[step]
        return made


def _tables(now: Tensor, after: Tensor, draws: bool) -> dict[str, Tensor]:
    """The factors of each step; of `kept` is x in DDPM, and the noise in DDIM."""
    found = {"root": now**0.5, "rest": (1 - now) ** 0.5}
    if not draws:
        return {**found, "clean": after**0.5, "kept": (1 - after) ** 0.5, "added": now * 0}
    kept = now / after
    lost = 1 - kept
    variance = ((1 - after) / (1 - now) * lost).clamp(min=_LEAST_VARIANCE) ** 0.5
    variance[-1] = 0  # the last step, timestep 0, adds none
    return {
        **found,
        "clean": after**0.5 * lost / (1 - now),
        "kept": kept**0.5 * (1 - after) / (1 - now),
        "added": variance,
    }


def _betas(config: Config, steps: int) -> Tensor:
    first, last = config.of("beta_start", 1e-4), config.of("beta_end", 0.02)
    kind = config.of("beta_schedule", "squaredcos_cap_v2")
    if kind == "linear":
        return torch.linspace(first, last, steps, dtype=torch.float32)
    if kind == "scaled_linear":
        return torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float32) ** 2
    if kind == "squaredcos_cap_v2":
        return torch.tensor(
            [_falling(place / steps, (place + 1) / steps) for place in range(steps)]
        )
    raise ModelError(f"{config.folder / 'config.json'}: no beta_schedule {kind!r:.40}")


def _falling(before: float, after: float) -> float:
    """Nichol and Dhariwal (arXiv 2102.09672), formula 17."""
    left, right = (
        math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2 for share in (before, after)
    )
    return min(1 - right / left, _LARGEST_BETA)
