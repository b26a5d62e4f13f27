"""Link: the network between edge and cloud, and how users write one.

    10MB/s                     both directions alike; no round trip, and messages cost nothing
    80Mbit/s,20ms              with a round-trip time
    10MB/s/40MB/s,20ms         uplink / downlink
    my-link.toml               a file that sets the other figures too

Units are decimal: 1 MB/s = 10**6 bytes per second, 1 Mbit/s = 10**6 bits per second. Rates are
those of the wire: tensors get less, by the headers of the segments.

    up = "80Mbit/s"            # the only figure that a file must give
    down = "200Mbit/s"         # as up
    rtt = "20ms"               # 0s
    message = "50us"           # a message beyond its bytes: 50us if there is a round trip
    segment_bytes = 1448       # see `Framing`
    header_bytes = 66
    initial_segments = 10
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlacut.errors import HardwareError

_SCALE = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_RATE = r"(\d+(?:\.\d+)?)\s*([kKMGT]?)(B/s|bit/s|bps)"
_SPAN = r"(\d+(?:\.\d+)?)\s*(us|ms|s)"
_LINK = re.compile(rf"\s*{_RATE}(?:/{_RATE})?(?:\s*,\s*{_SPAN})?\s*")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(Ki|Mi|Gi|[kKMGT]?)B\s*")
_TIME = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_ENTRIES = ("up", "down", "rtt", "message", "segment_bytes", "header_bytes", "initial_segments")


@dataclass(frozen=True)
class Framing:
    """What TCP puts around the bytes of a message.

    Attributes:
        segment_bytes: bytes of a message in a full segment. Default: the 1500 bytes of an Ethernet
            frame less 20 of IPv4 (RFC 791) and 32 of TCP with timestamps (RFC 9293, RFC 7323).
        header_bytes: bytes of headers per segment: those 52, and 14 of Ethernet (IEEE 802.3). An
            80 Mbit/s link then carries 76.5; 76 to 77 were measured over a shaped veth pair.
        initial_segments: segments sent before the first acknowledgement, on a new or idle
            connection (RFC 6928, RFC 9293 3.8.1).

    Raises HardwareError for a segment without a byte, or headers below 0.
    """

    segment_bytes: int = 1448
    header_bytes: int = 66
    initial_segments: int = 10

    def __post_init__(self) -> None:
        if min(self.segment_bytes, self.initial_segments) < 1 or self.header_bytes < 0:
            raise HardwareError(f"{self}: segments hold a byte at least, headers none at least")

    @property
    def share(self) -> float:
        """The share of the wire's rate that is left to the bytes of messages."""
        return self.segment_bytes / (self.segment_bytes + self.header_bytes)


# Over loopback on a 2-core Linux host: 11 us from send to receive of 25 KB over a raw socket, 26 us
# to encode a header and 9 us to decode it. Medians; rounded.
MESSAGE_S = 50e-6


@dataclass(frozen=True)
class Link:
    """The network between the edge and the cloud.

    Attributes:
        up: bytes of tensors per second from edge to cloud; headers are not counted.
        down: the same from cloud to edge.
        rtt: round-trip time of an empty message, in seconds.
        message_s: seconds per message beyond its bytes and its propagation: the work of both
            ends on headers and sockets.
        framing: what TCP adds.

    Raises HardwareError for a rate that is not above 0, or a time below 0.
    """

    up: float
    down: float
    rtt: float = 0.0
    message_s: float = 0.0
    framing: Framing = Framing()

    def __post_init__(self) -> None:
        if not (self.up > 0 and self.down > 0 and min(self.rtt, self.message_s) >= 0):
            raise HardwareError(f"link {self}: rates must be positive, times not negative")

    @property
    def hop_s(self) -> float:
        """Seconds from sending an empty message to its arrival: half a round trip, and its cost."""
        return self.rtt / 2 + self.message_s

    @property
    def wire_up(self) -> float:
        """Bytes per second up, headers included: the rate as users write it."""
        return self.up / self.framing.share

    @property
    def wire_down(self) -> float:
        """Bytes per second down, headers included."""
        return self.down / self.framing.share

    def at(self, wire_up: float) -> Link:
        """The link with another rate of the wire up; the one down keeps its ratio to it."""
        up = wire_up * self.framing.share
        return dataclasses.replace(self, up=up, down=up * self.down / self.up)

    def first_burst_s(self, nbytes: int, rate: float) -> float:
        """How many seconds longer a message takes on an idle connection than on a warm one.

        TCP forgets its window when idle for longer than its retransmission timeout (RFC 5681, 4.1)
        and starts from `initial_segments`, doubling it every round trip. A window that is sent in
        less than a round trip waits for its acknowledgement:

            sum of max(0, rtt - window / rate), over all windows before the message's last

        This is an upper bound: an idle connection may keep part of its window. A message every
        100 ms keeps the window, and saves this time. The price of a cut does not count it.

        Args:
            nbytes: bytes of the message.
            rate: bytes per second in its direction, `up` or `down`.
        """
        window = self.framing.initial_segments * self.framing.segment_bytes
        waits, left = 0.0, nbytes
        while left > window and window / rate < self.rtt:
            waits += self.rtt - window / rate
            left -= window
            window *= 2
        return waits

    def __str__(self) -> str:
        rates = _rate_text(self.wire_up)
        if self.down != self.up:
            rates += f"/{_rate_text(self.wire_down)}"
        return f"{rates},{self.rtt * 1e3:.12g}ms"


