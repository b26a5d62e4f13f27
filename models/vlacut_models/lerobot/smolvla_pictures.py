"""Pictures as LeRobot gives them to SmolVLA: their size, and the places of their patches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as nnf

from vlacut.errors import ModelError
from vlacut.frontends.lerobot.checkpoint import Checkpoint
from vlacut_models.layers.flow import FlowConfig

_PLACES = "vlm_with_expert.vlm.model.vision_model.embeddings.position_embedding.weight"


def resize_with_pad(picture: Tensor, width: int, height: int) -> Tensor:
    """A picture [1, C, H, W] scaled into [1, C, height, width], zeros at its left and top.

    Bilinear without antialiasing, sides rounded down: as LeRobot trains SmolVLA.
    """
    rows, columns = picture.shape[2:]
    ratio = max(columns / width, rows / height)
    sides = int(rows / ratio), int(columns / ratio)
    scaled = nnf.interpolate(picture, size=sides, mode="bilinear", align_corners=False)
    return nnf.pad(scaled, (max(0, width - sides[1]), 0, max(0, height - sides[0]), 0))


def target(
    checkpoint: Checkpoint, pictures: Sequence[Tensor]
) -> tuple[tuple[int, int] | None, int]:
    """Width and height that pictures are scaled into, and the side of what the tower reads."""
    where = checkpoint.config.folder / "config.json"
    said = checkpoint.config.settings.get("resize_imgs_with_padding", [512, 512])
    if said is not None and not (
        isinstance(said, list) and len(said) == 2 and all(type(one) is int for one in said)
    ):
        raise ModelError(f"{where}: resize_imgs_with_padding is {said!r:.60}")
    found = {tuple(said)} if said else {(one.shape[1], one.shape[0]) for one in pictures}
    (width, height), *others = found
    if others or width != height:
        raise ModelError(
            f"{where}: pictures must become squares of one size; set resize_imgs_with_padding"
        )
    return ((width, height) if said else None), width


def place(weights: dict[str, Tensor], made: FlowConfig, transformers: str) -> None:
    """Put the place of each patch at its row: a smaller picture spreads over all rows.

    From 4.55 to 4.57 transformers took the place before (huggingface/transformers #41190), and a
    policy that was trained so has to run so.
    """
    if _PLACES not in weights:
        return  # `Checkpoint.fill` says what the file lacks
    whole = int(weights[_PLACES].shape[0] ** 0.5)
    steps = torch.arange(made.image // made.patch, dtype=torch.float32)
    if _shifts(transformers):
        shares = steps / len(steps) * (1 - 1e-6)
    else:
        shares = (steps * (1.0 / len(steps))).clamp(max=1 - 1e-6)
    bounds = torch.arange(1 / whole, 1.0, 1 / whole)
    places = torch.bucketize(shares, bounds, right=True)
    rows = (places[:, None] * whole + places).flatten()
    if not torch.equal(rows, torch.arange(len(weights[_PLACES]))):
        weights[_PLACES] = weights[_PLACES][rows]


def _shifts(transformers: str) -> bool:
    parts = [int(part) if part.isdigit() else 0 for part in (transformers or "0").split(".")]
    return (4, 55) <= tuple(parts[:2]) < (5, 0)
