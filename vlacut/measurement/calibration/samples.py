"""The sampling plan: small ONNX graphs, each a chain of one kind of operator at one size.

A chain, not a single operator, so that what a call of an engine costs beyond its operators is
spread over many. The sizes are those of transformers at batch 1: prefill and decode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import onnx_ir as ir

from vlacut.measurement.calibration.chain import Chain, Sample


def sampling_plan() -> Iterator[Sample]:
    """All samples: some 210 graphs of at most 64 MB of weights each."""
    yield from products()
    yield from batched_products()
    yield from convolutions()
    yield from elementwise()
    yield from places()
    yield from rowwise()
    yield from movements()


_WIDTHS = ((64, 64), (256, 256), (256, 1024), (768, 768), (1024, 4096), (4096, 1024), (4096, 4096))
_ROWS = (1, 4, 16, 64, 256, 512)
_MOST_FLOPS = 6e8  # what a core does between two turns of a busy machine's scheduler


def products() -> Iterator[Sample]:
    """Samples of X W, both ways of a feed-forward block, so that the chain closes."""
    for depth, columns in _WIDTHS:
        for rows in _ROWS:
            flops = 2 * rows * depth * columns
            if flops <= _MOST_FLOPS:
                length = 2 * min(2, int(_MOST_FLOPS / 2 // flops)) or 1
                yield _product(rows, depth, columns, length if depth < 4096 else 1)


def _product(rows: int, depth: int, columns: int, length: int) -> Sample:
    chain = Chain(rows + depth)
    x = chain.input(1, rows, depth)
    for index in range(length):
        wide = index % 2 == 0
        w = chain.weight(*((depth, columns) if wide else (columns, depth)))
        x = chain.run("MatMul", [x, w], (1, rows, columns if wide else depth))
    return Sample(f"MatMul {rows}x{depth}x{columns} x{length}", chain.model(x))


def batched_products() -> Iterator[Sample]:
    """Samples of the products of attention: Q K' and P V of some heads, in turns."""
    for heads, queries, keys, width in (
        (4, 16, 16, 16),
        (8, 64, 64, 32),
        (12, 197, 197, 64),
        (16, 256, 256, 64),
        (12, 1, 64, 64),
        (32, 1, 300, 128),
        (8, 50, 350, 64),
    ):
        chain = Chain(keys)
        x = chain.input(1, heads, queries, width)
        for _ in range(3 if heads * keys * width < 2**19 else 1):
            k, v = (chain.input(1, heads, *size) for size in ((width, keys), (keys, width)))
            x = chain.run("MatMul", [x, k], (1, heads, queries, keys))
            x = chain.run("MatMul", [x, v], (1, heads, queries, width))
        yield Sample(f"attention products {heads}x{queries}x{keys}x{width}", chain.model(x))


def convolutions() -> Iterator[Sample]:
    """Samples of what cuts an image into patches, and of what a convolutional network has."""
    for channels, size, kernel, stride, columns in (
        (3, 224, 16, 16, 768),
        (3, 224, 14, 14, 1152),
        (3, 56, 14, 14, 64),
        (64, 56, 3, 1, 64),
        (256, 14, 3, 1, 256),
        (128, 28, 1, 1, 512),
    ):
        chain, pad = Chain(size), (kernel - 1) // 2 if stride == 1 else 0
        x = chain.input(1, channels, size, size)
        w = chain.weight(columns, channels, kernel, kernel)
        out = size // stride
        strides, pads = (stride, stride), (pad,) * 4
        y = chain.run("Conv", [x, w], (1, columns, out, out), strides=strides, pads=pads)
        yield Sample(f"Conv {channels}x{size}x{size} {kernel}/{stride} {columns}", chain.model(y))


_CACHES = ((2, 24, 32), (4, 64, 64), (16, 70, 64), (8, 300, 64), (24, 290, 96))
_SIZES = ((8, 8), (48, 48), (16, 256), (64, 1024), (256, 1024), (256, 4096))
_UNARY = (
    "Sigmoid",
    "Tanh",
    "Erf",
    "Gelu",
    "Neg",
    "Sqrt",
    "Reciprocal",
    "Relu",
    "Cos",
    "Sin",
    "Exp",
)
_BINARY = ("Add", "Mul", "Sub", "Div")


def elementwise() -> Iterator[Sample]:
    """Samples of pointwise operators."""
    for kind in _UNARY:
        yield from _each_size(kind, partial(_unary, kind))
    for kind in _BINARY:
        yield from _each_size(kind, partial(_binary, kind))
    for kind in ("Add", "Mul"):
        yield from _each_size(f"{kind} by row", partial(_by_row, kind))
    yield from _each_size("Pow 2", _square)
    yield from _each_size("Where", _where)
    yield from _each_size("IsNaN Where", _without_nan)
    yield from _each_size("Cast", _cast)


