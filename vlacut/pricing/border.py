"""The border of a side that computes in another element type than what crosses the link.

What crosses has one type. A side whose executor lacks it computes in another, and converts what it
sends and receives, each element once: a kernel that reads one type and writes the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vlacut.hardware import Device
from vlacut.pricing.roofline import Cost, Kernel, device_seconds
from vlacut.tensor import TensorSpec


def in_types(spec: TensorSpec, types: Mapping[str, str]) -> TensorSpec:
    """A tensor in the type that a side has instead of its own."""
    return replace(spec, dtype=types.get(spec.dtype, spec.dtype))


def conversion_s(spec: TensorSpec, target: str, device: Device) -> float:
    """Seconds in which a device converts a tensor to another type, or back."""
    moved = spec.nbytes + replace(spec, dtype=target).nbytes
    return device_seconds(Kernel("pointwise", Cost(bytes_read=moved, kernels=1)), device)
