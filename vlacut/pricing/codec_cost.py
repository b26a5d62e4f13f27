"""The time of codecs: a call, and each element at a measured rate, but no faster than memory.

    seconds = call + max(elements x (element + conversion), bytes read and written / bandwidth)

`element` is the codec's time on float32; `conversion` is what another element type adds. The
figures are the device's if `vlacut calibrate` measured it; they contain the bound by memory.
Otherwise they are for one core of an AMD EPYC server (numpy 2.4), as minima of the thread's own
clock. `tools/bench_codecs.py` fits them, and compares them with what they predict. They
stand for the processor of either machine; a robot's core is slower. The bandwidth is the device's.
"""

from __future__ import annotations

import math

from vlacut.hardware import Device
from vlacut.hardware.codec_speed import CodecSpeed
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec, coded_bytes

_CONVERSION_S = (
    {"float64": 0.20e-9, "float16": 1.15e-9, "bfloat16": 0.15e-9},
    {"float64": 0.15e-9, "float16": 2.40e-9, "bfloat16": 0.40e-9},
)
# To encode, and to decode.
_SERVER = (
    {
        Codec.FP16: CodecSpeed(5.0e-6, 1.62e-9, conversion_s=_CONVERSION_S[0]),
        Codec.BF16: CodecSpeed(8.0e-6, 0.41e-9, conversion_s=_CONVERSION_S[0]),
        Codec.INT8: CodecSpeed(12.7e-6, 0.47e-9, conversion_s=_CONVERSION_S[0]),
        Codec.INT4: CodecSpeed(22.5e-6, 1.28e-9, conversion_s=_CONVERSION_S[0]),
    },
    {
        Codec.FP16: CodecSpeed(2.3e-6, 1.22e-9, conversion_s=_CONVERSION_S[1]),
        Codec.BF16: CodecSpeed(3.3e-6, 0.09e-9, conversion_s=_CONVERSION_S[1]),
        Codec.INT8: CodecSpeed(4.4e-6, 0.21e-9, conversion_s=_CONVERSION_S[1]),
        Codec.INT4: CodecSpeed(7.1e-6, 0.64e-9, conversion_s=_CONVERSION_S[1]),
    },
)


def encode_s(codec: Codec, spec: TensorSpec, device: Device) -> float:
    """Seconds to write a tensor in coded form; `takes` must hold."""
    return _seconds(codec, spec, device, 0)


def decode_s(codec: Codec, spec: TensorSpec, device: Device) -> float:
    """Seconds to read it back."""
    return _seconds(codec, spec, device, 1)


def _seconds(codec: Codec, spec: TensorSpec, device: Device, way: int) -> float:
    measured = measured_speed(codec.value, device, way)
    speed = measured or _SERVER[way][codec]
    element_s = speed.element_s + speed.conversion_s.get(spec.dtype, 0.0)
    worked_s = math.prod(spec.shape) * element_s
    if measured:
        return speed.call_s + worked_s
    touched = spec.nbytes + coded_bytes(codec, spec)
    return speed.call_s + max(worked_s, touched / device.memory_bandwidth)


def measured_speed(name: str, device: Device, way: int) -> CodecSpeed | None:
    """What was measured of a codec on a device, to encode (0) or to decode (1); None if nothing."""
    if device.codecs is None:
        return None
    return (device.codecs.encode, device.codecs.decode)[way].get(name)
