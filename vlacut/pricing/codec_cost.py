"""The time of codecs: a call, and each element at a measured rate, but no faster than memory.

    seconds = call + max(elements x (element + conversion), bytes read and written / bandwidth)

`element` is that of the codec on float32; `conversion` is what another element type takes beyond.
The figures are those of one core of an AMD EPYC server (numpy 2.4): minima of the thread's own
clock, fitted and compared with what they predict by `tools/bench_codecs.py`. They stand for the
processor of either machine; a robot's core is slower. The bandwidth is the device's.
"""

from __future__ import annotations

import math

from vlacut.hardware import Device
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec, coded_bytes

# Seconds to encode, and to decode.
_CALL_S = {
    Codec.FP16: (5.0e-6, 2.3e-6),
    Codec.BF16: (8.0e-6, 3.3e-6),
    Codec.INT8: (12.7e-6, 4.4e-6),
    Codec.INT4: (22.5e-6, 7.1e-6),
}
_ELEMENT_S = {
    Codec.FP16: (1.62e-9, 1.22e-9),
    Codec.BF16: (0.41e-9, 0.09e-9),
    Codec.INT8: (0.47e-9, 0.21e-9),
    Codec.INT4: (1.28e-9, 0.64e-9),
}
_CONVERSION_S = {
    "float32": (0.0, 0.0),
    "float64": (0.20e-9, 0.15e-9),
    "float16": (1.15e-9, 2.40e-9),
    "bfloat16": (0.15e-9, 0.40e-9),
}


def encode_s(codec: Codec, spec: TensorSpec, device: Device) -> float:
    """Seconds to write a tensor in coded form; `takes` must hold."""
    return _seconds(codec, spec, device, 0)


def decode_s(codec: Codec, spec: TensorSpec, device: Device) -> float:
    """Seconds to read it back."""
    return _seconds(codec, spec, device, 1)


def _seconds(codec: Codec, spec: TensorSpec, device: Device, way: int) -> float:
    element_s = _ELEMENT_S[codec][way] + _CONVERSION_S[spec.dtype][way]
    touched = spec.nbytes + coded_bytes(codec, spec)
    worked_s = math.prod(spec.shape) * element_s
    return _CALL_S[codec][way] + max(worked_s, touched / device.memory_bandwidth)
