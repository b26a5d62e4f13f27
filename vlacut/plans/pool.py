"""Pool: what the variants of a plan cost and gain together. Plain data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

SEGMENTS, FUSED = FORMS = ("segments", "fused")


@dataclass(frozen=True, kw_only=True)
class Engines:
    """What the engines of all variants hold, in one of the two forms they can have.

    Attributes:
        form: `segments`, shared by the variants, or `fused`, one per variant and side.
        edge, cloud: how many engines there are.
        edge_bytes, cloud_bytes: bytes of weights, if every engine holds a copy of its own.
            Executors that map the store hold each weight once, whatever the form.
    """

    form: str
    edge: int
    cloud: int
    edge_bytes: int
    cloud_bytes: int


@dataclass(frozen=True)
class Pool:
    """What the variants of a plan cost and gain together.

    Attributes:
        name: `none`, `block`, or `portfolio:BYTES`.
        engines: the form that the parts have: `segments` or `fused`.
        bandwidths: the distribution that the variants were chosen for.
        doubled_bytes: weights that a side holds for the sake of variants other than the first.
        expected_s: mean seconds of a step over that distribution, with the best variant each time.
        alone_s: mean seconds of a step with only the first variant.
        forms: both forms of engines, for comparison.
    """

    name: str = "none"
    engines: str = SEGMENTS
    bandwidths: str = ""
    doubled_bytes: int = 0
    expected_s: float = 0.0
    alone_s: float = 0.0
    forms: tuple[Engines, ...] = ()


NO_POOL = Pool()


class Fate(str, Enum):
    """What became of a placement that the pool considered."""

    CHOSEN = "chosen"
    KEPT = "kept"
    DOMINATED = "dominated"
    TOO_LARGE = "too large"
    DROPPED = "dropped"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Crossing:
    """A tensor that crosses the link."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    upward: bool


@dataclass(frozen=True, kw_only=True)
class Considered:
    """A placement that the pool considered.

    Attributes:
        origin: the block and the place behind which the other side goes on, or how it was found.
        crossings: the tensors that cross.
        bytes_up, bytes_down, hops: per control step.
        compute_s, latency_s: per control step, over the link that the cut was chosen for.
        doubled_bytes: bytes of weights that a side holds only for this placement.
        fate: what became of it.
        why: the reason, for people.
    """

    origin: str
    crossings: tuple[Crossing, ...]
    bytes_up: int
    bytes_down: int
    hops: int
    compute_s: float
    latency_s: float
    doubled_bytes: int
    fate: Fate
    why: str
