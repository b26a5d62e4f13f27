"""Trace: recorded bandwidth of a link, and the bandwidth it has for a share of the time.

Formats, by a file's content:

    time_s,mbit_per_s          CSV with this header: start of an interval in seconds, and the mean
    0.0,41.2                   rate over it in 10**6 bits per second
    12                         mahimahi: each line is a chance to send 1500 bytes, at a time in
    12                         milliseconds that never falls; read as the rate over 100 ms steps

A folder is all of its `.csv` files, and those of the folders in it, together.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from vlacut.errors import HardwareError

_HEADER = ["time_s", "mbit_per_s"]
_BYTES_PER_MBIT = 1e6 / 8
_PACKET_BYTES = 1500  # mahimahi's MTU: mahimahi(1), mm-link
_STEP_MS = 100
_PIECE = re.compile(r"(_[sp]\d+)+$")


@dataclass(frozen=True)
class Trace:
    """Bandwidths of a link, each with how long it lasted.

    Attributes:
        rates: bytes per second, none below 0.
        seconds: how long each lasted, above 0.

    Raises HardwareError if there are no rates, or a number is out of range.
    """

    rates: tuple[float, ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.rates or len(self.rates) != len(self.seconds):
            raise HardwareError("a bandwidth trace needs at least one rate, each with its time")
        if not (min(self.rates) >= 0 and min(self.seconds) > 0):
            raise HardwareError("a bandwidth trace has a rate below 0, or a time that is not above")

    @property
    def mean(self) -> float:
        """Mean bandwidth over time, in bytes per second."""
        moved = sum(rate * spent for rate, spent in zip(self.rates, self.seconds, strict=True))
        return moved / sum(self.seconds)

    def sampled(self, interval_s: float) -> tuple[float, ...]:
        """Mean bandwidths over consecutive intervals of this length, in seconds; a rest is dropped.

        Raises HardwareError if the interval is not above 0.
        """
        import numpy as np  # local, so that `vlacut devices` need not wait for it

        if not interval_s > 0:
            raise HardwareError(f"a sampling interval of {interval_s:g} s must be above 0")
        ends = np.cumsum(self.seconds)
        moved = np.concatenate(([0.0], np.cumsum(np.multiply(self.rates, self.seconds))))
        count = int(ends[-1] / interval_s * (1 + 1e-9))
        borders = np.arange(count + 1) * interval_s
        sums = np.interp(borders, np.concatenate(([0.0], ends)), moved)
        return tuple((np.diff(sums) / interval_s).tolist())

    def reached(self, share: float) -> float:
        """The highest bandwidth that the link has for at least `share` of the time.

        The latency of a cut falls with the bandwidth, so its `share` quantile over the trace (the
        smallest latency that `share` of the time is not exceeded) is its latency at this bandwidth.

        Raises HardwareError if `share` is not in (0, 1].
        """
        if not 0 < share <= 1:
            raise HardwareError(f"quantile {share:g} must be above 0 and at most 1, e.g. 0.95")
        left = share * sum(self.seconds) * (1 - 1e-12)  # sums of the same times may differ
        for rate, spent in sorted(zip(self.rates, self.seconds, strict=True), reverse=True):
            left -= spent
            if left <= 0:
                return rate
        raise AssertionError("unreachable: all of the time covers any share of it")


def read_recordings(path: Path) -> dict[str, tuple[Trace, ...]]:
    """The traces in a file or a folder, apart, by recording.

    Files of one folder are pieces of one recording if their names differ only in an ending `_p0`,
    `_p1` ... or `_s0`, `_s1` ... Raises HardwareError as `read_trace` does.
    """
    pieces: dict[str, list[Trace]] = {}
    for file in _files(path):
        name = f"{file.parent.name}/{_PIECE.sub('', file.stem)}"
        pieces.setdefault(name, []).append(_read_file(file))
    return {name: tuple(traces) for name, traces in pieces.items()}


def read_trace(path: Path) -> Trace:
    """The trace in a file, or of all files in a folder; see the module's docstring.

    Raises HardwareError naming the file, and the line that does not parse.
    """
    traces = [_read_file(file) for file in _files(path)]
    return Trace(
        tuple(rate for trace in traces for rate in trace.rates),
        tuple(spent for trace in traces for spent in trace.seconds),
    )


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise HardwareError(f"no bandwidth trace at {path}")
    files = sorted(path.rglob("*.csv")) if path.is_dir() else [path]
    if not files:
        raise HardwareError(f"{path}: a folder without .csv files")
    return files


def _read_file(path: Path) -> Trace:
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise HardwareError(f"{path}: not a text of rates: {error}") from error
    read = _series if rows and rows[0] == _HEADER else _packets
    rows = [row for row in rows if row]
    try:
        return read(rows)
    except ValueError as error:
        raise HardwareError(
            f"{path}: {error}; a trace is a CSV file with the header {','.join(_HEADER)}, or "
            f"mahimahi's, a line of milliseconds for every packet"
        ) from error


def _series(rows: list[list[str]]) -> Trace:
    """Rows of a CSV file, a median step each: a longer one is a gap, a clock may be set back."""
    import statistics  # local: `vlacut devices` reads no trace

    numbers = [(float(start), float(rate)) for start, rate in rows[1:]]
    steps = [after[0] - before[0] for before, after in pairwise(numbers)]
    step = statistics.median(steps) if steps else 1.0
    if step <= 0:
        raise ValueError("time_s does not grow from row to row")
    return Trace(tuple(rate * _BYTES_PER_MBIT for _, rate in numbers), (step,) * len(numbers))


def _packets(rows: Iterable[list[str]]) -> Trace:
    """Lines of mahimahi's format, whose last one is its length."""
    times = [int(time) for (time,) in rows]
    if not times or times != sorted(times) or times[0] < 0 or times[-1] == 0:
        raise ValueError("milliseconds must not fall from line to line, and end above 0")
    steps = -(-times[-1] // _STEP_MS)
    sent = [0] * steps
    for time in times:
        sent[min(time // _STEP_MS, steps - 1)] += 1
    lasted = [_STEP_MS] * (steps - 1) + [times[-1] - _STEP_MS * (steps - 1)]
    return Trace(
        tuple(
            count * _PACKET_BYTES * 1e3 / spent for count, spent in zip(sent, lasted, strict=True)
        ),
        tuple(spent / 1e3 for spent in lasted),
    )
