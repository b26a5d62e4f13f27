"""Codecs against their specification: test vectors, a slow reader and writer of it, and bounds."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support.coding import decoded, encoded, there_and_back

from vlacut.errors import InputError
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec, coded_bytes, parse_codecs, takes

LOSSY = tuple(codec for codec in parse_codecs("all") if not codec.varies)
WIDTHS = {Codec.FP16: 11, Codec.BF16: 8}  # significant bits


def test_vectors() -> None:
    """The bytes on the wire, as the docstring of `runtime.codecs` specifies them."""
    row = np.array([[1.0, -2.0, 127.0], [0.0, 0.0, 0.0]], np.float32)
    assert encoded(Codec.INT8, row).tobytes().hex() == "0000803f00000000" + "01fe7f" + "000000"
    odd = np.array([7.0, -7.0, 3.4, 0.0, 100.0], np.float32)[:3]
    assert encoded(Codec.INT4, odd).tobytes().hex() == "803f" + "1f" + "8b"
    numbers = np.array([1.0, -2.0, 1e-8, 65520.0, -np.inf], np.float32)
    assert encoded(Codec.FP16, numbers).tobytes().hex() == "003c00c00000ff7b00fc"
    assert encoded(Codec.BF16, numbers).tobytes().hex() == "803f00c02c32804780ff"
    lost = np.array([[np.nan, 1.0], [np.inf, 1.0]], np.float32)
    assert encoded(Codec.INT8, lost).tobytes().hex() == "0000c07f" * 2 + "00" * 4
    assert encoded(Codec.INT4, lost).tobytes().hex() == "c07f" + "8888"
    assert encoded(Codec.FP16, -lost[0]).tobytes().hex() == "007e00bc"
    assert encoded(Codec.BF16, -lost[0]).tobytes().hex() == "c07f80bf"


def rounded(x: float, bits: int, least_exponent: int) -> Fraction:
    """To so many significant bits, ties to even, by Python's integers."""
    exact = Fraction(x)
    if not exact:
        return exact
    exponent = max(math.frexp(x)[1] - bits, least_exponent)
    return round(exact / Fraction(2) ** exponent) * Fraction(2) ** exponent


def single(x: float) -> float:
    """To float32, as the docstring's `float32(x)`."""
    return float(np.float32(x))


def bf16(x: float) -> float:
    return float(min(max(rounded(x, 8, -133), -Fraction(*TOP_BF16)), Fraction(*TOP_BF16)))


TOP_BF16 = np.array(0x7F7F0000, np.uint32).view(np.float32).item().as_integer_ratio()
TOP_FP16 = (65504, 1)
CAP_INT8, CAP_INT4 = np.array([0x7C010203, 0x7E120000], np.uint32).view(np.float32).tolist()


def slow(codec: Codec, values: list[float], width: int) -> list[float]:
    """What comes back, straight from the docstring: finite float32 numbers, in rows."""
    if codec is Codec.FP16:
        top = Fraction(*TOP_FP16)
        return [float(min(max(rounded(x, 11, -24), -top), top)) for x in values]
    if codec is Codec.BF16:
        return [bf16(x) for x in values]
    size, most = (width, 127) if codec is Codec.INT8 else (32, 7)
    made: list[float] = []
    for start in range(0, len(values), size):
        row = values[start : start + size]
        scale = single(single(max(map(abs, row))) / most)
        scale = min(bf16(scale), CAP_INT4) if codec is Codec.INT4 else min(scale, CAP_INT8)
        for x in row:
            code = round(Fraction(single(x / scale))) if scale else 0
            made.append(single(min(max(code, -most), most) * scale))
    return made


FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=40)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(LOSSY), arrays.arrays(np.float32, SHAPES, elements=FINITE))
def test_what_comes_back_is_what_the_specification_says(codec: Codec, array: np.ndarray) -> None:
    """Denormals, zeros, the largest numbers and odd sizes included."""
    width = array.shape[-1] if array.shape else 1
    with np.errstate(under="ignore"):
        expected = slow(codec, array.reshape(-1).tolist(), width)
    found = there_and_back(codec, array)
    np.testing.assert_array_equal(found.reshape(-1), np.array(expected, np.float32))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(LOSSY), arrays.arrays(np.float32, SHAPES, elements=st.floats(width=32)))
def test_what_is_no_number_is_not_lost(codec: Codec, array: np.ndarray) -> None:
    found = there_and_back(codec, array)
    bad = ~np.isfinite(array)
    if codec in WIDTHS:
        np.testing.assert_array_equal(np.isnan(found), np.isnan(array))
        infinite = np.isinf(array)
        np.testing.assert_array_equal(found[infinite], array[infinite])
        assert np.isfinite(found[~bad]).all()
        return
    if codec is Codec.INT8:
        hit = np.broadcast_to(bad.any(axis=-1, keepdims=True) if array.shape else bad, array.shape)
    else:
        groups = np.add.reduceat(bad.reshape(-1), range(0, bad.size, 32)) > 0
        hit = np.repeat(groups, 32)[: bad.size].reshape(array.shape)
    np.testing.assert_array_equal(np.isnan(found), hit)
    assert np.isfinite(found[~hit]).all()


