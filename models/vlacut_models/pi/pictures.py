"""Pictures as openpi and LeRobot give them to pi0 and pi05: scaled into a square, black around."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from vlacut.errors import ModelError

_BITS = 22  # of a weight: Pillow's, in pictures of 8 bits a channel
_HIGH = 11  # of those, what the first of two products holds


def resize_centred(picture: Tensor, side: int) -> Tensor:
    """A picture [1, C, H, W] from 0 to 1 scaled into [1, C, side, side], zeros around it.

    Bilinear without antialiasing: as LeRobot does it (src/lerobot/policies/common/vla_utils.py).
    """
    rows, columns = picture.shape[2:]
    if (rows, columns) == (side, side):
        return picture
    height, width = sides(rows, columns, side)
    scaled = nnf.interpolate(picture, size=(height, width), mode="bilinear", align_corners=False)
    above, before = (side - height) // 2, (side - width) // 2
    around = (before, side - width - before, above, side - height - above)
    return nnf.pad(scaled.clamp(0.0, 1.0), around)


def sides(rows: int, columns: int, side: int) -> tuple[int, int]:
    """Height and width that a picture is scaled to, so that it fits into a square.

    Raises ModelError for one so long that nothing would be left of the other side.
    """
    ratio = max(columns / side, rows / side)
    found = int(rows / ratio), int(columns / ratio)
    if min(found) < 1:
        raise ModelError(f"a picture of {rows} x {columns} is a line in {side} x {side} pixels")
    return found


class PillowResize(nn.Module):
    """Pictures uint8 [H, W, C] to whole numbers [1, C, side, side], to Pillow's last bit.

    Antialiased bilinear: an axis is scaled by a product with a matrix, columns first, and is
    rounded to 8 bits behind each, as Pillow does it. Its weights are whole numbers of 22 bits. A
    product in float32 would round them, so there are two, of the high and of the low 11 bits, and
    either is exact.

    Source: openpi, packages/openpi-client/src/openpi_client/image_tools.py, resize_with_pad;
    Pillow, src/libImaging/Resample.c.

    Args:
        rows, columns: of the picture.
        side: of the square.
    """

    across_high: Tensor
    across_low: Tensor
    down_high: Tensor
    down_low: Tensor

    def __init__(self, rows: int, columns: int, side: int) -> None:
        super().__init__()
        self._side, self._stays = side, (rows, columns) == (side, side)
        height, width = (side, side) if self._stays else sides(rows, columns, side)
        self._height, self._width = height, width
        for name, size, made in (("across", columns, width), ("down", rows, height)):
            high, low = _weights(size, made)
            turned = name == "across"
            self.register_buffer(f"{name}_high", high.T.contiguous() if turned else high)
            self.register_buffer(f"{name}_low", low.T.contiguous() if turned else low)
        self._across, self._down = columns != width, rows != height

    def forward(self, picture: Tensor) -> Tensor:
        """Whole numbers from 0 to 255, in float32."""
        found = picture.to(torch.float32).permute(2, 0, 1)[None]
        if self._stays:
            return found
        if self._across:
            found = _rounded(found @ self.across_high, found @ self.across_low)
        if self._down:
            found = _rounded(self.down_high @ found, self.down_low @ found)
        above, before = (self._side - self._height) // 2, (self._side - self._width) // 2
        below, behind = self._side - self._height - above, self._side - self._width - before
        return nnf.pad(found, (before, behind, above, below))


def _rounded(high: Tensor, low: Tensor) -> Tensor:
    """The sum of two exact parts rounded to the next whole number, and cut to 8 bits.

    `high` is of multiples of 2^-11 up to 255, `low` of multiples of 2^-22 that are small: their sum
    would need 30 bits. So the whole of `high` is taken off before.
    """
    whole = (high + 0.5).floor()
    return (whole + (high + 0.5 - whole + low).floor()).clamp(0.0, 255.0)


def _weights(size: int, made: int) -> tuple[Tensor, Tensor]:
    """Weights [made, size] of a line of `size` for one of `made`: high bits and low."""
    high, low = torch.zeros(made, size), torch.zeros(made, size)
    scale = size / made
    support = max(scale, 1.0)
    for place in range(made):
        centre = (place + 0.5) * scale
        first = max(int(centre - support + 0.5), 0)
        last = min(int(centre + support + 0.5), size)
        # The reciprocal is taken first, as Pillow does: a weight is a product of the two.
        shares = [
            max(1.0 - abs((x - centre + 0.5) * (1.0 / support)), 0.0) for x in range(first, last)
        ]
        total = sum(shares)
        for x, share in zip(range(first, last), shares, strict=True):
            weight = int(0.5 + share / total * (1 << _BITS))
            high[place, x] = (weight >> _HIGH) / (1 << (_BITS - _HIGH))
            low[place, x] = (weight & ((1 << _HIGH) - 1)) / (1 << _BITS)
    return high, low
