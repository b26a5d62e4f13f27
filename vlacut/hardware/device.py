"""Device: what a machine can do, read from a profile in TOML, every figure with its source.

A profile:

    name = "a100"
    memory_bandwidth = 2.039e12         # bytes/s
    memory_bytes = 80e9
    launch_s = 5e-6                     # seconds between dependent kernels
    compute_efficiency = 0.18           # achieved over peak, for large matrix products
    memory_efficiency = 0.6
    [peak]                              # dense FLOP/s by element type
    float32 = 19.5e12
    bfloat16 = 312e12
    [source]                            # one line for every figure above
    memory_bandwidth = "..."
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlacut.errors import HardwareError

_PROFILES = Path(__file__).parent / "profiles"
_FIGURES = (
    "memory_bandwidth",
    "memory_bytes",
    "launch_s",
    "compute_efficiency",
    "memory_efficiency",
)


@dataclass(frozen=True)
class Device:
    """A machine as the cost model sees it.

    Attributes:
        name: as users write it.
        peak: dense FLOP/s by element type.
        memory_bandwidth: bytes a second.
        memory_bytes: memory that weights and activations can use.
        launch_s: seconds a kernel costs beyond its work.
        compute_efficiency: achieved over peak FLOP/s, in (0, 1].
        memory_efficiency: achieved over peak bandwidth, in (0, 1].
        source: where each figure is from.
    """

    name: str
    peak: Mapping[str, float]
    memory_bandwidth: float
    memory_bytes: int
    launch_s: float
    compute_efficiency: float
    memory_efficiency: float
    source: Mapping[str, str]

    def __post_init__(self) -> None:
        if "float32" not in self.peak or any(rate <= 0 for rate in self.peak.values()):
            raise HardwareError(f"device {self.name}: [peak] needs float32, and rates above 0")
        if min(self.memory_bandwidth, self.memory_bytes) <= 0 or self.launch_s < 0:
            raise HardwareError(f"device {self.name}: memory figures must be above 0")
        if not (0 < self.compute_efficiency <= 1 and 0 < self.memory_efficiency <= 1):
            raise HardwareError(f"device {self.name}: efficiencies must be in (0, 1]")
        missing = [figure for figure in (*_FIGURES, "peak") if figure not in self.source]
        if missing:
            raise HardwareError(f"device {self.name}: [source] lacks {', '.join(missing)}")

    def peak_flops(self, dtype: str) -> float:
        """Dense FLOP/s for an element type; types without a rate of their own run at float32's."""
        return self.peak.get(dtype, self.peak["float32"])


def device_names() -> tuple[str, ...]:
    """Names of the profiles in the package, sorted."""
    return tuple(sorted(path.stem for path in _PROFILES.glob("*.toml")))


def load_device(name: str) -> Device:
    """The device of that name in the package, or of that TOML file.

    Raises HardwareError with the nearest names if there is none, or naming the bad figure.
    """
    own = name.endswith(".toml")
    path = Path(name) if own else _PROFILES / f"{name}.toml"
    if not path.is_file():
        near = difflib.get_close_matches(name, device_names(), n=3, cutoff=0.3) or device_names()
        wrong = f"no such file: {name}" if own else f"unknown device {name!r}"
        raise HardwareError(f"{wrong}; did you mean {', '.join(near)}?")
    return _parse(path)


def _parse(path: Path) -> Device:
    import tomllib  # the robot's Python 3.10 lacks it, and reads no profile

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HardwareError(f"{path}: not TOML: {error}") from error
    return Device(
        name=str(table.get("name", path.stem)),
        peak={str(dtype): _number(path, table.get("peak", {}), dtype) for dtype in _peaks(table)},
        memory_bandwidth=_number(path, table, "memory_bandwidth"),
        memory_bytes=int(_number(path, table, "memory_bytes")),
        launch_s=_number(path, table, "launch_s"),
        compute_efficiency=_number(path, table, "compute_efficiency"),
        memory_efficiency=_number(path, table, "memory_efficiency"),
        source={str(key): str(value) for key, value in dict(table.get("source", {})).items()},
    )


def _peaks(table: Mapping[str, Any]) -> tuple[str, ...]:
    peak = table.get("peak", {})
    return tuple(peak) if isinstance(peak, Mapping) else ()


def _number(path: Path, table: Mapping[str, Any], key: str) -> float:
    value = table.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise HardwareError(f"{path}: {key} is {value!r}, must be a number")
    return float(value)
