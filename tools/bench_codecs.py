"""Codecs on this machine: seconds by size, and what `vlacut.pricing.codec_cost` makes of them.

    python tools/bench_codecs.py [--turns 200]

Times are minima of the thread's own clock over all turns, so that what else runs here counts
little. A codec's time is fitted as a call and seconds an element, by least squares of the relative
error over the sizes; conversions are what another element type takes beyond float32. The first
table is what `vlacut/pricing/codec_cost.py` holds; the second says how far it is from what was
measured now. The signal-to-noise ratios are of normal numbers, with one column in 64 twenty times
as large, as transformers have them.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import track

from vlacut.cli.show.output import table
from vlacut.hardware import load_device
from vlacut.pricing.codec_cost import decode_s, encode_s
from vlacut.runtime.wire.codecs import coder_of
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec, coded_bytes, parse_codecs, takes

SHAPES = ((1, 64), (16, 256), (64, 1024), (256, 1024), (280, 4096))
DTYPES = ("float32", "float64", "float16", "bfloat16")


@dataclass(frozen=True)
class Row:
    """A codec on a tensor: seconds to encode and decode, and the ratio of signal to noise."""

    codec: Codec
    spec: TensorSpec
    encode_s: float
    decode_s: float
    decibels: float

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.spec.shape)


def main() -> None:
    """Measure, fit, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=200)
    turns = parser.parse_args().turns
    cases = [
        (codec, TensorSpec("x", dtype, shape))
        for codec in parse_codecs("all")
        for dtype in DTYPES
        for shape in SHAPES
    ]
    cases = [case for case in cases if takes(*case)]
    rows = [measure(*case, turns) for case in track(cases, "measure", console=Console(stderr=True))]
    out = Console(width=110, highlight=False)
    fitted = ("codec", "type", "encode: a call", "an element", "decode: a call", "an element")
    out.print(table("Fitted, microseconds and nanoseconds", fitted, list(fits(rows)), left=2))
    each = ("codec", "type", "shape", "bytes", "of raw", "encode us", "decode us", "model", "dB")
    out.print(table("\nMeasured; the model's time over it", each, list(map(line, rows)), left=3))


def measure(codec: Codec, spec: TensorSpec, turns: int) -> Row:
    """One row."""
    wide = numbers(spec.shape)
    array = as_type(wide, spec.dtype)
    coder = coder_of(codec, spec)
    coded, back = np.empty(coder.nbytes, np.uint8), np.empty_like(array)
    encode = least(lambda: coder.encode(array, coded), turns)
    decode = least(lambda: coder.decode(coded, back), turns)
    exact = as_wide(array, spec.dtype)
    noise = float(np.mean((as_wide(back, spec.dtype) - exact) ** 2))
    return Row(codec, spec, encode, decode, 10 * math.log10(float(np.mean(exact**2)) / noise))


def numbers(shape: tuple[int, ...]) -> np.ndarray:
    """Activations as transformers have them."""
    made = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    made[:, ::64] *= 20
    return made


def as_type(wide: np.ndarray, dtype: str) -> np.ndarray:
    """The numbers as another type carries them."""
    if dtype == "bfloat16":
        return (wide.view(np.uint32) >> 16).astype(np.uint16)
    return wide.astype(dtype)


def as_wide(array: np.ndarray, dtype: str) -> np.ndarray:
    """The numbers that an array carries, as float64."""
    if dtype == "bfloat16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)


def least(action: Callable[[], object], turns: int) -> float:
    """The shortest of all turns, by the thread's own clock."""
    found = math.inf
    for _ in range(turns):
        start = time.thread_time()
        action()
        found = min(found, time.thread_time() - start)
    return found


def fits(rows: list[Row]) -> Iterator[tuple[str, ...]]:
    """What `codec_cost` should hold."""
    for codec, dtype in dict.fromkeys((row.codec, row.spec.dtype) for row in rows):
        kept = [row for row in rows if (row.codec, row.spec.dtype) == (codec, dtype)]
        sizes = np.array([row.size for row in kept], float)
        cells = [codec.value, dtype]
        for spent in (
            np.array([row.encode_s for row in kept]),
            np.array([row.decode_s for row in kept]),
        ):
            terms = np.stack([np.ones_like(sizes), sizes], axis=1) / spent[:, None]
            call, element = np.linalg.lstsq(terms, np.ones_like(spent), rcond=None)[0]
            cells += [f"{call * 1e6:.1f}", f"{element * 1e9:.2f}"]
        yield tuple(cells)


def line(row: Row) -> tuple[str, ...]:
    """A row of the table of what was measured."""
    here = load_device("a100")  # its memory is never what a codec waits for
    expected = encode_s(row.codec, row.spec, here) + decode_s(row.codec, row.spec, here)
    nbytes = coded_bytes(row.codec, row.spec)
    return (
        row.codec.value,
        row.spec.dtype,
        "x".join(map(str, row.spec.shape)),
        str(nbytes),
        f"{nbytes / row.spec.nbytes:.3f}",
        f"{row.encode_s * 1e6:.1f}",
        f"{row.decode_s * 1e6:.1f}",
        f"{expected / (row.encode_s + row.decode_s):.2f}",
        f"{row.decibels:.1f}",
    )


if __name__ == "__main__":
    main()
