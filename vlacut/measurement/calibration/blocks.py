"""Blocks of transformers: how long operators take when they follow one another.

In a model, an operator finds its operands where the one before left them, and its weights where
they were a step ago. So whole blocks are measured too, in the form that torch.export writes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from vlacut.measurement.calibration.chain import Chain, Sample

# Rows, width, heads, and how many in a row.
_ENCODERS = (
    *((8, 48, 2, 4), (16, 64, 4, 3), (26, 96, 3, 4), (48, 128, 4, 3), (64, 192, 6, 2)),
    *((100, 256, 4, 2), (200, 320, 5, 1), (70, 512, 8, 1), (144, 640, 10, 1), (320, 448, 7, 1)),
    *((180, 1024, 16, 1), (20, 48, 4, 2), (36, 72, 6, 2), (64, 96, 8, 2)),
)
# Rows, of the cache, width, heads of queries, of keys and values, and how many in a row.
_DECODING = (
    *((1, 40, 64, 2, 2, 4), (1, 30, 96, 4, 4, 3), (1, 64, 192, 3, 1, 4), (1, 120, 320, 5, 5, 3)),
    *((1, 90, 512, 8, 2, 2), (1, 100, 896, 14, 2, 1), (1, 150, 1280, 20, 20, 1)),
    (1, 260, 1536, 12, 4, 1),
)
_PREFILLING = (
    *((12, 0, 64, 2, 2, 4), (24, 0, 96, 4, 2, 3), (33, 0, 160, 5, 5, 3), (100, 0, 256, 4, 4, 2)),
    *((48, 0, 320, 5, 1, 2), (160, 0, 640, 10, 10, 1), (80, 0, 896, 14, 2, 1)),
    (40, 0, 1408, 11, 11, 1),
)
# Rows and width of three layers in a row.
_PERCEPTRONS = ((1, 96), (8, 128), (1, 384), (16, 256), (1, 1024), (20, 768))
FAMILY_SIZES = (len(_ENCODERS), len(_DECODING), len(_PREFILLING), len(_PERCEPTRONS))


def blocks() -> Iterator[Sample]:
    """Families of blocks: vision models, language models in decode and in prefill, and heads."""
    yield from (_encoders(*sizes) for sizes in _ENCODERS)
    yield from (_decoders(*sizes) for sizes in (*_DECODING, *_PREFILLING))
    yield from (_perceptron(*sizes) for sizes in _PERCEPTRONS)


def _encoders(rows: int, width: int, heads: int, count: int) -> Sample:
    chain = Chain(rows)
    x = chain.input(1, rows, width)
    for _ in range(count):
        x = _encoder(chain, x, rows, width, heads)
    return Sample(f"encoder {rows}x{width} x{count}", chain.model(x))


def _decoders(rows: int, past: int, width: int, heads: int, kept: int, count: int) -> Sample:
    chain = Chain(rows)
    x = chain.input(1, rows, width)
    for _ in range(count):
        x = _decoder(chain, x, (rows, past, width, heads, kept))
    return Sample(f"decoder {rows}+{past}x{width} x{count}", chain.model(x))


def _perceptron(rows: int, width: int) -> Sample:
    chain = Chain(rows)
    x = chain.input(rows, width)
    for _ in range(3):
        x = chain.run("Relu", [_gemm(chain, x, rows, width)], (rows, width))
    return Sample(f"perceptron {rows}x{width} x3", chain.model(x))


def _encoder(chain: Chain, x: ir.Value, rows: int, width: int, heads: int) -> ir.Value:
    """Pre-norm block with biases and GELU, as ViT and Whisper have."""
    shape = (1, rows, width)
    y = _layer_norm(chain, x, shape)
    q, k, v = (_heads(chain, _linear(chain, y, rows, width, width), rows, heads) for _ in range(3))
    y = _attention(chain, q, k, v, (heads, rows, rows, width // heads))
    x = chain.run("Add", [_linear(chain, y, rows, width, width), x], shape)
    wide = (1, rows, 4 * width)
    y = _linear(chain, _layer_norm(chain, x, shape), rows, width, 4 * width)
    y = chain.run("Gelu", [y], wide)
    return chain.run("Add", [_linear(chain, y, rows, 4 * width, width), x], shape)


def _decoder(chain: Chain, x: ir.Value, sizes: tuple[int, int, int, int, int]) -> ir.Value:
    """Block with rotary embedding, gate and a cache of keys and values, as Llama has."""
    rows, past, width, heads, kept = sizes
    shape, inner, depth = (1, rows, width), 11 * width // 4, width // heads
    y = _rms_norm(chain, x, shape)
    q, k, v = (
        _heads(chain, _linear(chain, y, rows, width, many * depth, bias=False), rows, many)
        for many in (heads, kept, kept)
    )
    q, k = (_rotary(chain, q, (heads, rows, depth)), _rotary(chain, k, (kept, rows, depth)))
    keys = past + rows
    if past:
        cache = chain.input(1, kept, past, depth)
        full = (1, kept, keys, depth)
        k, v = (chain.run("Concat", [cache, item], full, axis=2) for item in (k, v))
    if kept < heads:
        k, v = (_repeated(chain, item, (kept, heads, keys, depth)) for item in (k, v))
    y = _attention(chain, q, k, v, (heads, rows, keys, depth), masked=True)
    x = chain.run("Add", [_linear(chain, y, rows, width, width, bias=False), x], shape)
    y = _rms_norm(chain, x, shape)
    gate, up = (_linear(chain, y, rows, width, inner, bias=False) for _ in range(2))
    gate = chain.run(
        "Mul", [gate, chain.run("Sigmoid", [gate], (1, rows, inner))], (1, rows, inner)
    )
    y = chain.run("Mul", [gate, up], (1, rows, inner))
    return chain.run("Add", [_linear(chain, y, rows, inner, width, bias=False), x], shape)


def _linear(
    chain: Chain, x: ir.Value, rows: int, width: int, columns: int, bias: bool = True
) -> ir.Value:
    shape = (1, rows, columns)
    y = chain.run("MatMul", [x, chain.weight(width, columns)], shape)
    return chain.run("Add", [y, chain.weight(columns)], shape) if bias else y


def _gemm(chain: Chain, x: ir.Value, rows: int, width: int) -> ir.Value:
    weight, bias = chain.weight(width, width), chain.weight(width)
    return chain.run("Gemm", [x, weight, bias], (rows, width), transB=1)


def _layer_norm(chain: Chain, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    scale, bias = chain.weight(shape[-1]), chain.weight(shape[-1])
    return chain.run("LayerNormalization", [x, scale, bias], shape, axis=-1)


def _rms_norm(chain: Chain, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    row = (*shape[:-1], 1)
    y = chain.run("Pow", [x, chain.constant(np.array(2, np.float32))], shape)
    y = chain.run("ReduceMean", [y, chain.constant(np.array([-1]))], row, keepdims=1)
    y = chain.run("Add", [y, chain.constant(np.array(1e-6, np.float32))], row)
    y = chain.run("Reciprocal", [chain.run("Sqrt", [y], row)], row)
    y = chain.run("Mul", [x, y], shape)
    return chain.run("Mul", [chain.weight(shape[-1]), y], shape)


def _heads(chain: Chain, x: ir.Value, rows: int, heads: int) -> ir.Value:
    assert x.shape is not None
    split = (1, rows, heads, int(str(x.shape[-1])) // heads)
    x = _reshaped(chain, x, split)
    return chain.run("Transpose", [x], (1, heads, rows, split[-1]), perm=(0, 2, 1, 3))


def _rotary(chain: Chain, x: ir.Value, sizes: tuple[int, int, int]) -> ir.Value:
    heads, rows, depth = sizes
    shape, half = (1, heads, rows, depth), (1, heads, rows, depth // 2)
    low, high = (
        chain.run("Slice", [x, *(chain.constant(np.array([at])) for at in bounds)], half)
        for bounds in ((0, depth // 2, 3), (depth // 2, depth, 3))
    )
    turned = chain.run("Concat", [chain.run("Neg", [high], half), low], shape, axis=-1)
    cosine, sine = (chain.weight(1, 1, rows, depth) for _ in range(2))
    one, other = (chain.run("Mul", pair, shape) for pair in ((x, cosine), (turned, sine)))
    return chain.run("Add", [one, other], shape)


def _repeated(chain: Chain, x: ir.Value, sizes: tuple[int, int, int, int]) -> ir.Value:
    """Keys or values of few heads, for all that share them."""
    kept, heads, keys, depth = sizes
    x = chain.run("Unsqueeze", [x, chain.constant(np.array([2]))], (1, kept, 1, keys, depth))
    full = (1, kept, heads // kept, keys, depth)
    x = chain.run("Expand", [x, chain.constant(np.array(full))], full)
    return _reshaped(chain, x, (1, heads, keys, depth))


def _attention(
    chain: Chain,
    q: ir.Value,
    k: ir.Value,
    v: ir.Value,
    sizes: tuple[int, int, int, int],
    masked: bool = False,
) -> ir.Value:
    """As torch.export writes it: both operands scaled; rows that a mask leaves empty made zero."""
    heads, rows, keys, depth = sizes
    k = _reshaped(chain, k, (heads, keys, depth))
    k = chain.run("Transpose", [k], (heads, depth, keys), perm=(0, 2, 1))
    k = _reshaped(chain, k, (1, heads, depth, keys))
    scale = chain.constant(np.array(depth**-0.25, np.float32))
    q = chain.run("Mul", [q, scale], (1, heads, rows, depth))
    k = chain.run("Mul", [k, scale], (1, heads, depth, keys))
    scores = (1, heads, rows, keys)
    y = chain.run("MatMul", [q, k], scores)
    if masked:
        y = chain.run("Add", [y, chain.constant(np.zeros((1, 1, rows, keys), np.float32))], scores)
    y = chain.run("Softmax", [y], scores, axis=-1)
    if masked:
        empty = chain.run("IsNaN", [y], scores, ir.DataType.BOOL)
        y = chain.run("Where", [empty, chain.constant(np.array(0, np.float32)), y], scores)
    y = chain.run("MatMul", [y, v], (1, heads, rows, depth))
    y = chain.run("Transpose", [y], (1, rows, heads, depth), perm=(0, 2, 1, 3))
    return _reshaped(chain, y, (1, rows, heads * depth))


def _reshaped(chain: Chain, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    return chain.run("Reshape", [x, chain.constant(np.array(shape))], shape)