def _unary(kind: str, chain: Chain, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    return chain.run(kind, [x], shape)


def _binary(kind: str, chain: Chain, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    return chain.run(kind, [x, chain.first], shape)


Step = Callable[[Chain, ir.Value, tuple[int, ...]], ir.Value]


def _each_size(name: str, step: Step) -> Iterator[Sample]:
    """Chains of a step that keeps the shape."""
    for rows, columns in _SIZES:
        length = 32 if rows * columns < 2**12 else 4
        chain, shape = Chain(rows), (1, rows, columns)
        x = chain.input(*shape)
        for _ in range(length):
            x = step(chain, x, shape)
        yield Sample(f"{name} {rows}x{columns} x{length}", chain.model(x))


def _by_row(kind: str, chain: Chain, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    return chain.run(kind, [x, chain.weight(shape[-1])], shape)


def _square(chain: Chain, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    return chain.run("Pow", [x, chain.constant(np.array(2, np.float32))], shape)


def _where(chain: Chain, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    mask = chain.constant(np.arange(shape[-1]) % 2 == 0)
    return chain.run("Where", [mask, x, chain.first], shape)


def _without_nan(chain: Chain, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    found = chain.run("IsNaN", [x], shape, ir.DataType.BOOL)
    return chain.run("Where", [found, chain.constant(np.array(0, np.float32)), x], shape)


def _cast(chain: Chain, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    """To integers and back: back ends drop a pair of casts between floats."""
    whole = chain.run("Cast", [x], shape, ir.DataType.INT32, to=int(ir.DataType.INT32))
    return chain.run("Cast", [whole], shape, to=int(ir.DataType.FLOAT))


def places() -> Iterator[Sample]:
    """Samples of a place written into a cache of keys, as decoders of a fixed size do it."""
    for heads, count, width in (
        (2, 24, 32),
        (4, 64, 64),
        (16, 70, 64),
        (8, 300, 64),
        (24, 290, 96),
    ):
        chain = Chain(count)
        x, new = (chain.input(1, heads, one, width) for one in (count, 1))
        equal = chain.run(
            "Equal",
            [chain.constant(np.arange(count)), chain.whole_input(1)],
            (count,),
            ir.DataType.BOOL,
        )
        sizes = chain.constant(np.array([1, 1, count, 1]))
        here = chain.run("Reshape", [equal, sizes], (1, 1, count, 1), ir.DataType.BOOL)
        length = 12 if heads * count * width < 2**18 else 4
        for _ in range(length):
            x = chain.run("Where", [here, new, x], (1, heads, count, width))
        yield Sample(f"Where one place {heads}x{count}x{width} x{length}", chain.model(x))


def rowwise() -> Iterator[Sample]:
    """Samples of normalisations and reductions of the last dimension."""
    yield from _each_size("Softmax", lambda chain, x, s: chain.run("Softmax", [x], s, axis=-1))
    yield from _each_size("LayerNormalization", _layer_norm)
    yield from _each_size("ReduceMean", _mean)


def _layer_norm(chain: Chain, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    scale, bias = chain.weight(shape[-1]), chain.weight(shape[-1])
    return chain.run("LayerNormalization", [x, scale, bias], shape, axis=-1)


def _mean(chain: Chain, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    """The mean of every row, taken off again; as in a normalisation that is written out."""
    axes = chain.constant(np.array([-1]))
    mean = chain.run("ReduceMean", [x, axes], (*shape[:-1], 1), keepdims=1)
    return chain.run("Sub", [x, mean], shape)


def movements() -> Iterator[Sample]:
    """Samples of operators that compute nothing."""
    yield from _each_size("Transpose", _transpose_heads)
    yield from _each_size("Slice Concat", _rotate_half)
    yield from _each_size("Gather", _gather)
    yield from _each_size("Reshape", _reshape)
    yield from _each_size("Unsqueeze", _unsqueeze)


def _transpose_heads(chain: Chain, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    """To heads and back: [1, rows, heads, width] to [1, heads, rows, width]."""
    _, rows, columns = shape
    heads = columns // 64 or 2
    split = chain.constant(np.array([1, rows, heads, columns // heads]))
    x = chain.run("Reshape", [x, split], (1, rows, heads, columns // heads))
    swapped = (1, heads, rows, columns // heads)
    x = chain.run("Transpose", [x], swapped, perm=(0, 2, 1, 3))
    return chain.run("Reshape", [x, chain.constant(np.array(shape))], shape)


def _rotate_half(chain: Chain, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    half = shape[-1] // 2
    parts = []
    for start in (half, 0):
        bounds = [chain.constant(np.array([at])) for at in (start, start + half, -1)]
        parts.append(chain.run("Slice", [x, *bounds], (*shape[:-1], half)))
    return chain.run("Concat", parts, shape, axis=-1)


def _reshape(chain: Chain, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    """There and back, with a Neg after each: back ends join views that follow one another."""
    flat = (shape[1] * shape[2],)
    for target in (flat, shape):
        x = chain.run("Reshape", [x, chain.constant(np.array(target))], target)
        x = chain.run("Neg", [x], target)
    return x


def _unsqueeze(chain: Chain, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    axes = chain.constant(np.array([0]))
    for kind, target in (("Unsqueeze", (1, *shape)), ("Squeeze", shape)):
        x = chain.run(kind, [x, axes], target)
        x = chain.run("Neg", [x], target)
    return x


def _gather(chain: Chain, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    rows = chain.constant(np.arange(shape[1])[::-1].copy())
    return chain.run("Gather", [x, rows], shape, axis=1)
