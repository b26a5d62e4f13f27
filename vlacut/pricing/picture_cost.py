"""What coded pictures cost: bytes, as in the example or as of photographs, and time.

    seconds = call + max(pixels x (pixel + bits x bit), bytes read and written / bandwidth)

`bits` is the number of bits per pixel in coded form. Seconds are the device's if `vlacut calibrate`
measured it; they contain the bound by memory. Otherwise they are for one core of an AMD EPYC server
(simplejpeg 1.9 on libjpeg-turbo, zstd of backports.zstd 1.8, numpy 2.4), as printed by
`tools/measure_pictures.py`: means over five photographs of 224 x 224 and 512 x 512 pixels, and
`call` at 16 x 16. They stand for the processor of either machine. A robot's core is slower, and
codecs in hardware are faster. The bandwidth is the device's.
"""

from __future__ import annotations

import math

from vlacut.hardware import Device
from vlacut.hardware.codec_speed import JPEG, CodecSpeed
from vlacut.pricing.codec_cost import measured_speed
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec
from vlacut.tensor.picture import Pictures, pictures_in

# Bits per pixel of photographs at 224 x 224.
USUAL_BITS = {
    Codec.ZSTD: 13.49,
    Codec.JPEG95: 3.92,
    Codec.JPEG90: 2.77,
    Codec.JPEG85: 2.23,
    Codec.JPEG80: 1.92,
    Codec.JPEG75: 1.69,
    Codec.JPEG70: 1.54,
    Codec.JPEG65: 1.42,
    Codec.JPEG60: 1.31,
    Codec.JPEG55: 1.23,
    Codec.JPEG50: 1.16,
}
# To encode, and to decode.
_SERVER = {
    JPEG: (
        CodecSpeed(5.0e-6, 1.40e-9, 0.27e-9, 0.77e-9),
        CodecSpeed(8.0e-6, 1.00e-9, 0.75e-9, 1.00e-9),
    ),
    Codec.ZSTD.value: (
        CodecSpeed(11.0e-6, 4.60e-9),
        CodecSpeed(17.0e-6, 6.20e-9, planar_s=3.60e-9),
    ),
}


def usual_bytes(codec: Codec, spec: TensorSpec) -> int:
    """Bytes of a tensor of photographs in coded form."""
    found = _pictures(spec)
    shown = found.pixels * USUAL_BITS[codec] * found.channels / 3
    return min(math.ceil(shown / 8), spec.nbytes)


def encode_s(codec: Codec, spec: TensorSpec, nbytes: int, device: Device) -> float:
    """Seconds to write a tensor of pictures in coded form, of so many bytes."""
    return _seconds(codec, spec, nbytes, device, 0)


def decode_s(codec: Codec, spec: TensorSpec, nbytes: int, device: Device) -> float:
    """Seconds to read it back."""
    return _seconds(codec, spec, nbytes, device, 1)


def _seconds(codec: Codec, spec: TensorSpec, nbytes: int, device: Device, way: int) -> float:
    found = _pictures(spec)
    name = codec.value if codec.quality is None else JPEG
    measured = measured_speed(name, device, way)
    speed = measured or _SERVER[name][way]
    each_s = speed.element_s + (speed.planar_s if found.channels_first else 0.0)
    worked_s = found.pixels * found.channels / 3 * each_s + 8 * nbytes * speed.bit_s
    if measured:
        return speed.call_s + worked_s
    return speed.call_s + max(worked_s, (spec.nbytes + nbytes) / device.memory_bandwidth)


def _pictures(spec: TensorSpec) -> Pictures:
    found = pictures_in(spec)
    assert found is not None, f"{spec} holds no pictures"
    return found
