"""Tables of the expected error of an action, by bin of risk; the file that holds them.

The error of a command is its distance from what the policy would say now, as a share of each
column's range, averaged over the columns. `e_variant` is the error that a variant adds, and
`e_stale` the error that the age of its observation adds. Both are means of recorded errors, or
upper quantiles that a share `alpha` of them exceeds, conformal by bin (Vovk's Mondrian conformal
prediction). They fall neither with the risk nor with the age. The file is numpy's .npz without
pickles:

    format                    1
    variants                  V names
    period_s                  between the rows of e_stale
    scale                     W          ranges of the columns
    edges                     B - 1      risks between bins
    e_variant                 V x B
    e_stale                   D x B      by age in periods, from 0
    eps                       B          the error that is allowed
    alpha                     share of errors beyond the tables; 0 of means
    counts                    B          ticks that a bin was made of
    risk_weights, risk_mean, risk_scale      FEATURES
    risk_bias, risk_threshold
    motion_acceleration, motion_torque       of each joint, see `MotionScale`
    motion_floors             3          acceleration, torque, speed
    rapid                     2          thresholds of the importance: above, and below it again
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vlacut.bundle.staging import write_file
from vlacut.control.signals.motion import MotionScale
from vlacut.control.signals.risk import FEATURES, RiskModel
from vlacut.errors import BundleError, InputError
from vlacut.tensor.npz import UNREADABLE, npz_bytes, read_npz, reason

FORMAT = 1


@dataclass(frozen=True, eq=False)
class ActionTables:
    """See the module's docstring."""

    variants: tuple[str, ...]
    period_s: float
    scale: np.ndarray
    edges: np.ndarray
    e_variant: np.ndarray
    e_stale: np.ndarray
    eps: np.ndarray
    alpha: float
    counts: np.ndarray
    risk: RiskModel
    motion: MotionScale
    rapid: tuple[float, float]

    def check(self, variants: Iterable[str]) -> None:
        """Raise InputError if there is a variant that the tables do not hold."""
        missing = sorted(set(variants) - set(self.variants))
        if missing:
            raise InputError(
                f"the tables hold no variant {', '.join(missing)}; calibrate this bundle"
            )

    @cached_property
    def _stale(self) -> list[list[float]]:
        made: list[list[float]] = self.e_stale.T.tolist()
        return made

    @cached_property
    def _edges(self) -> list[float]:
        made: list[float] = self.edges.tolist()
        return made

    def bin(self, risk: float) -> int:
        """The bin of a risk."""
        return bisect_right(self._edges, risk)

    def stale(self, bin_: int, age_s: float) -> float:
        """The error of a command of an age in seconds: linear between periods, and beyond the last
        row with the slope it has there.
        """
        column = self._stale[bin_]
        place = max(0.0, age_s / self.period_s)
        last = len(column) - 1
        if place >= last:
            rise = column[last] - column[last - 1] if last else 0.0
            return column[last] + rise * (place - last)
        low = int(place)
        return column[low] + (column[low + 1] - column[low]) * (place - low)


def write_tables(path: Path, tables: ActionTables) -> None:
    """Write the file."""
    risk, motion = tables.risk, tables.motion
    floors = motion.acceleration_floor, motion.torque_floor, motion.speed
    arrays = {
        "format": np.array(FORMAT),
        "variants": np.array(tables.variants),
        "period_s": np.array(tables.period_s),
        "scale": tables.scale,
        "edges": tables.edges,
        "e_variant": tables.e_variant,
        "e_stale": tables.e_stale,
        "eps": tables.eps,
        "alpha": np.array(tables.alpha),
        "counts": tables.counts,
        "risk_weights": risk.weights,
        "risk_mean": risk.mean,
        "risk_scale": risk.scale,
        "risk_bias": np.array(risk.bias),
        "risk_threshold": np.array(risk.threshold),
        "motion_acceleration": np.array(motion.acceleration, float),
        "motion_torque": np.array(motion.torque, float),
        "motion_floors": np.array(floors, float),
        "rapid": np.array(tables.rapid, float),
    }
    write_file(path, npz_bytes(arrays))


def read_tables(path: Path) -> ActionTables:
    """What a file holds; BundleError if that is no tables of this format."""
    try:
        found = read_npz(path)
    except UNREADABLE as error:
        raise BundleError(f"{path}: cannot be read as tables: {reason(error)}") from error
    wrong = _wrong(found)
    if wrong:
        raise BundleError(f"{path}: {wrong}; make it with vlacut calibrate-actions")
    acceleration, torque = found["motion_acceleration"].tolist(), found["motion_torque"].tolist()
    return ActionTables(
        tuple(found["variants"].tolist()),
        float(found["period_s"]),
        found["scale"],
        found["edges"],
        found["e_variant"],
        found["e_stale"],
        found["eps"],
        float(found["alpha"]),
        found["counts"],
        RiskModel(
            found["risk_weights"],
            found["risk_mean"],
            found["risk_scale"],
            float(found["risk_bias"]),
            float(found["risk_threshold"]),
        ),
        MotionScale(tuple(acceleration), tuple(torque), *found["motion_floors"].tolist()),
        (float(found["rapid"][0]), float(found["rapid"][1])),
    )


def _wrong(found: dict[str, np.ndarray]) -> str:
    """What is wrong with these arrays; empty if nothing is."""
    if "format" not in found or found["format"].shape or found["format"].tolist() != FORMAT:
        return f"holds no tables of format {FORMAT}"
    variants, eps = found.get("variants", np.empty(0)), found.get("eps", np.empty(0))
    if variants.ndim != 1 or variants.dtype.kind != "U" or not variants.size or eps.ndim != 1:
        return "variants are not a row of names, or eps no row"
    rows = found.get("e_stale", np.empty((0, 0))).shape[0]
    free = {"scale": 1, "motion_acceleration": 1, "motion_torque": 1}
    shapes = {
        **dict.fromkeys(("period_s", "alpha", "risk_bias", "risk_threshold"), ()),
        **dict.fromkeys(("risk_weights", "risk_mean", "risk_scale"), (FEATURES,)),
        "edges": (eps.size - 1,),
        "e_variant": (variants.size, eps.size),
        "e_stale": (rows, eps.size),
        "counts": (eps.size,),
        "eps": (eps.size,),
        "motion_floors": (3,),
        "rapid": (2,),
    }
    for name in [*shapes, *free]:
        array = found.get(name)
        if array is None or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            return f"{name} is not an array of finite numbers"
        if array.ndim != free[name] if name in free else array.shape != shapes[name]:
            return f"{name} has the shape {list(array.shape)}"
    positive = (found["period_s"], found["scale"], found["risk_scale"])
    if rows < 1 or not all((array > 0).all() for array in positive):
        return "its period, scales or ages are not above 0"
    if (np.diff(found["edges"]) < 0).any():
        return "its bins are not in order"
    return ""
