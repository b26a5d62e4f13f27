"""Device: what a machine can do, in one power mode, driven by one software stack.

`load_device` takes what users write:

    NAME[@MODE][+STACK]     jetson-agx-orin, jetson-agx-orin@30W+tensorrt, mine.toml+onnxruntime

NAME is a profile of the package or a TOML file; the profile says which mode and which stack a bare
name means. Its form is in `vlacut.hardware.profile`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vlacut.errors import HardwareError
from vlacut.hardware.codec_speed import CodecSpeeds
from vlacut.hardware.power import Power
from vlacut.hardware.stack import Stack


@dataclass(frozen=True)
class Cuda:
    """What engines of TensorRT for a GPU depend on.

    Attributes:
        sm: compute capability, major x 10 + minor.
        oldest, newest: releases of TensorRT that the machine's system software comes with, e.g.
            `10.3`; where the user installs it, those that support the GPU.
    """

    sm: int
    oldest: str
    newest: str


@dataclass(frozen=True)
class Device:
    """A machine as the cost model sees it.

    Attributes:
        name: as users write it, with the mode and the stack where they are not the profile's own.
        peak: dense FLOP/s by element type; by `w8a8`, `w4a8` and `w4a16` that of products which
            read their weights as codes, where it was measured.
        memory_bandwidth: bytes per second.
        memory_bytes: memory of the machine.
        cache_bytes: size of the last cache that all multiprocessors share; 0 for none.
        cache_bandwidth: bytes per second out of that cache.
        multiprocessors: how many tiles are worked on at the same time: the multiprocessors of a
            GPU, or the cores of a CPU.
        stack: the software.
        source: where each figure is from.
        reserve_bytes: memory that the system, the libraries and activations take.
        power: what it draws; None if the profile does not say.
        cuda: what TensorRT needs to know; None if it is no GPU of NVIDIA's.
        codecs: how fast its processor codes tensors; None where that was not measured, so that it
            is priced as that of a server.

    Raises HardwareError, naming the device and the figure, for what no machine can have.
    """

    name: str
    peak: Mapping[str, float]
    memory_bandwidth: float
    memory_bytes: int
    cache_bytes: int
    cache_bandwidth: float
    multiprocessors: int
    stack: Stack
    source: Mapping[str, str]
    reserve_bytes: int = 0
    power: Power | None = None
    cuda: Cuda | None = None
    codecs: CodecSpeeds | None = None

    def __post_init__(self) -> None:
        if "float32" not in self.peak or any(rate <= 0 for rate in self.peak.values()):
            raise HardwareError(f"device {self.name}: [peak] needs float32, and rates above 0")
        if min(self.memory_bandwidth, self.memory_bytes, self.multiprocessors) <= 0:
            raise HardwareError(f"device {self.name}: figures must be above 0")
        if not 0 <= self.reserve_bytes < self.memory_bytes:
            raise HardwareError(
                f"device {self.name}: reserve_bytes ({self.reserve_bytes}) must be from 0 to below "
                f"memory_bytes ({self.memory_bytes})"
            )
        if self.cache_bytes < 0 or self.cache_bandwidth < self.memory_bandwidth:
            raise HardwareError(
                f"device {self.name}: cache_bytes must not be negative, and cache_bandwidth "
                f"({self.cache_bandwidth:.4g}) not below memory_bandwidth"
            )

    @property
    def weight_bytes(self) -> int:
        """Memory that is left for weights."""
        return self.memory_bytes - self.reserve_bytes

    def peak_flops(self, dtype: str) -> float:
        """Dense FLOP/s for an element type; types without a rate of their own run at float32's."""
        if dtype == "float32" and self.stack.tf32:
            return self.peak.get("tf32", self.peak["float32"])
        return self.peak.get(dtype, self.peak["float32"])
