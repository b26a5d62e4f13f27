"""Pictures as Diffusion Policy sees them: resized and cropped, and where in them its features are.

Source: Chi et al., Diffusion Policy (arXiv 2303.04137), section 3; the spatial softmax is Finn et
al. (arXiv 1509.06113), section III, as LeRobot's checkpoints hold it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from vlacut.errors import ModelError
from vlacut.frontends.lerobot.config import Config
from vlacut_models.lerobot.resnet import FrozenNorm, Norm, ResNet

_CHANNELS_OF_A_GROUP = 16


class BatchNorm(FrozenNorm):
    """One that has learnt with its batches, and counts them."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64))


def _group_norm(width: int) -> nn.Module:
    return nn.GroupNorm(width // _CHANNELS_OF_A_GROUP, width)


class Resized(nn.Module):
    """Pictures [B, 3, H, W] in other sides, antialiased: two products of matrices.

    Bilinear as `torch.nn.functional.interpolate` has it, whose weights are what it makes of the
    unit matrix.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, before: Sequence[int], after: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("rows", _weights(before[0], after[0]), persistent=False)
        self.register_buffer("columns", _weights(before[1], after[1]).T, persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        made: Tensor = self.rows @ (pictures @ self.columns)
        return made


def _weights(before: int, after: int) -> Tensor:
    with torch.device("cpu"):
        unit = torch.eye(before)[None, None]
        made: Tensor = nnf.interpolate(
            unit, size=(after, before), mode="bilinear", align_corners=False, antialias=True
        )
        return made[0, 0].contiguous()


class Pool(nn.Module):
    """A softmax over each map of features; the mean place [points, 2] under it, x then y."""

    pos_grid: Tensor

    def __init__(self, width: int, points: int, height: int, wide: int) -> None:
        super().__init__()
        self.nets = nn.Conv2d(width, points, 1)
        self.register_buffer("pos_grid", torch.zeros(height * wide, 2))
        self._points = points

    def forward(self, features: Tensor) -> Tensor:
        maps = self.nets(features).flatten(2).softmax(dim=-1)
        made: Tensor = (maps @ self.pos_grid).flatten(1)
        return made


class Encoder(nn.Module):
    """Pictures [B, 3, H, W] from the steps ahead to features [B, 2 * points].

    Args:
        config: of the policy.
        sides: height and width of its pictures as the camera has them.

    Raises ModelError for settings that are not known, or do not fit the pictures.
    """

    def __init__(self, config: Config, sides: Sequence[int]) -> None:
        super().__init__()
        where, sides = config.folder / "config.json", list(sides)
        resized, self._crop = _sides(config, "resize_shape"), _sides(config, "crop_shape")
        self.resize: nn.Module = nn.Identity()
        if resized is not None:
            share = config.of("crop_ratio", 1.0)
            self._crop = [int(side * share) for side in resized] if share < 1.0 else None
            self.resize = Resized(sides, resized) if resized != sides else self.resize
            sides = resized
        if self._crop is not None:
            if any(small > side for small, side in zip(self._crop, sides, strict=True)):
                raise ModelError(f"{where}: crop_shape {self._crop} is larger than {sides}")
            margins = [side - small for small, side in zip(self._crop, sides, strict=True)]
            self._corner, sides = [round(one / 2.0) for one in margins], self._crop
        grouped = config.of("use_group_norm", True)
        norm: Norm = _group_norm if grouped else BatchNorm
        self.backbone = ResNet(config.of("vision_backbone", "resnet18"), False, norm)
        points = config.count("spatial_softmax_num_keypoints", 32)
        # Each of five halvings rounds up.
        maps = [-(-side // 32) for side in sides]
        self.pool = Pool(self.backbone.width, points, *maps)
        self.out = nn.Linear(2 * points, 2 * points)

    def forward(self, pictures: Tensor) -> Tensor:
        pictures = self.resize(pictures)
        if self._crop is not None:
            (top, left), (height, wide) = self._corner, self._crop
            pictures = pictures[:, :, top : top + height, left : left + wide]
        made: Tensor = self.out(self.pool(self.backbone(pictures))).relu()
        return made


def _sides(config: Config, name: str) -> list[int] | None:
    said = config.settings.get(name)
    if said is None:
        return None
    right = isinstance(said, list) and len(said) == 2 and all(type(one) is int for one in said)
    if not right or not all(0 < one < 1 << 14 for one in said):
        raise ModelError(f"{config.folder / 'config.json'}: {name} is {said!r:.60}, no two sides")
    return list(said)
