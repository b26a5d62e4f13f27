"""Holes: releases of TensorRT that lack what their neighbours have, each with its source."""

from __future__ import annotations

from dataclasses import dataclass

from vlacut_backends.tensorrt.recipe import Recipe, Version, parse_version


@dataclass(frozen=True)
class Hole:
    """Releases that have no kernels for a GPU.

    Attributes:
        oldest, newest: those of them that are known, both included; every patch of `newest` is one.
        sms: compute capabilities, major x 10 + minor, from the first to the last.
        take: what to take instead.
        source: who says so.
    """

    oldest: Version
    newest: Version
    sms: tuple[int, int]
    take: str
    source: str

    def __str__(self) -> str:
        first, last = ((".".join(map(str, one))) for one in (self.oldest, self.newest))
        low, high = self.sms
        said = f"{first}" if first == last else f"{first} to {last}"
        gpus = f"sm_{low}" if low == high else f"sm_{low} to sm_{high}"
        return f"TensorRT {said} has no kernels for {gpus}: {self.take} ({self.source})"

    def has(self, version: Version, sm: int) -> bool:
        """Whether a release on a GPU falls into it."""
        within = self.oldest <= version and version[: len(self.newest)] <= self.newest
        return within and self.sms[0] <= sm <= self.sms[1]


HOLES = (
    # "Target GPU SM 87 is not supported by this TensorRT release"; its CUDA 13.0 build as pinned by
    # Isaac ROS 4.5. JetPack 7.2 itself has 10.16.
    Hole(
        (10, 13, 3),
        (10, 13, 3),
        (87, 87),
        "on Orin with JetPack 7.2 take 10.16 or newer",
        "github.com/NVIDIA-ISAAC-ROS/isaac-ros-cli/issues/22",
    ),
    # "Unsupported SM: 0x601" by 10.0.1 on a GTX 1080 Ti.
    Hole(
        (10, 0),
        (11, 4),
        (50, 62),
        "Pascal and older run TensorRT 8.6 or 9; take another --backend",
        "github.com/NVIDIA/TensorRT/issues/3826",
    ),
)


def hole(version: str, sm: int) -> Hole | None:
    """The hole that a release, e.g. `10.13.3.9`, falls into on a GPU; None if none is known."""
    found = parse_version(version)
    return next((one for one in HOLES if one.has(found, sm)), None)


def holes_of(recipe: Recipe) -> tuple[Hole, ...]:
    """Those that a recipe's range of releases has on its GPU."""
    oldest, newest = parse_version(recipe.oldest), parse_version(recipe.newest)
    return tuple(
        one
        for one in HOLES
        if one.sms[0] <= recipe.sm <= one.sms[1]
        and one.newest >= oldest
        and one.oldest[: len(newest)] <= newest
    )
