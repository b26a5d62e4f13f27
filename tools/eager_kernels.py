"""The kernels that eager PyTorch launches for OpenVLA and CogACT, one a call of a library.

OpenVLA (arXiv 2406.09246): Llama of transformers, DINOv2-L and SigLIP-so400m of timm. CogACT (arXiv
2411.19650): the same, and DiT-L, of its three sizes the one that the loads in RoboECC's tables
imply. All in bfloat16; a prompt is 256 patches and 24 words. Element-wise work that PyTorch does in
steps is listed step by step.
"""

from __future__ import annotations

from typing import NamedTuple

from vlacut.pricing.roofline import Cost, Kernel

WIDTH, INNER, HEADS, DEPTH, WORDS = 4096, 11008, 32, 128, 32064
PROMPT = 280
# Before the vision towers the host crops, scales and normalises the image for either of them. That
# takes as long as it takes to issue so many operators of PyTorch: measured on a core of an x86
# server, 256 x 256 pixels, 1.98 ms against 2.13 us (least of 50 and of 200 runs).
PREPROCESSING = 930
_BYTES = {"bfloat16": 2, "float32": 4}


def linear(rows: int, inputs: int, outputs: int, dtype: str = "bfloat16") -> Kernel:
    """A product, Y = X W + B; the bias is added in the epilogue."""
    size = _BYTES[dtype]
    cost = Cost(
        2 * rows * inputs * outputs,
        size * rows * inputs,
        size * rows * outputs,
        size * inputs * outputs,
        1,
    )
    return Kernel("gemm", cost, dtype, rows, outputs, inputs)


def attention(
    batch: int, heads: int, queries: int, keys: int, depth: int, dtype: str = "bfloat16"
) -> Kernel:
    """Scaled dot products with the softmax inside."""
    size, lines = _BYTES[dtype], batch * heads * depth
    cost = Cost(
        4 * lines * queries * keys,
        size * lines * (queries + 2 * keys),
        size * lines * queries,
        0,
        1,
    )
    return Kernel("attention", cost, dtype, queries, 2 * depth, keys, batch * heads)


def pointwise(elements: int, operands: int = 1, dtype: str = "bfloat16", times: int = 1) -> Kernel:
    """So many kernels that each read `operands` tensors and write one."""
    size = _BYTES[dtype] * elements
    cost = Cost(times * elements, times * operands * size, times * size, 0, times)
    return Kernel("pointwise", cost)


def reduction(elements: int, dtype: str = "bfloat16") -> Kernel:
    """A normalisation or a mean that reads and writes all."""
    size = _BYTES[dtype] * elements
    return Kernel("reduction", Cost(7 * elements, size, size, 0, 1))


def copy(elements: int, dtype: str = "bfloat16", times: int = 1) -> Kernel:
    """So many copies."""
    size = times * _BYTES[dtype] * elements
    return Kernel("movement", Cost(0, size, size, 0, times))


def llama_layer(tokens: int, past: int) -> list[Kernel]:
    """A layer of Llama-2 7B as transformers writes it."""
    hidden, keys = tokens * WIDTH, tokens + past
    norm = [
        pointwise(hidden, dtype="float32", times=2),  # to float32, square
        reduction(hidden, "float32"),
        pointwise(tokens, dtype="float32", times=2),  # epsilon, root
        pointwise(hidden, dtype="float32", times=2),  # scale, to bfloat16
        pointwise(hidden),  # weight
    ]
    angles = [pointwise(tokens * DEPTH, dtype="float32", times=7)]
    turn = [copy(hidden, times=2), pointwise(hidden, 2, times=3)]  # halves, products, sum
    return [
        *norm,
        *[linear(tokens, WIDTH, WIDTH)] * 3,
        *angles,
        *turn,
        *turn,
        copy(keys * WIDTH, times=2),  # the cache grows by concatenation
        attention(1, HEADS, tokens, keys, DEPTH),
        copy(hidden),
        linear(tokens, WIDTH, WIDTH),
        pointwise(hidden, 2),
        *norm,
        *[linear(tokens, WIDTH, INNER)] * 2,
        pointwise(tokens * INNER),
        pointwise(tokens * INNER, 2),
        linear(tokens, INNER, WIDTH),
        pointwise(hidden, 2),
    ]


def transformer_block(
    batch: int, tokens: int, width: int, heads: int, inner: int, scaled: bool
) -> list[Kernel]:
    """A block of timm's vision transformer, or of CogACT's DiT; DINOv2's has layer scale."""
    rows = batch * tokens
    hidden = rows * width
    scale = [pointwise(hidden)] if scaled else []
    return [
        reduction(hidden),
        linear(rows, width, 3 * width),
        attention(batch, heads, tokens, tokens, width // heads),
        copy(hidden),
        linear(rows, width, width),
        *scale,
        pointwise(hidden, 2),
        reduction(hidden),
        linear(rows, width, inner),
        pointwise(rows * inner),
        linear(rows, inner, width),
        *scale,
        pointwise(hidden, 2),
    ]


def vision() -> list[Kernel]:
    """DINOv2-L and SigLIP-so400m at 224 pixels, and the fused projector.

    timm runs the last block of either though its output is not used.
    """
    made = []
    for width in (1024, 1152):
        cost = Cost(2 * 256 * width * 588, 2 * 3 * 224**2, 2 * 256 * width, 2 * width * 588, 1)
        made += [
            Kernel("conv", cost, "bfloat16", 256, width, 588),
            copy(256 * width, times=2),
            pointwise(256 * width, 2),
        ]
    made += 24 * transformer_block(1, 261, 1024, 16, 4096, scaled=True)
    made += 27 * transformer_block(1, 256, 1152, 16, 4304, scaled=False)
    made += [copy(256 * 2176), linear(256, 2176, 8704), pointwise(256 * 8704)]
    made += [linear(256, 8704, WIDTH), pointwise(256 * WIDTH), linear(256, WIDTH, WIDTH)]
    return made


def head() -> list[Kernel]:
    """Of a word: last norm, logits in float32, choice, embedding; and mask and positions."""
    norm = [pointwise(WIDTH, dtype="float32", times=4), reduction(WIDTH, "float32")]
    choice = [pointwise(WORDS, dtype="float32"), reduction(WORDS, "float32"), copy(WIDTH)]
    return [*norm, linear(1, WIDTH, WORDS), *choice, pointwise(PROMPT, times=20)]


def denoise() -> list[Kernel]:
    """A step of CogACT's DiT-L: 17 tokens, twice for classifier-free guidance, DDIM update.

    The update is that of DiT's GaussianDiffusion: ten coefficients are taken out of tables, each in
    five kernels (copy from the host, index, convert, zeros, add), and 32 kernels combine them.
    """
    rows, width = 34, 1024
    made = [linear(rows, inputs, width) for inputs in (7, 256, width, 4096)]
    made += [pointwise(rows * width, 2, times=15)]  # embeddings of time and place
    made += 24 * transformer_block(2, 17, width, 16, 4096, scaled=False)
    made += [reduction(rows * width), linear(rows, width, 7), pointwise(224, 2, times=5)]
    return [*made, copy(224, times=50), pointwise(224, 2, times=32)]


class Pieces(NamedTuple):
    """Kernels of the pieces of both models."""

    vision: list[Kernel]
    prefill_layer: list[Kernel]
    decode_layer: list[Kernel]
    head: list[Kernel]
    denoise: list[Kernel]


def pieces() -> Pieces:
    """Of both models; the decode layer stands for all words."""
    return Pieces(vision(), llama_layer(PROMPT, 0), llama_layer(1, PROMPT + 3), head(), denoise())
