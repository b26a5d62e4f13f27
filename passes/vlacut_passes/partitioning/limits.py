"""What a cut is asked for: the quantity to minimise, and limits on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from vlacut.pricing.price import Price
from vlacut.tensor.numerics import ROUNDING


class Quantity(IntEnum):
    """A quantity of a cut; its value is the index into every array of quantities."""

    LATENCY = 0  # seconds of a control step
    CLOUD_TIME = 1  # seconds of compute in the cloud, per control step
    CLOUD_BYTES = 2  # distinct weights in the cloud
    EDGE_BYTES = 3  # distinct weights on the edge
    ENERGY = 4  # joules of the edge, per control step

    def text(self, value: float) -> str:
        """A value of the quantity, for people."""
        if self in (Quantity.LATENCY, Quantity.CLOUD_TIME):
            return f"{value * 1e3:.6g} ms"
        if self is Quantity.ENERGY:
            return f"{value:.6g} J"
        return f"{value / 1e6:.6g} MB" if value >= 1e6 else f"{value:.0f} bytes"


NAMES = {
    Quantity.LATENCY: "the control step",
    Quantity.CLOUD_TIME: "compute in the cloud",
    Quantity.CLOUD_BYTES: "weights in the cloud",
    Quantity.EDGE_BYTES: "weights on the edge",
    Quantity.ENERGY: "energy of the edge",
}
FIELDS = {
    Quantity.LATENCY: "latency",
    Quantity.CLOUD_TIME: "cloud_time",
    Quantity.CLOUD_BYTES: "cloud_bytes",
    Quantity.EDGE_BYTES: "edge_bytes",
    Quantity.ENERGY: "energy",
}


@dataclass(frozen=True)
class Limits:
    """What to minimise, and how much of each quantity a cut may have; None for no limit.

    Attributes:
        minimise: the objective.
        latency: seconds of a control step.
        cloud_time: seconds of compute in the cloud, per control step.
        cloud_bytes, edge_bytes: of distinct weights held on a side.
        energy: joules of the edge, per control step.
        notes: where limits come from that users did not set.
    """

    minimise: Quantity = Quantity.LATENCY
    latency: float | None = None
    cloud_time: float | None = None
    cloud_bytes: int | None = None
    edge_bytes: int | None = None
    energy: float | None = None
    notes: Mapping[Quantity, str] = field(default_factory=dict)

    @property
    def most(self) -> tuple[float | None, ...]:
        """The limits by quantity."""
        return self.latency, self.cloud_time, self.cloud_bytes, self.edge_bytes, self.energy

    def broken(self, price: Price) -> str:
        """The limits a price breaks, and by how much; empty if it keeps them."""
        return "; ".join(
            f"{NAMES[one]}: {one.text(amount)}, {one.text(amount - most)} over the limit"
            f"{self.note(one)}"
            for one, amount, most in zip(Quantity, measured(price), self.most, strict=True)
            if most is not None and not within(one, amount, most)
        )

    def note(self, quantity: Quantity) -> str:
        """The source of a limit, in parentheses; empty if users set it."""
        return f" ({self.notes[quantity]})" if quantity in self.notes else ""


def limited(limits: Limits, quantity: Quantity, most: float | None) -> Limits:
    """The limits with another one on a quantity; None for no limit."""
    return replace(limits, **{FIELDS[quantity]: most})  # type: ignore[arg-type]  # its own kind


def measured(price: Price) -> tuple[float, ...]:
    """The quantities of a price."""
    held = price.cloud_weight_bytes, price.edge_weight_bytes
    return price.total_s, price.cloud_s, *held, price.edge_j


def within(quantity: Quantity, amount: float, most: float) -> bool:
    """Whether a limit is kept: bytes to the byte, seconds to rounding."""
    exact = quantity in (Quantity.CLOUD_BYTES, Quantity.EDGE_BYTES)
    return amount <= (most if exact else most + ROUNDING * abs(most))


def all_within(amounts: Sequence[float], most: Sequence[float | None]) -> bool:
    """Whether every limit is kept."""
    return all(
        limit is None or within(one, value, limit)
        for one, value, limit in zip(Quantity, amounts, most, strict=True)
    )
