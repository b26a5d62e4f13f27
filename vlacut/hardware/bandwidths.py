"""Bandwidths: how fast the link will be, as a distribution.

    0.1MB/s-100MB/s     every factor equally likely: log-uniform
    FILE or FOLDER      recorded: see `vlacut.hardware.trace`

A distribution is kept as weighted points of seconds per byte. The price of a cut is affine in that,
so the mean over a group of bandwidths is the price at the group's mean.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vlacut.errors import HardwareError
from vlacut.hardware.link import Framing, Link, parse_link
from vlacut.hardware.trace import read_trace

if TYPE_CHECKING:
    import numpy as np

_POINTS = 64
_RANGE = re.compile(r"(\d[^-,/]*/s|\d[^-,/]*bps)-(\d[^-,/]*/s|\d[^-,/]*bps)")
# A trace's outages count as this bandwidth: at none at all a step would never end.
_LEAST_BYTES_PER_S = 1e4


@dataclass(frozen=True)
class Bandwidths:
    """A distribution of the uplink's bandwidth.

    Attributes:
        text: what it was made of, for people.
        seconds_per_byte: seconds per byte of tensors, ascending; the bytes of headers are not
            counted, their time is.
        shares: the share of the time that each is seen; they sum to 1.
    """

    text: str
    seconds_per_byte: tuple[float, ...]
    shares: tuple[float, ...]

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest seconds per byte."""
        return self.seconds_per_byte[0], self.seconds_per_byte[-1]


def link_at(link: Link, seconds_per_byte: float) -> Link:
    """The link with another bandwidth up; the one down keeps its ratio to it. 0 means infinite."""
    up = 1 / seconds_per_byte if seconds_per_byte else math.inf
    return replace(link, up=up, down=up * (link.down / link.up))


def parse_bandwidths(text: str) -> Bandwidths:
    """The distribution a text describes; HardwareError if it does not parse or cannot be read."""
    match = _RANGE.fullmatch(text)
    if match:
        low, high = (parse_link(rate).up for rate in match.groups())
        return _log_uniform(text, low, high)
    try:
        trace = read_trace(Path(text))
    except HardwareError as error:
        raise HardwareError(
            f"bandwidths {text!r} are neither a range, e.g. 0.1MB/s-100MB/s, nor a trace: {error}"
        ) from error
    import numpy as np  # local, so that `vlacut devices` need not wait for it

    rates = np.maximum(trace.rates, _LEAST_BYTES_PER_S)
    seconds_per_byte = 1 / (rates * Framing().share)
    return of_samples(f"the trace {Path(text).name}", seconds_per_byte, np.array(trace.seconds))


def of_samples(text: str, seconds_per_byte: np.ndarray, lasts: np.ndarray) -> Bandwidths:
    """The distribution of samples with their durations, in groups of about equal shares."""
    import numpy as np  # local, so that `vlacut devices` need not wait for it

    order = np.argsort(seconds_per_byte, kind="stable")
    values, weights = seconds_per_byte[order], lasts[order] / lasts.sum()
    group = np.minimum((np.cumsum(weights) - weights / 2) * _POINTS, _POINTS - 1).astype(int)
    shares = np.bincount(group, weights)
    means = np.bincount(group, weights * values)[shares > 0] / shares[shares > 0]
    return Bandwidths(text, tuple(means.tolist()), tuple(shares[shares > 0].tolist()))


def _log_uniform(text: str, low: float, high: float) -> Bandwidths:
    import numpy as np  # local, so that `vlacut devices` need not wait for it

    if not 0 < low < high:
        raise HardwareError(f"bandwidths {text!r}: the first must be below the second")
    # The mean of 1/rate over [a, b] where log(rate) is uniform is (1/a - 1/b) / log(b / a).
    borders = np.geomspace(high, low, _POINTS + 1)
    means = (1 / borders[1:] - 1 / borders[:-1]) / (np.log(high / low) / _POINTS)
    return Bandwidths(text, tuple(means.tolist()), (1 / _POINTS,) * _POINTS)