@pytest.mark.parametrize("codec", LOSSY)
@pytest.mark.parametrize("shape", [(3, 5000), (700, 64), (20_001,), ()])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_large_tensors_of_every_type(codec: Codec, shape: tuple[int, ...], dtype: str) -> None:
    """Across the blocks that a coder works in; against the rows and groups one by one."""
    if not takes(codec, TensorSpec("x", dtype, shape)):
        assert dtype in ("float16", "bfloat16")
        return
    wide = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    array = wide.astype(np.float64 if dtype == "float64" else np.float16)
    if dtype in ("float32", "bfloat16"):
        array = wide if dtype == "float32" else (wide.view(np.uint32) >> 16).astype(np.uint16)
    if dtype == "bfloat16":
        wide = (array.astype(np.uint32) << 16).view(np.float32)
    else:
        wide = array.astype(np.float32)
    size = {Codec.INT8: wide.shape[-1] if shape else 1, Codec.INT4: 32}.get(codec, 4000)
    flat, expected = wide.reshape(-1), []
    for start in range(0, flat.size, size):
        expected.append(there_and_back(codec, flat[start : start + size]))
    found = there_and_back(codec, array, dtype)
    assert found.shape == array.shape
    narrow = np.concatenate(expected).reshape(shape)
    if dtype == "bfloat16":
        narrow = decoded(Codec.BF16, encoded(Codec.BF16, narrow), narrow)
        found = (found.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(found, narrow.astype(found.dtype))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(LOSSY), arrays.arrays(np.float32, SHAPES, elements=FINITE))
def test_the_error_is_within_half_a_step(codec: Codec, array: np.ndarray) -> None:
    """Of the scale, or of the last bit; and what came back comes back the same again."""
    found = there_and_back(codec, array).astype(np.float64)
    exact = array.astype(np.float64)
    error = np.abs(found - exact)
    if codec in WIDTHS:
        top = float(Fraction(*(TOP_FP16 if codec is Codec.FP16 else TOP_BF16)))
        least = 2.0**-25 if codec is Codec.FP16 else 2.0**-134
        allowed = np.maximum(np.abs(exact) * 2.0 ** -WIDTHS[codec], least)
        assert (error <= allowed)[np.abs(exact) <= top].all()
        np.testing.assert_array_equal(there_and_back(codec, found.astype(np.float32)), found)
        return
    if codec is Codec.INT8:
        largest = np.abs(exact).max(axis=-1, keepdims=True) if array.shape else np.abs(exact)
        steps, least = 127, 2.0**-142  # a scale below the normal numbers has few digits
    else:
        flat = np.abs(exact).reshape(-1)
        tops = np.maximum.reduceat(flat, range(0, flat.size, 32))
        largest = np.repeat(tops, 32)[: flat.size].reshape(array.shape)
        steps, least = 7, 2.0**-130
    assert (error <= largest / steps * 0.53 + least).all()


def test_any_bytes_decode() -> None:
    numbers = np.random.default_rng(3)
    for codec in LOSSY:
        for shape in ((4, 33), (1, 1), (65,)):
            like = np.zeros(shape, np.float32)
            spec = TensorSpec("x", "float32", shape)
            coded = numbers.integers(0, 256, coded_bytes(codec, spec)).astype(np.uint8)
            assert decoded(codec, coded, like).shape == shape


def test_only_floating_point_tensors_are_coded() -> None:
    for dtype in ("int64", "bool", "uint8", "int8", "complex64", "float8e5m2"):
        assert not any(takes(codec, TensorSpec("x", dtype, (4, 4))) for codec in LOSSY)
    assert takes(Codec.NONE, TensorSpec("x", "int64", (4, 4)))
    assert not takes(Codec.INT8, TensorSpec("x", "float32", (0, 4)))


def test_bytes_of_coded_tensors() -> None:
    spec = TensorSpec("x", "float32", (2, 3, 40))
    sizes = [coded_bytes(codec, spec) for codec in (Codec.NONE, *LOSSY)]
    assert sizes == [960, 480, 480, 240 + 6 * 4, 120 + 8 * 2]
    assert coded_bytes(Codec.INT4, TensorSpec("x", "float32", (33,))) == 17 + 4


def test_codecs_as_users_write_them() -> None:
    assert parse_codecs("") == parse_codecs("none") == ()
    assert parse_codecs("int8,fp16") == (Codec.FP16, Codec.INT8)
    with pytest.raises(InputError, match="no codec 'int9'; write all, or some of fp16,bf16,int8"):
        parse_codecs("fp16,int9")