def _rate_text(rate: float) -> str:
    unit, scale = ("GB/s", 1e9) if rate >= 1e9 else ("MB/s", 1e6)
    return f"{rate / scale:.12g}{unit}"


def parse_link(text: str) -> Link:
    """The link that a text or a TOML file describes.

    Raises HardwareError, with an example, if it does not parse.
    """
    if text.endswith(".toml"):
        return _read_link(Path(text))
    match = _LINK.fullmatch(text)
    if match is None:
        raise HardwareError(
            f"link {text!r} does not parse; write UP[/DOWN][,RTT], e.g. 10MB/s,20ms "
            f"or 80Mbit/s/200Mbit/s,35ms, or name a .toml file"
        )
    up = _rate(*match.group(1, 2, 3))
    down = _rate(*match.group(4, 5, 6)) if match.group(4) else up
    rtt = _seconds(*match.group(7, 8)) if match.group(7) else 0.0
    return _link(up, down, rtt)


def _link(
    up: float,
    down: float,
    rtt: float,
    message_s: float | None = None,
    framing: Framing = Framing(),
) -> Link:
    """The link of these rates of the wire."""
    if message_s is None:
        message_s = MESSAGE_S if rtt else 0.0
    return Link(up * framing.share, down * framing.share, rtt, message_s, framing)


def _read_link(path: Path) -> Link:
    import tomllib  # the robot's Python 3.10 lacks it, and reads no link

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HardwareError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not text
        raise HardwareError(f"{path}: not TOML: {error}") from error
    unknown = [name for name in table if name not in _ENTRIES]
    if unknown:
        raise HardwareError(f"{path}: no entry {unknown[0]!r}; there are {', '.join(_ENTRIES)}")
    up = _rate_of(path, table, "up")
    framing = {
        field.name: _count(path, table, field.name)
        for field in dataclasses.fields(Framing)
        if field.name in table
    }
    return _link(
        up,
        _rate_of(path, table, "down") if "down" in table else up,
        _span_of(path, table, "rtt") if "rtt" in table else 0.0,
        _span_of(path, table, "message") if "message" in table else None,
        Framing(**framing),
    )


def _rate_of(path: Path, table: Mapping[str, Any], name: str) -> float:
    match = re.fullmatch(_RATE, str(table.get(name)))
    if match is None:
        raise HardwareError(f'{path}: {name} is {table.get(name)!r}; write e.g. "80Mbit/s"')
    return _rate(*match.groups())


def _span_of(path: Path, table: Mapping[str, Any], name: str) -> float:
    match = re.fullmatch(_SPAN, str(table[name]))
    if match is None:
        raise HardwareError(f'{path}: {name} is {table[name]!r}; write e.g. "20ms"')
    return _seconds(*match.groups())


def _count(path: Path, table: Mapping[str, Any], name: str) -> int:
    value = table[name]
    if type(value) is not int:
        raise HardwareError(f"{path}: {name} is {value!r}, must be a whole number")
    return value


def _rate(number: str, scale: str, unit: str) -> float:
    return float(number) * _SCALE[scale] / (1 if unit == "B/s" else 8)


def _seconds(number: str, unit: str) -> float:
    return float(number) * _TIME[unit]


def parse_bytes(text: str) -> int:
    """The bytes in a text such as `12.1GB` (decimal) or `386MiB`; HardwareError otherwise."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise HardwareError(f"size {text!r} does not parse; write e.g. 12.1GB or 386MiB")
    scale = _BINARY.get(match.group(2)) or _SCALE[match.group(2)]
    return round(float(match.group(1)) * scale)


def parse_seconds(text: str) -> float:
    """The seconds in a text such as `100ms` or `0.5s`; HardwareError otherwise."""
    match = re.fullmatch(_SPAN, text.strip())
    if match is None:
        raise HardwareError(f"time {text!r} does not parse; write e.g. 100ms or 0.5s")
    return _seconds(*match.groups())
