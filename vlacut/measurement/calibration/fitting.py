"""Fitting the device model to measurements: robust least squares on the errors of the logarithms.

The fit has these free parameters: the peak rate, both bandwidths, the size of the cache, and the
parameters of the stack that hold for all kernels. Every measured operator adds its part of the rate
(or of the bandwidth, if it computes nothing), its launch, and its gain from several threads. By
definition, large products reach all of the peak, and products with a vector all of the bandwidth;
the parts of other operators are relative to that. Products that read their weights as codes have,
by their form, a peak rate, a part of the bandwidth, the rows in whose time codes are unpacked (of
products of many rows, and of one), a launch, a depth and a gain from threads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import OptimizeResult, least_squares

from vlacut.hardware import Device
from vlacut.measurement.calibration.predicting import Observation, Predictions
from vlacut.pricing.roofline import QUANTILE_95

_SCALE = 0.1  # of log errors: beyond it a measurement counts less and less
_UNKNOWN = 1.0  # standard deviation of the logarithm of a parameter before anything is measured
_BLOCK_WEIGHT = 4.0  # of a block's error against an operator's: models are made of blocks
_MACHINE = ("peak.float32", "memory_bandwidth", "cache_bandwidth", "cache_bytes")
_STACK = ("launch_s", "call_s", "batch_s", "half_depth", "overlap")
_PARTS = ("compute.conv", "memory.gemm", "memory.conv", "memory.pointwise", "memory.reduction")
_SPEEDUPS = ("speedup.gemm", "speedup.conv")
_OWN_KINDS = ("pointwise", "reduction", "movement")  # whose operators have parameters of their own
_WAKE_S = 1e-5
_DEPTH = 32.0  # terms at which a product of codes may get half of its rate, to start from
_ROWS = 2.0  # in the time of which codes may be unpacked, to start from
_TOLERANCE = 1e-4  # of the cost: the measurements are known far less well
_MOST_STEPS = 60
_MARGIN = 1e-3  # of the logarithm of a speedup above 0, for derivatives step down


@dataclass(frozen=True)
class Fit:
    """What the measurements say.

    Attributes:
        device: with the fitted parameters; its interval covers 90 % of the blocks.
        parameters: what was fitted, by name.
        deviations: standard deviation of the logarithm of each.
        errors: log(predicted / measured), of operators and then of blocks.
    """

    device: Device
    parameters: Mapping[str, float]
    deviations: Mapping[str, float]
    errors: tuple[float, ...]


def fit(
    operators: Sequence[Observation], families: Sequence[Sequence[Observation]], start: Device
) -> Fit:
    """The device whose predictions come closest to the observations.

    A model that is to be predicted belongs to no family that was measured. So the spread comes from
    predicting each family of blocks by a fit to all the others.

    Args:
        operators: chains of one kind of operator, at several sizes.
        families: of blocks of many kinds of operators.
        start: a device to start from, whose host takes no time; what no observation tells of stays
            as it is.
    """
    every = (*operators, *(block for family in families for block in family))
    sizes = (len(operators), *map(len, families))
    family_of = np.repeat(np.arange(len(sizes)), sizes)
    weights = np.where(family_of > 0, _BLOCK_WEIGHT, 1.0)
    problem = _Problem(every, start)
    found = problem.solve(weights, problem.start)
    left_out = [
        problem.errors(problem.solve(weights * (family_of != index), found.x).x)[family_of == index]
        for index in range(1, len(sizes))
    ]
    errors = problem.errors(found.x)
    device = _with_defaults(problem.device(found.x))
    spread = {"spread": _spread(np.concatenate(left_out))}
    return Fit(
        replace(device, stack=device.stack.with_parameters(spread)),
        dict(zip(problem.names, map(float, np.exp(found.x)), strict=True)),
        dict(zip(problem.names, _deviations(found.jac, weights, _spread(errors)), strict=True)),
        tuple(errors.tolist()),
    )


class _Problem:
    """Least squares over the logarithms of the parameters."""

    def __init__(self, observations: Sequence[Observation], device: Device) -> None:
        begin = _starting_point(observations, device)
        self.names = tuple(begin)
        self._device, self._bounds = device, _bounds(self.names, device)
        self.start = np.clip(np.log(list(begin.values())), *self._bounds)
        self._measured = np.log([item.seconds for item in observations])
        self._predictions = Predictions(observations, self.names)

    def device(self, x: np.ndarray) -> Device:
        return _with(self._device, dict(zip(self.names, np.exp(x), strict=True)))

    def errors(self, x: np.ndarray) -> np.ndarray:
        """log(predicted / measured) of each observation."""
        return np.asarray(np.log(self._predictions.seconds(self.device(x))) - self._measured)

    def solve(self, weights: np.ndarray, x: np.ndarray) -> OptimizeResult:
        """The solution from x on, with a weight an observation.

        A weak pull goes to the start: what nothing tells of must stay somewhere.
        """
        pull = _SCALE / _UNKNOWN

        def residuals(x: np.ndarray) -> np.ndarray:
            return np.concatenate([weights * self.errors(x), pull * (x - self.start)])

        def jacobian(x: np.ndarray) -> np.ndarray:
            slopes = weights[:, None] * self._predictions.derivatives(x, self.device)
            return np.concatenate([slopes, pull * np.eye(len(x))])

        inside = np.clip(x, self._bounds[0] + _MARGIN, self._bounds[1] - _MARGIN)
        return least_squares(
            residuals,
            inside,
            jacobian,
            bounds=self._bounds,
            loss="soft_l1",
            f_scale=_SCALE,
            ftol=_TOLERANCE,
            max_nfev=_MOST_STEPS,
        )


def _spread(errors: np.ndarray) -> float:
    """Standard deviation of the normal distribution 90 % of which lie within the errors' bound.

    The bound is that of split conformal prediction (Lei et al., JASA 2018): the next error of the
    same kind is within the ceil(0.9 (n + 1))-th smallest of n with a probability of 90 %.
    """
    sizes = np.sort(np.abs(errors))
    rank = min(math.ceil(0.9 * (len(sizes) + 1)), len(sizes))
    return float(sizes[rank - 1]) / QUANTILE_95


def _machine(device: Device, name: str) -> float:
    return device.peak["float32"] if name == "peak.float32" else float(getattr(device, name))


def _of_codes(observations: Sequence[Observation], start: Device) -> dict[str, float]:
    """Where the parameters of products of codes start: those of products of floats."""
    kernels = (kernel for item in observations for kernel in item.kernels)
    begin: dict[str, float] = {}
    for form in dict.fromkeys(kernel.form for kernel in kernels if kernel.form):
        begin |= {
            f"peak.{form}": start.peak["float32"],
            f"memory.gemm.{form}": start.stack.memory_part("gemm", "vector"),
            f"rows.gemm.{form}": _ROWS,
            f"rows.gemm.{form}.vector": _ROWS,
            f"launch.gemm.{form}": start.stack.launch_s,
            f"depth.gemm.{form}": _DEPTH,
        }
        if start.multiprocessors > 1:
            begin[f"speedup.gemm.{form}"] = math.sqrt(start.multiprocessors)
    return begin


def _starting_point(observations: Sequence[Observation], start: Device) -> dict[str, float]:
    """The parameters to fit, and where to start."""
    known = start.stack.parameters() | {name: _machine(start, name) for name in _MACHINE}
    begin = {name: known[name] for name in (*_MACHINE, *_STACK, *_PARTS)}
    operators = dict.fromkeys(
        (kernel.kind, kernel.operator)
        for item in observations
        for kernel in item.kernels
        if kernel.kind in _OWN_KINDS
    )
    for kind, operator in operators:
        table = "memory" if kind == "movement" else "compute"
        begin[f"{table}.{kind}.{operator}"] = known[f"{table}.{kind}"]
        begin[f"launch.{kind}.{operator}"] = start.stack.launch_s
    if start.multiprocessors > 1:
        own = (f"speedup.{kind}.{operator}" for kind, operator in operators)
        begin |= dict.fromkeys((*_SPEEDUPS, *own), math.sqrt(start.multiprocessors))
        begin["wake_s"] = _WAKE_S
    return begin | _of_codes(observations, start)


def _bounds(names: Sequence[str], start: Device) -> tuple[np.ndarray, np.ndarray]:
    """Least and most of the logarithms of parameters."""
    lower, upper = np.full(len(names), -np.inf), np.full(len(names), np.inf)
    for index, name in enumerate(names):
        if name.startswith("speedup."):
            lower[index], upper[index] = _MARGIN, math.log(start.multiprocessors)
        elif name.startswith(("compute.", "memory.")) or name == "overlap":
            upper[index] = 0.0
    return lower, upper


def _with(device: Device, values: Mapping[str, float]) -> Device:
    """The device with some parameters replaced."""
    machine = {name: values[name] for name in _MACHINE if name in values}
    peak = {name[5:]: value for name, value in values.items() if name.startswith("peak.")}
    del machine["peak.float32"]
    machine["cache_bandwidth"] = max(machine["cache_bandwidth"], machine["memory_bandwidth"])
    known = {*_MACHINE, *(f"peak.{name}" for name in peak)}
    stack = {name: value for name, value in values.items() if name not in known}
    return replace(
        device,
        peak={**device.peak, **peak},
        stack=device.stack.with_parameters(stack),
        **machine,  # type: ignore[arg-type]  # floats all
    )


def _with_defaults(device: Device) -> Device:
    """For operators that were not measured: the geometric mean of those of their kind."""
    stack, means = device.stack, dict[str, float]()
    tables: Mapping[str, Mapping[str, float]] = {
        "compute": stack.compute,
        "memory": stack.memory,
        "speedup": stack.speedup,
    }
    for table, parts in tables.items():
        for kind in _OWN_KINDS:
            own = [math.log(part) for key, part in parts.items() if key.startswith(f"{kind}.")]
            if own:
                means[f"{table}.{kind}"] = math.exp(sum(own) / len(own))
    return replace(device, stack=stack.with_parameters(means))


def _deviations(jacobian: np.ndarray, weights: np.ndarray, spread: float) -> list[float]:
    """Standard deviations of the parameters by the linear theory, errors having that deviation.

    A weight makes a measurement count for more without making it better known.
    """
    inverse = np.linalg.pinv(jacobian.T @ jacobian)
    weighted = jacobian.copy()
    weighted[: len(weights)] *= weights[:, None]
    covariance = spread**2 * inverse @ weighted.T @ weighted @ inverse
    return [float(value) for value in np.sqrt(np.diag(covariance))]
