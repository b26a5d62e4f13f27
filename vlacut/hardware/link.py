"""Link: the network between edge and cloud, and how users write one.

    10MB/s                     both directions alike, no round-trip time
    80Mbit/s,20ms              with a round-trip time
    10MB/s/40MB/s,20ms         uplink / downlink

Units are decimal: 1 MB/s = 10**6 bytes a second, 1 Mbit/s = 10**6 bits a second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vlacut.errors import HardwareError

_SCALE = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_RATE = r"(\d+(?:\.\d+)?)\s*([kKMGT]?)(B/s|bit/s|bps)"
_LINK = re.compile(rf"\s*{_RATE}(?:/{_RATE})?(?:\s*,\s*(\d+(?:\.\d+)?)\s*(us|ms|s))?\s*")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(Ki|Mi|Gi|[kKMGT]?)B\s*")
_TIME = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True)
class Link:
    """The network between the edge and the cloud.

    Attributes:
        up: bytes a second from edge to cloud.
        down: bytes a second from cloud to edge.
        rtt: round-trip time of an empty message, in seconds.
    """

    up: float
    down: float
    rtt: float = 0.0

    def __post_init__(self) -> None:
        if not (self.up > 0 and self.down > 0 and self.rtt >= 0):
            raise HardwareError(f"link {self}: rates must be positive, the round trip not negative")

    @property
    def hop_s(self) -> float:
        """Seconds from sending an empty message to its arrival: half a round trip."""
        return self.rtt / 2

    def __str__(self) -> str:
        rates = _rate_text(self.up)
        if self.down != self.up:
            rates += f"/{_rate_text(self.down)}"
        return f"{rates},{self.rtt * 1e3:.15g}ms"


def _rate_text(rate: float) -> str:
    unit, scale = ("GB/s", 1e9) if rate >= 1e9 else ("MB/s", 1e6)
    return f"{rate / scale:.15g}{unit}"


def parse_link(text: str) -> Link:
    """The link a text describes; HardwareError, with an example, if it does not parse."""
    match = _LINK.fullmatch(text)
    if match is None:
        raise HardwareError(
            f"link {text!r} does not parse; write UP[/DOWN][,RTT], e.g. 10MB/s,20ms "
            f"or 80Mbit/s/200Mbit/s,35ms"
        )
    up = _rate(*match.group(1, 2, 3))
    down = _rate(*match.group(4, 5, 6)) if match.group(4) else up
    rtt = float(match.group(7)) * _TIME[match.group(8)] if match.group(7) else 0.0
    return Link(up, down, rtt)


def _rate(number: str, scale: str, unit: str) -> float:
    return float(number) * _SCALE[scale] / (1 if unit == "B/s" else 8)


def parse_bytes(text: str) -> int:
    """Bytes that a text such as `12.1GB` (decimal) or `386MiB` says; HardwareError otherwise."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise HardwareError(f"size {text!r} does not parse; write e.g. 12.1GB or 386MiB")
    scale = _BINARY.get(match.group(2)) or _SCALE[match.group(2)]
    return round(float(match.group(1)) * scale)
