"""openpi's transforms around a policy: statistics, joints relative to the state, Aloha's angles.

Source: Physical-Intelligence/openpi, src/openpi/transforms.py and policies/aloha_policy.py, of
2026-06; Aloha's constants are those of its own code and Interbotix', as there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vlacut.frontends.openpi.checkpoint import Scale

_FLIPPED = (1, -1, -1, 1, 1, 1, 1) * 2  # signs of the joints of both arms
_GRIPPERS = (6, 13)
_METRES = (0.01844, 0.05800)  # of a finger, closed and open
_ARM, _HORN = 0.036, 0.022
_ENCODER = (0.5476, 1.6296)  # radians of the base model's gripper at 0 and 1
_JOINT = (-0.6213, 1.4910)  # radians of Aloha's


class Scaled(nn.Module):
    """A vector to the model's units and back, [..., n]."""

    first: Tensor
    span: Tensor

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self._signed = scale.signed
        self.register_buffer("first", torch.from_numpy(scale.first))
        self.register_buffer("span", torch.from_numpy(scale.span))

    def forward(self, raw: Tensor) -> Tensor:
        """From the robot's."""
        share = (raw - self.first) / self.span
        return share * 2.0 - 1.0 if self._signed else share

    def back(self, made: Tensor) -> Tensor:
        """To the robot's."""
        share = (made + 1.0) / 2.0 if self._signed else made
        return share * self.span + self.first


class Aloha(nn.Module):
    """Joints of Aloha as the base model has them, [..., 14], and back."""

    signs: Tensor
    gripper: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("signs", torch.tensor(_FLIPPED, dtype=torch.float32))
        where = torch.zeros(len(_FLIPPED), dtype=torch.bool)
        where[list(_GRIPPERS)] = True
        self.register_buffer("gripper", where)

    def forward(self, state: Tensor) -> Tensor:
        """A state; a gripper's opening, from 0 to 1, becomes the base model's angle."""
        turned = state * self.signs
        metres = turned * (_METRES[1] - _METRES[0]) + _METRES[0]
        # Joints that are no gripper go through it, too, and must not divide by zero.
        metres = torch.where(self.gripper, metres, torch.full_like(metres, _METRES[1]))
        sine = (_HORN**2 + metres**2 - _ARM**2) / (2 * _HORN * metres)
        angle = sine.clamp(-1.0, 1.0).asin()
        opened = (angle - _ENCODER[0]) / (_ENCODER[1] - _ENCODER[0])
        return torch.where(self.gripper, opened, turned)

    def back(self, actions: Tensor) -> Tensor:
        """Commands; the base model's gripper becomes Aloha's."""
        turned = actions * self.signs
        opened = (turned + _ENCODER[0] - _JOINT[0]) / (_JOINT[1] - _JOINT[0])
        return torch.where(self.gripper, opened, turned)
