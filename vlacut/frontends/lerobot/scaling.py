"""Normalisation as LeRobot computes it, in the same order, so that the bits are the same too."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vlacut.errors import ModelError
from vlacut.frontends.lerobot.config import ACTIONS, VISUAL, Config
from vlacut.frontends.lerobot.scales import Scale
from vlacut.frontends.lerobot.steps import Steps


class Ahead(nn.Module):
    """What comes before a policy: raw tensors of the robot's to a batch of one.

    Pictures uint8 [height, width, channels] become float32 [1, channels, height, width] from 0 to
    1, vectors [n] become [1, n]; then all are normalised. Axes ahead of these, as of observations
    one after the other, stay behind the batch's. Source: lerobot, src/lerobot/policies/utils.py,
    prepare_observation_for_inference.
    """

    def __init__(self, config: Config, steps: Steps) -> None:
        super().__init__()
        self._pictures = set(config.cameras)
        self._names = tuple(config.inputs)
        scales = {name: one for name, one in steps.scales.items() if name in config.inputs}
        self._placed = {name: f"scale{place}" for place, name in enumerate(scales)}
        for name, scale in scales.items():
            self.add_module(self._placed[name], Normalise(scale))

    def forward(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The batch, by the policy's names; `raw` is by the same."""
        return {name: self.one(name, raw[name]) for name in self._names if name in raw}

    def one(self, name: str, tensor: Tensor) -> Tensor:
        """One tensor of the batch."""
        if name in self._pictures:
            tensor = (tensor.to(torch.float32) / 255).movedim(-1, -3).contiguous()
        tensor = tensor[None]
        if name in self._placed:
            scaled: Tensor = self.get_submodule(self._placed[name])(tensor)
            return scaled
        return tensor


class Behind(nn.Module):
    """What comes after a policy: its actions [1, chunk, n] in the robot's units, [chunk, n]."""

    def __init__(self, config: Config, steps: Steps) -> None:
        super().__init__()
        scale = steps.scales.get(ACTIONS)
        self.scale = Unnormalise(scale) if scale is not None else nn.Identity()

    def forward(self, actions: Tensor) -> Tensor:
        made: Tensor = self.scale(actions)[0]
        return made


class _Scaling(nn.Module):
    """Holds the statistics of a scale."""

    first: Tensor
    second: Tensor

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self._mean = scale.mode == "MEAN_STD"
        self._epsilon = scale.epsilon
        self.register_buffer("first", torch.from_numpy(scale.first))
        self.register_buffer("second", torch.from_numpy(scale.second))

    def span(self) -> Tensor:
        """Between the two statistics; epsilon where they are equal."""
        span = self.second - self.first
        return torch.where(span == 0, torch.full_like(span, self._epsilon), span)


class Normalise(_Scaling):
    """To mean 0 and deviation 1, or to -1 .. 1."""

    def forward(self, tensor: Tensor) -> Tensor:
        if self._mean:
            return (tensor - self.first) / (self.second + self._epsilon)
        return 2 * (tensor - self.first) / self.span() - 1


class Unnormalise(_Scaling):
    """The way back."""

    def forward(self, tensor: Tensor) -> Tensor:
        if self._mean:
            return tensor * self.second + self.first
        return (tensor + 1) / 2 * self.span() + self.first


def check_scales(config: Config, before: Steps, after: Steps) -> None:
    """Raise ModelError for statistics that are not of their tensor."""
    inputs = [(name, one, config.inputs.get(name)) for name, one in before.scales.items()]
    outputs = [(name, one, config.outputs.get(name)) for name, one in after.scales.items()]
    for name, scale, feature in inputs + outputs:
        if feature is None:
            continue  # an action's, before the policy: training alone has one there
        wanted = (feature.shape[0], 1, 1) if feature.kind == VISUAL else feature.shape
        for array in (scale.first, scale.second):
            if array.shape not in (wanted, ()):
                raise ModelError(
                    f"{config.folder}: statistics of {name} are of shape {list(array.shape)}, and "
                    f"the feature needs {list(wanted)}"
                )
