"""What a picture costs coded: the figures of `vlacut/pricing/picture_cost.py`.

    pip install scikit-image scikit-learn pillow 'vlacut[pictures]'
    python tools/measure_pictures.py

Five photographs that come with scikit-image and scikit-learn, cropped to squares, at the sides that
policies see, through the coders of the runtime. Times are minima of the thread's own clock, so that
what else runs here counts little. `--others` adds other libraries and formats (pip install qoi).
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import sklearn.datasets
from PIL import Image
from skimage import data

from vlacut.runtime.wire.codecs import coder_of
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec

TURNS = 40
Measured = tuple[float, float, float]


def main() -> None:
    """Print bits, and nanoseconds to encode and decode, a pixel."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--others", action="store_true")
    asked = parser.parse_args()
    shown = [data.astronaut(), data.chelsea(), data.coffee()]
    shown += [sklearn.datasets.load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    for side in (16, 224, 512):
        squares = [square(array, side) for array in shown]
        planes = [np.ascontiguousarray(one.transpose(2, 0, 1)) for one in squares]
        for codec in (each for each in Codec if each.varies):
            say(side, f"{codec}", [measured(codec, one) for one in squares])
            say(side, f"{codec}, channels first", [measured(codec, one) for one in planes])
        for name, (write, read) in others().items() if asked.others else ():
            rows = [timed(partial(write, one), read, one.size // 3) for one in squares]
            say(side, name, rows)


def square(array: np.ndarray, side: int) -> np.ndarray:
    """The largest square at the upper left, made smaller."""
    least = min(array.shape[:2])
    cut = Image.fromarray(array).convert("RGB").crop((0, 0, least, least))
    return np.array(cut.resize((side, side), Image.Resampling.LANCZOS))


def measured(codec: Codec, array: np.ndarray) -> Measured:
    """Bits, and nanoseconds to encode and decode, a pixel."""
    coder = coder_of(codec, TensorSpec("x", "uint8", array.shape))
    room, back = np.empty(coder.nbytes, np.uint8), np.empty_like(array)
    size = coder.encode(array, room)
    return timed(
        lambda: room[: coder.encode(array, room)],
        lambda coded: coder.decode(coded[:size], back),
        array.size // 3,
    )


def timed(write: Callable[[], object], read: Callable[..., object], pixels: int) -> Measured:
    """The same of a function that writes, and one that reads what it wrote."""
    encode_s = decode_s = float("inf")
    for _ in range(TURNS):
        start = time.thread_time()
        made = write()
        encode_s, start = min(encode_s, time.thread_time() - start), time.thread_time()
        read(made)
        decode_s = min(decode_s, time.thread_time() - start)
    bits = 8 * len(made) / pixels  # type: ignore[arg-type]  # bytes, or an array of them
    return bits, encode_s / pixels * 1e9, decode_s / pixels * 1e9


def others() -> dict[str, tuple[Callable[..., bytes], Callable[[bytes], object]]]:
    """What else could be taken."""
    import qoi

    def pillow(kind: str, **options: object) -> Callable[[np.ndarray], bytes]:
        def write(array: np.ndarray) -> bytes:
            file = io.BytesIO()
            Image.fromarray(array).save(file, kind, **options)
            return file.getvalue()

        return write

    def read(coded: bytes) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(coded)))

    return {
        "pillow, jpeg 90": (pillow("JPEG", quality=90), read),
        "pillow, png 1": (pillow("PNG", compress_level=1), read),
        "pillow, webp lossless 0": (pillow("WEBP", lossless=True, quality=0, method=0), read),
        "qoi": (qoi.encode, qoi.decode),
    }


def say(side: int, name: str, rows: list[Measured]) -> None:
    """A line: the mean over the photographs."""
    bits, encode, decode = (statistics.mean(column) for column in zip(*rows, strict=True))
    sys.stdout.write(
        f"{side} x {side}, {name}: {bits:.2f} bits, {encode:.2f} ns to encode, {decode:.2f} ns to "
        f"decode, a pixel\n"
    )


if __name__ == "__main__":
    main()
