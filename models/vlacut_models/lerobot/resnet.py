"""ResNet up to its last feature map, with torchvision's parameter names.

Source: He et al., Deep Residual Learning (arXiv 1512.03385); the stride of a bottleneck is in its
second convolution, as in torchvision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlacut.errors import ModelError

_EPSILON = 1e-5
_WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class _Kind:
    """Blocks in each of the four stages, and whether they are bottlenecks, of what width."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    base_width: int = 64


_KINDS = {
    "resnet18": _Kind((2, 2, 2, 2), False),
    "resnet34": _Kind((3, 4, 6, 3), False),
    "resnet50": _Kind((3, 4, 6, 3), True),
    "resnet101": _Kind((3, 4, 23, 3), True),
    "resnet152": _Kind((3, 8, 36, 3), True),
    "wide_resnet50_2": _Kind((3, 4, 6, 3), True, 128),
    "wide_resnet101_2": _Kind((3, 4, 23, 3), True, 128),
}


class FrozenNorm(nn.Module):
    """Batch norm whose statistics are numbers of the checkpoint."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, mean, variance = (
            getattr(self, name).reshape(1, -1, 1, 1)
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight * (variance + _EPSILON).rsqrt()
        shifted: Tensor = x * scale + (bias - mean * scale)
        return shifted


Norm = Callable[[int], nn.Module]  # of so many channels


def _shortcut(norm: Norm, width: int, made: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and width == made:
        return None
    return nn.Sequential(nn.Conv2d(width, made, 1, stride, bias=False), norm(made))


class Basic(nn.Module):
    """Two convolutions of 3 x 3."""

    def __init__(self, norm: Norm, width: int, made: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, made, 3, stride, 1, bias=False)
        self.bn1 = norm(made)
        self.conv2 = nn.Conv2d(made, made, 3, 1, 1, bias=False)
        self.bn2 = norm(made)
        self.downsample = _shortcut(norm, width, made, stride)

    def forward(self, x: Tensor) -> Tensor:
        kept = x if self.downsample is None else self.downsample(x)
        x = self.bn1(self.conv1(x)).relu()
        summed: Tensor = self.bn2(self.conv2(x)) + kept
        return summed.relu()


class Bottleneck(nn.Module):
    """A convolution of 3 x 3 between two of 1 x 1."""

    def __init__(
        self, norm: Norm, width: int, inner: int, made: int, stride: int, dilation: int
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, inner, 1, bias=False), norm(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, dilation, dilation, bias=False)
        self.bn2 = norm(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, made, 1, bias=False), norm(made)
        self.downsample = _shortcut(norm, width, made, stride)

    def forward(self, x: Tensor) -> Tensor:
        kept = x if self.downsample is None else self.downsample(x)
        x = self.bn1(self.conv1(x)).relu()
        x = self.bn2(self.conv2(x)).relu()
        summed: Tensor = self.bn3(self.conv3(x)) + kept
        return summed.relu()


class ResNet(nn.Module):
    """Pictures [B, 3, H, W] to features [B, width, H / 32, W / 32], rounded up.

    Args:
        name: `resnet18` to `resnet152`, `wide_resnet50_2`, `wide_resnet101_2`.
        dilated: whether the last stage dilates in the place of its stride; bottlenecks alone do.
        norm: makes what follows each convolution; statistics of the checkpoint's, if not given.

    Raises ModelError for another name.
    """

    def __init__(self, name: str, dilated: bool, norm: Norm = FrozenNorm) -> None:
        super().__init__()
        if name not in _KINDS:
            raise ModelError(f"no vision backbone {name!r:.60}; there are {', '.join(_KINDS)}")
        kind = _KINDS[name]
        if dilated and not kind.bottleneck:
            raise ModelError(f"{name} has no dilated stages: its blocks are no bottlenecks")
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1, self.maxpool = norm(64), nn.MaxPool2d(3, 2, 1)
        self.width, self._norm = 64, norm
        for place, (inner, count) in enumerate(zip(_WIDTHS, kind.blocks, strict=True)):
            stride = 1 if place == 0 else 2
            stage = self._stage(kind, inner, count, stride, dilated and place == 3)
            self.add_module(f"layer{place + 1}", stage)

    def _stage(
        self, kind: _Kind, inner: int, count: int, stride: int, dilated: bool
    ) -> nn.Sequential:
        blocks: list[nn.Module] = []
        for place in range(count):
            step = stride if place == 0 and not dilated else 1
            if kind.bottleneck:
                wide, made = inner * kind.base_width // 64, inner * 4
                dilation = 2 if dilated and place else 1
                blocks.append(Bottleneck(self._norm, self.width, wide, made, step, dilation))
            else:
                made = inner
                blocks.append(Basic(self._norm, self.width, made, step))
            self.width = made
        return nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        for place in range(4):
            x = self.get_submodule(f"layer{place + 1}")(x)
        return x
