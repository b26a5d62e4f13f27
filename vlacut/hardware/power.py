"""Power: what a machine on a battery draws."""

from __future__ import annotations

from dataclasses import dataclass

from vlacut.errors import HardwareError


@dataclass(frozen=True)
class Power:
    """What a machine draws, in one power mode.

    Attributes:
        busy_w: watts while it computes.
        idle_w: watts while it waits.
        up_j_per_byte, down_j_per_byte: joules of its radio for a byte sent and received.
        source: where the figures are from.

    Raises HardwareError for figures below 0, or idling that takes more than work.
    """

    busy_w: float
    idle_w: float
    up_j_per_byte: float
    down_j_per_byte: float
    source: str

    def __post_init__(self) -> None:
        if not 0 <= self.idle_w <= self.busy_w or self.busy_w <= 0:
            raise HardwareError(
                f"power: idle_w ({self.idle_w:g}) must be from 0 to busy_w ({self.busy_w:g})"
            )
        if min(self.up_j_per_byte, self.down_j_per_byte) < 0:
            raise HardwareError("power: joules per byte must not be negative")

    def joules(self, total_s: float, busy_s: float, bytes_up: int, bytes_down: int) -> float:
        """Joules over `total_s` seconds: it computes for `busy_s` and waits for the rest."""
        waiting = self.idle_w * (total_s - busy_s) + self.busy_w * busy_s
        return waiting + self.up_j_per_byte * bytes_up + self.down_j_per_byte * bytes_down
