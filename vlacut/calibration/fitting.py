"""Fitting the device model to measurements: robust least squares on the errors of the logarithms.

Free are the peak rate, both bandwidths, the size of the cache, the parameters of the stack that
hold for all kernels, and for every operator measured its part of the rate (or, where it computes
nothing, of the bandwidth) and its launch. Large products take all of the peak, and products with a
vector all of the bandwidth, by definition: the others are parts of what those reach.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares
from scipy.sparse import lil_matrix

from vlacut.cost import Kernel, sequence_seconds
from vlacut.hardware import Device

_SCALE = 0.1  # of log errors: beyond it a measurement counts less and less
_UNKNOWN = 3.0  # standard deviation of the logarithm of a parameter before anything is measured
_MACHINE = ("peak.float32", "memory_bandwidth", "cache_bandwidth", "cache_bytes")
_STACK = ("launch_s", "call_s", "batch_s", "half_depth", "overlap")
_PARTS = ("compute.conv", "memory.gemm", "memory.conv", "memory.pointwise", "memory.reduction")
_QUANTILE_95 = 1.645


@dataclass(frozen=True)
class Observation:
    """A measurement, and what the model needs to predict it.

    Attributes:
        name: for messages.
        kernels: in order.
        working_set: bytes of weights they read.
        seconds: measured.
    """

    name: str
    kernels: tuple[Kernel, ...]
    working_set: int
    seconds: float


@dataclass(frozen=True)
class Fit:
    """What the measurements say.

    Attributes:
        device: with the fitted parameters; its spread covers 90 % of the observations.
        parameters: what was fitted, by name.
        deviations: standard deviation of the logarithm of each.
        errors: log(predicted / measured) of every observation.
    """

    device: Device
    parameters: Mapping[str, float]
    deviations: Mapping[str, float]
    errors: tuple[float, ...]


def fit(observations: Sequence[Observation], start: Device) -> Fit:
    """The device whose predictions come closest to the observations.

    Args:
        observations: what was measured.
        start: a device to start from; what no observation tells of stays as it is.
    """
    begin = _starting_point(observations, start)
    names, x0 = tuple(begin), np.log(list(begin.values()))
    upper = np.array([0.0 if _is_part(name) else math.inf for name in names])
    x0 = np.minimum(x0, upper - 1e-3)
    measured = np.log([item.seconds for item in observations])

    def errors(x: np.ndarray) -> np.ndarray:
        device = _with(start, dict(zip(names, np.exp(x), strict=True)))
        return np.array([_log_seconds(item, device) for item in observations]) - measured

    def residuals(x: np.ndarray) -> np.ndarray:
        """Errors, and a weak pull to the start: what nothing tells of must stay somewhere."""
        return np.concatenate([errors(x), _SCALE * (x - x0) / _UNKNOWN])

    found = least_squares(
        residuals,
        x0,
        bounds=(-np.inf, upper),
        loss="soft_l1",
        f_scale=_SCALE,
        jac_sparsity=_touched(names, observations),
    )
    values = dict(zip(names, map(float, np.exp(found.x)), strict=True))
    left = errors(found.x)
    spread = float(np.quantile(np.abs(left), 0.9)) / _QUANTILE_95
    device = _with_defaults(_with(start, values | {"spread": spread}))
    deviations = _deviations(found.jac.toarray(), spread)
    return Fit(device, values, dict(zip(names, deviations, strict=True)), tuple(map(float, left)))


def _starting_point(observations: Sequence[Observation], start: Device) -> dict[str, float]:
    """The parameters to fit, and where to start."""
    known = {f"peak.{dtype}": rate for dtype, rate in start.peak.items()}
    known |= {name: float(getattr(start, name)) for name in _MACHINE[1:]}
    known |= start.stack.parameters()
    begin = {name: known[name] for name in (*_MACHINE, *_STACK, *_PARTS)}
    for item in observations:
        for kernel in item.kernels:
            key = f"{kernel.kind}.{kernel.operator}"
            if kernel.kind in ("pointwise", "reduction", "movement"):
                table = "memory" if kernel.kind == "movement" else "compute"
                begin[f"{table}.{key}"] = known[f"{table}.{kernel.kind}"]
                begin[f"launch.{key}"] = start.stack.launch_s
    return begin


def _touched(names: Sequence[str], observations: Sequence[Observation]) -> lil_matrix:
    """Which residuals hang on which parameters: one of an operator on what has that operator."""
    rows = len(observations)
    touched = lil_matrix((rows + len(names), len(names)), dtype=int)
    operators = [{f"{k.kind}.{k.operator}" for k in item.kernels} for item in observations]
    for column, name in enumerate(names):
        _, _, key = name.partition(".")
        for row in range(rows):
            touched[row, column] = "." not in key or key in operators[row]
        touched[rows + column, column] = 1
    return touched


def _is_part(name: str) -> bool:
    return name.startswith(("compute.", "memory.")) or name == "overlap"


def _with(device: Device, values: Mapping[str, float]) -> Device:
    """The device with some parameters replaced."""
    machine = {name: values[name] for name in _MACHINE if name in values}
    peak = machine.pop("peak.float32")
    machine["cache_bandwidth"] = max(machine["cache_bandwidth"], machine["memory_bandwidth"])
    stack = {name: value for name, value in values.items() if name not in _MACHINE}
    return replace(
        device,
        peak={**device.peak, "float32": peak},
        stack=device.stack.with_parameters(stack),
        **machine,  # type: ignore[arg-type]  # floats all
    )


def _log_seconds(item: Observation, device: Device) -> float:
    return math.log(sequence_seconds(item.kernels, device, item.working_set))


def _with_defaults(device: Device) -> Device:
    """For operators that were not measured: the geometric mean of those of their kind."""
    stack, means = device.stack, dict[str, float]()
    tables: Mapping[str, Mapping[str, float]] = {"compute": stack.compute, "memory": stack.memory}
    for table, parts in tables.items():
        for kind in ("pointwise", "reduction", "movement"):
            own = [math.log(part) for key, part in parts.items() if key.startswith(f"{kind}.")]
            if own:
                means[f"{table}.{kind}"] = math.exp(sum(own) / len(own))
    return replace(device, stack=stack.with_parameters(means))


def _deviations(jacobian: np.ndarray, spread: float) -> list[float]:
    """Standard deviations of the parameters by the linear theory, errors having that deviation."""
    covariance = spread**2 * np.linalg.pinv(jacobian.T @ jacobian)
    return [float(value) for value in np.sqrt(np.diag(covariance))]
