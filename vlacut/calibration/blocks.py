"""Blocks of transformers: what the operators of the other samples take beside one another.

In a model an operator finds its operands where the one before has left them, and its weights where
they were a step ago. So a few whole blocks are measured too, and the model is scaled to them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from vlacut.calibration.chain import Chain, Sample

_ENCODERS = ((16, 64, 4, 3), (48, 128, 4, 3), (100, 256, 4, 2), (144, 640, 10, 1), (320, 448, 7, 1))
_DECODERS = (
    *((1, 30, 96, 4, 3), (1, 120, 320, 5, 3), (1, 150, 1280, 20, 1), (1, 260, 1536, 12, 1)),
    *((24, 0, 96, 4, 3), (48, 0, 320, 5, 2), (80, 0, 896, 14, 1)),
)
BLOCKS = len(_ENCODERS) + len(_DECODERS)


def blocks() -> Iterator[Sample]:
    """Blocks as vision models have them, and as language models do, in prefill and decode."""
    for rows, width, heads, count in _ENCODERS:
        chain = Chain(rows)
        x = chain.input(1, rows, width)
        for _ in range(count):
            x = _encoder(chain, x, rows, width, heads)
        yield Sample(f"encoder {rows}x{width} x{count}", chain.model(x))
    for rows, past, width, heads, count in _DECODERS:
        chain = Chain(rows)
        x = chain.input(1, rows, width)
        for _ in range(count):
            x = _decoder(chain, x, (rows, past, width, heads))
        yield Sample(f"decoder {rows}+{past}x{width} x{count}", chain.model(x))


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


def _decoder(chain: Chain, x: ir.Value, sizes: tuple[int, int, int, int]) -> ir.Value:
    """Block with rotary embedding, gate and a cache of keys and values, as Llama has."""
    rows, past, width, heads = sizes
    shape, inner, depth = (1, rows, width), 11 * width // 4, width // heads
    y = _rms_norm(chain, x, shape)
    q, k, v = (
        _heads(chain, _linear(chain, y, rows, width, width, bias=False), rows, heads)
        for _ in range(3)
    )
    q, k = (_rotary(chain, item, (heads, rows, depth)) for item in (q, k))
    if past:
        full = (1, heads, past + rows, depth)
        cache = chain.input(1, heads, past, depth)
        k, v = (chain.run("Concat", [cache, item], full, axis=2) for item in (k, v))
    y = _attention(chain, q, k, v, (heads, rows, past + rows, depth))
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
    x = chain.run("Reshape", [x, chain.constant(np.array(split))], split)
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


def _attention(
    chain: Chain, q: ir.Value, k: ir.Value, v: ir.Value, sizes: tuple[int, int, int, int]
) -> ir.Value:
    heads, rows, keys, depth = sizes
    k = chain.run("Transpose", [k], (1, heads, depth, keys), perm=(0, 1, 3, 2))
    scores = (1, heads, rows, keys)
    y = chain.run("MatMul", [q, k], scores)
    y = chain.run("Mul", [y, chain.constant(np.array(depth**-0.5, np.float32))], scores)
    y = chain.run("Add", [y, chain.constant(np.zeros((1, 1, rows, keys), np.float32))], scores)
    y = chain.run("Softmax", [y], scores, axis=-1)
    y = chain.run("MatMul", [y, v], (1, heads, rows, depth))
    y = chain.run("Transpose", [y], (1, rows, heads, depth), perm=(0, 2, 1, 3))
    joined = (1, rows, heads * depth)
    return chain.run("Reshape", [y, chain.constant(np.array(joined))], joined)
