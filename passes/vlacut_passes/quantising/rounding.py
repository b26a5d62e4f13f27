"""Rounding of weights to few bits: to the nearest, or so that later rounding makes up for earlier.

What makes up for errors on the observations that it has seen may add to them on others, the more so
the fewer rows a product has seen. So GPTQ is tried with more and more damping, as rounding to the
nearest is, and each weight keeps what errs least on observations that none of them has seen.

A weight is a matrix [inputs, outputs], read as blocks of `group` inputs with a scale each for every
output. Symmetric: a code times its scale is the weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

RTN, GPTQ = "rtn", "gptq"
METHODS = (RTN, GPTQ)
MOST = 7  # of the codes -8 to 7; -8 has no partner, and TensorRT's scales are symmetric as well
# The smallest normal float16: scales may be converted to it, and smaller ones lose digits there.
LEAST_SCALE = 2.0**-14
# Shares of a block's largest magnitude that are tried as the end of the scale.
_CLIPS = np.linspace(1.0, 0.7, 13, dtype=np.float32)
# Of the mean of the diagonal: GPTQ's own (arXiv 2210.17323, section 3.3), and more, for what has
# seen few rows. With ever more, it is rounding to the nearest.
_DAMPINGS = (0.01, 0.1, 1.0)
_CACHED = 1 << 18  # elements that are worked on at a time
_LAZY = 128  # inputs whose errors are passed on together, as GPTQ has it


@dataclass(frozen=True)
class Rounded:
    """A weight in few bits.

    Attributes:
        codes: [inputs, outputs], whole numbers from -7 to 7, as int8.
        scales: [blocks, outputs], float32.
        group: inputs that share a scale.
    """

    codes: NDArray[np.int8]
    scales: Array
    group: int

    def restored(self) -> Array:
        """The weight that the codes stand for, float32, [inputs, outputs]."""
        return self.codes.astype(np.float32) * np.repeat(self.scales, self.group, axis=0)


@dataclass(frozen=True)
class Grams:
    """What the rows x that a product multiplies say of it, as sums of x xT, [inputs, inputs].

    Attributes:
        seen: over the observations that weights are fitted to.
        held: over others, by which the ways of rounding are compared; the same where there is but
            one observation.
    """

    seen: Array
    held: Array


def block_scales(weight: Array, group: int, importance: Array | None = None) -> Array:
    """A scale for each block and output, [blocks, outputs]: that of the least squared error.

    Tried are ends of the scale from the block's largest magnitude down to 0.7 of it.

    Args:
        weight: [inputs, outputs].
        group: inputs that share a scale.
        importance: of each input's error, [inputs]; alike if it is left out.
    """
    blocks = weight.reshape(-1, group, weight.shape[1])
    counts = np.ones(len(weight), np.float32) if importance is None else importance
    counts = counts.reshape(-1, group, 1)
    best: Array = np.empty((len(blocks), weight.shape[1]), np.float32)
    for some in _slices(len(blocks), group * weight.shape[1]):
        best[some] = _scales(blocks[some], counts[some])
    return best


def _scales(blocks: Array, counts: Array) -> Array:
    """Of some blocks, [blocks, group, outputs]."""
    largest = np.abs(blocks).max(axis=1)
    best: Array = np.maximum(largest / MOST, LEAST_SCALE)
    least = np.full_like(best, np.inf)
    for clip in _CLIPS:
        scales = np.maximum(largest * clip / MOST, LEAST_SCALE)
        codes = np.clip(np.rint(blocks / scales[:, None]), -MOST, MOST)
        error = ((codes * scales[:, None] - blocks) ** 2 * counts).sum(axis=1)
        better = error < least
        best, least = np.where(better, scales, best), np.where(better, error, least)
    return best


def _slices(count: int, elements: int) -> Iterator[slice]:
    """So many pieces of so many elements, some at a time: what is made of them meanwhile stays in a
    processor's cache, which took 0.4 of the time for a weight of 4096 x 4096.
    """
    step = max(1, _CACHED // elements)
    yield from (slice(start, start + step) for start in range(0, count, step))


def to_nearest(weight: Array, scales: Array, group: int) -> Rounded:
    """Every element to the nearest code of its block's scale."""
    blocks = weight.reshape(-1, group, weight.shape[1])
    codes = np.empty(blocks.shape, np.int8)
    for some in _slices(len(blocks), group * weight.shape[1]):
        codes[some] = np.clip(np.rint(blocks[some] / scales[some, None]), -MOST, MOST)
    return Rounded(codes.reshape(weight.shape), scales, group)


def gptq(weight: Array, group: int, grams: Grams) -> Rounded:
    """GPTQ (arXiv 2210.17323, algorithm 1): inputs are rounded one after the other, and what each
    loses is made up for by those that are still to come.

    The input that is largest over the observations comes first. Scales are those of the least error
    by how large inputs are. The result is the best of this with each of `_DAMPINGS` and of rounding
    to the nearest, by the squared error of the product over the observations that were held out.

    Args:
        weight: [inputs, outputs].
        group: inputs that share a scale.
        grams: of what it is multiplied with.
    """
    sizes = np.diag(grams.seen)
    scales = block_scales(weight, group, sizes + _DAMPINGS[0] * sizes.mean())
    tried = [to_nearest(weight, block_scales(weight, group), group)]
    tried += [_made_up(weight, scales, group, grams.seen, damping) for damping in _DAMPINGS]
    return min(tried, key=lambda made: _lost(weight, made, grams.held))


def _made_up(weight: Array, scales: Array, group: int, gram: Array, damping: float) -> Rounded:
    order = np.argsort(-np.diag(gram), kind="stable")
    every = np.repeat(scales, group, axis=0)[order]
    root = _inverse_root(gram[np.ix_(order, order)], damping)
    codes = np.empty(weight.shape, np.int8)
    codes[order] = _in_turn(weight[order], every, root)
    return Rounded(codes, scales, group)


def _inverse_root(gram: Array, damping: float) -> Array:
    """Upper triangle U with UT U the inverse of the damped matrix."""
    damped = gram.astype(np.float64)
    mean = float(np.diag(damped).mean())
    damped[np.diag_indices_from(damped)] += damping * mean if mean > 0 else 1.0
    return np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)


def _in_turn(weight: Array, scales: Array, root: Array) -> NDArray[np.int8]:
    left = weight.astype(np.float32)
    codes = np.empty(weight.shape, np.int8)
    for start in range(0, len(left), _LAZY):
        end = min(start + _LAZY, len(left))
        errors = np.empty((end - start, left.shape[1]), np.float32)
        for index in range(start, end):
            code = np.clip(np.rint(left[index] / scales[index]), -MOST, MOST)
            codes[index] = code
            error = (left[index] - code * scales[index]) / root[index, index]
            left[index + 1 : end] -= np.outer(root[index, index + 1 : end], error)
            errors[index - start] = error
        left[end:] -= root[start:end, end:].T @ errors
    return codes


def _lost(weight: Array, rounded: Rounded, gram: Array) -> float:
    """Squared error of the product over the observations."""
    wrong = rounded.restored() - weight
    return float(np.sum(wrong * (gram @ wrong), dtype=np.float64))
