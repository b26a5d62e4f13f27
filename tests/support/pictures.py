"""A policy with two cameras of bytes, and pictures that look like photographs to a codec."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from support.onnx_text import write
from vlacut.frontends.onnx import onnx_program
from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.program import Program

_BODY = """policy (uint8[{side},{side},3] top, uint8[1,3,{side},{side}] wrist, float[1,7] state)
    => (float[1,7] action)
    <int64[1] zero = {{0}}, float scale = {{0.00784}}, float one = {{1.0}}> {{
    tops = Unsqueeze(top, zero)
    planes = Transpose <perm = [0, 3, 1, 2]> (tops)
    both = Concat <axis = 0> (planes, wrist)
    floats = Cast <to = 1> (both)
    scaled = Mul(floats, scale)
    centred = Sub(scaled, one)
    patches = Conv <kernel_shape = [16, 16], strides = [16, 16]> (centred, stem)
    active = Relu(patches)
    pooled = GlobalAveragePool(active)
    seen = Reshape(pooled, flat)
    hidden = MatMul(seen, mix)
    known = MatMul(state, joints)
    sum = Add(hidden, known)
    action = Tanh(sum)
}}"""


def camera_program(folder: Path, side: int = 64, width: int = 32) -> Program:
    """Cameras `top` (height, width, channels) and `wrist` (channels first), with an example."""
    numbers = np.random.default_rng(0)
    weights = {
        "stem": numbers.standard_normal((width, 3, 16, 16)).astype(np.float32) / 16,
        "mix": numbers.standard_normal((2 * width, 7)).astype(np.float32) / 8,
        "joints": numbers.standard_normal((7, 7)).astype(np.float32) / 3,
        "flat": np.array([1, 2 * width], np.int64),
    }
    path = write(folder / "cameras.onnx", _BODY.format(side=side), weights, 17)
    program = onnx_program(path)
    EXAMPLE.put(program, example(side))
    return program


def example(side: int = 64) -> dict[str, np.ndarray]:
    """What its cameras see."""
    return {
        "top": scene((side, side, 3), 1),
        "wrist": np.ascontiguousarray(scene((side, side, 3), 2).transpose(2, 0, 1)[None]),
        "state": np.random.default_rng(3).standard_normal((1, 7)).astype(np.float32),
    }


def scene(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Smooth shades with edges and a little noise: [..., height, width, channels]."""
    numbers = np.random.default_rng(seed)
    *_, height, width, channels = shape
    row, column = np.mgrid[0:height, 0:width]
    made = np.full(shape, 90.0)
    for _ in range(4):
        wave = np.sin(row / numbers.uniform(6, 30) + column / numbers.uniform(6, 30))
        made += 25 * wave[..., None] * numbers.uniform(0.3, 1, channels)
    made += 50 * (column > width * numbers.uniform(0.3, 0.7))[..., None]
    return np.clip(made + numbers.normal(0, 2, shape), 0, 255).astype(np.uint8)
