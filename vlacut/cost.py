"""Cost: what work needs, apart from any machine; and its time on a Device."""

from __future__ import annotations

from dataclasses import dataclass

from vlacut.hardware import Device


@dataclass(frozen=True)
class Cost:
    """Work of an operator (or of several: costs add), per execution.

    Attributes:
        flops: floating-point operations, a multiply-add counting as two.
        bytes_read: bytes of activations read.
        bytes_written: bytes of activations written.
        weight_bytes: bytes of weights read.
        kernels: kernels launched.
    """

    flops: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    weight_bytes: int = 0
    kernels: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.flops + other.flops,
            self.bytes_read + other.bytes_read,
            self.bytes_written + other.bytes_written,
            self.weight_bytes + other.weight_bytes,
            self.kernels + other.kernels,
        )

    @property
    def bytes_moved(self) -> int:
        """All bytes between the processor and its memory."""
        return self.bytes_read + self.bytes_written + self.weight_bytes


def seconds(cost: Cost, device: Device, dtype: str) -> float:
    """Roofline time of one kernel on a device, in seconds.

        max(flops / (peak(dtype) * compute_efficiency),
            bytes / (memory_bandwidth * memory_efficiency)) + kernels * launch_s

    Source of the formula: RoboECC, equation 2, with a launch term added. Apply it per operator:
    the time of a sum is not the sum of the times.
    """
    compute = cost.flops / (device.peak_flops(dtype) * device.compute_efficiency)
    memory = cost.bytes_moved / (device.memory_bandwidth * device.memory_efficiency)
    return max(compute, memory) + cost.kernels * device.launch_s
