"""Numbers of a small pi0 and pi05: weights by name, and an observation; numpy alone.

Both sides make them anew: the tests here, and openpi's own code in `policies/openpi_reference.py`.
"""

from __future__ import annotations

import zlib

import numpy as np

CHUNK, ACTIONS, PROMPT, SAID, SIDE = 10, 32, {"pi0": 48, "pi05": 200}, 23, 224
WORDS = 300
# Of the vision tower, the language model and the expert: width, hidden, layers.
VISION, LANGUAGE, EXPERT = (48, 96, 2), (64, 128, 3), (32, 64, 3)
PATCH, VISION_HEADS, HEADS, HEAD_WIDTH = 56, 16, 8, 16


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight by its name, so that what depends on it is neither zero nor huge."""
    drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    scale = float(np.prod(shape[1:])) ** -0.5 if len(shape) > 1 else 0.1
    return (drawn * scale).astype(np.float32)


def observation(kind: str) -> dict[str, np.ndarray]:
    """What the network reads: two pictures from -1 to 1, tokens and mask, a state, noise."""
    numbers = np.random.default_rng(5)
    length = PROMPT[kind]
    tokens, mask = np.zeros((1, length), np.int64), np.arange(length)[None] < SAID
    tokens[0, :SAID] = numbers.integers(1, WORDS, SAID)
    return {
        "pictures": numbers.uniform(-1, 1, (2, 3, SIDE, SIDE)).astype(np.float32),
        "tokens": tokens,
        "mask": mask,
        "state": numbers.standard_normal((1, ACTIONS)).astype(np.float32),
        "noise": numbers.standard_normal((1, CHUNK, ACTIONS)).astype(np.float32),
    }
