"""What a picture costs as JPEG: the figures of `vlacut_passes/partitioning/jpeg.py`.

    pip install scikit-image scikit-learn pillow && python tools/measure_jpeg.py

Five photographs that come with scikit-image and scikit-learn, cropped to squares, at the sides that
policies see.
"""

from __future__ import annotations

import io
import statistics
import sys
import time

import numpy as np
import sklearn.datasets
from PIL import Image
from skimage import data

QUALITY = 90
TURNS = 60


def main() -> None:
    """Print bits, and nanoseconds to encode and decode, a pixel."""
    shown = [data.astronaut(), data.chelsea(), data.coffee()]
    shown += [sklearn.datasets.load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    for side in (224, 512):
        rows = [measure(Image.fromarray(array), side) for array in shown]
        bits, encode, decode = (statistics.mean(column) for column in zip(*rows, strict=True))
        sys.stdout.write(
            f"{side} x {side}, quality {QUALITY}: {bits:.2f} bits, {encode:.1f} ns to encode, "
            f"{decode:.1f} ns to decode, a pixel\n"
        )


def measure(picture: Image.Image, side: int) -> tuple[float, float, float]:
    """Bits, and median nanoseconds to encode and decode, a pixel."""
    least = min(picture.size)
    square = picture.convert("RGB").crop((0, 0, least, least))
    square = square.resize((side, side), Image.Resampling.LANCZOS)
    encoded, decoded = [], []
    for _ in range(TURNS):
        file, start = io.BytesIO(), time.perf_counter_ns()
        square.save(file, "JPEG", quality=QUALITY)
        encoded.append(time.perf_counter_ns() - start)
        start = time.perf_counter_ns()
        np.asarray(Image.open(file))
        decoded.append(time.perf_counter_ns() - start)
    pixels = side * side
    spent = (statistics.median(encoded) / pixels, statistics.median(decoded) / pixels)
    return (8 * file.getbuffer().nbytes / pixels, *spent)


if __name__ == "__main__":
    main()
