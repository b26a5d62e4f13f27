"""What calibrates the error of codecs: observations, and at which coverage they bound it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vlacut.errors import InputError
from vlacut.ir.annotation import Asked
from vlacut.ir.dataflow import Dataflow
from vlacut.pricing.coding import Offer, Offers
from vlacut.split.observations import held_out
from vlacut.tensor.codec import Codec, Coding
from vlacut.tensor.observations import Observation, read_observations
from vlacut.tensor.split_conformal import least_count


def read_calibration(dataflow: Dataflow, asked: Asked) -> list[Observation]:
    """The observations that calibrate, in an order drawn from a fixed seed."""
    program, path = dataflow.program, Path(asked.calibration)
    if program.states:
        raise InputError(
            f"{path}: a program that remembers is not calibrated by single observations; leave "
            f"--calibration out"
        )
    found = read_observations(path, program.inputs)
    need = least_count(level_of(asked.coverage, asked.action_error, 1))
    if len(held_out(found)) < need:
        raise InputError(
            f"{path}: {len(found)} observations, {len(held_out(found))} of them held out, bound "
            f"nothing with a coverage of {asked.coverage:g}: that takes {need} held out; record "
            f"more, or lower --coverage"
        )
    return [found[place] for place in np.random.default_rng(0).permutation(len(found))]


def level_of(coverage: float, most: float, tries: int) -> float:
    """Without a limit there is nothing to fail, and one try; under one the k-th try may miss the
    2^k-th part.
    """
    return 1 - (1 - coverage) / 2**tries if most < math.inf else coverage


def lossless(offers: Offers) -> dict[str, Offer]:
    """The offers without codecs that lose something."""

    def kept(codings: Sequence[Coding]) -> tuple[Coding, ...]:
        return tuple(one for one in codings if one.codec is Codec.ZSTD)

    return {name: Offer(kept(offer.up), kept(offer.down)) for name, offer in offers.items()}
