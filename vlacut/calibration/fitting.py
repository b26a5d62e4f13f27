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
_GROUPS = ("peak.float32", "bandwidth", "launch")
_LIKELY = 0.3  # standard deviation of the logarithm of what a block makes of operators alone
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
        device: with the fitted parameters; its interval covers 90 % of the blocks.
        parameters: what was fitted, by name.
        deviations: standard deviation of the logarithm of each.
        errors: log(predicted / measured), of operators and then of blocks.
    """

    device: Device
    parameters: Mapping[str, float]
    deviations: Mapping[str, float]
    errors: tuple[float, ...]


def fit(operators: Sequence[Observation], blocks: Sequence[Observation], start: Device) -> Fit:
    """The device whose predictions come closest to the observations.

    The parameters are fitted to the operators; then peak, bandwidths and launches are scaled, each
    as a whole, to what the blocks took. The spread is that of the blocks.

    Args:
        operators: chains of one kind of operator, at several sizes.
        blocks: graphs of many kinds of operators.
        start: a device to start from; what no observation tells of stays as it is.
    """
    begin = _starting_point(operators, start)
    names, x0 = tuple(begin), np.log(list(begin.values()))
    upper = np.array([0.0 if _is_part(name) else math.inf for name in names])
    x0 = np.minimum(x0, upper - 1e-3)

    def residuals(x: np.ndarray) -> np.ndarray:
        """Errors, and a weak pull to the start: what nothing tells of must stay somewhere."""
        device = _with(start, dict(zip(names, np.exp(x), strict=True)))
        return np.concatenate([_errors(operators, device), _SCALE * (x - x0) / _UNKNOWN])

    found = least_squares(
        residuals,
        x0,
        bounds=(-np.inf, upper),
        loss="soft_l1",
        f_scale=_SCALE,
        jac_sparsity=_touched(names, operators),
    )
    values = dict(zip(names, map(float, np.exp(found.x)), strict=True))
    device = _with_defaults(_with(start, values))
    deviations = _deviations(found.jac.toarray(), _spread(_errors(operators, device)))
    device, factors = _scaled(device, blocks)
    spread = _spread(_errors(blocks, device))
    stack = device.stack.with_parameters({"spread": spread})
    device = replace(device, stack=stack)
    values = {name: value * factors.get(_group(name), 1.0) for name, value in values.items()}
    errors = _errors((*operators, *blocks), device)
    return Fit(device, values, dict(zip(names, deviations, strict=True)), tuple(errors.tolist()))


def _errors(observations: Sequence[Observation], device: Device) -> np.ndarray:
    """log(predicted / measured) of each."""
    predicted = [sequence_seconds(item.kernels, device, item.working_set) for item in observations]
    return np.log(predicted) - np.log([item.seconds for item in observations])


def _spread(errors: np.ndarray) -> float:
    """Standard deviation of the normal distribution 90 % of which lie within the errors' bound.

    The bound is that of split conformal prediction (Lei et al., JASA 2018): the next error of the
    same kind is within the ceil(0.9 (n + 1))-th smallest of n with a probability of 90 %.
    """
    sizes = np.sort(np.abs(errors))
    rank = min(math.ceil(0.9 * (len(sizes) + 1)), len(sizes))
    return float(sizes[rank - 1]) / _QUANTILE_95


def _scaled(device: Device, blocks: Sequence[Observation]) -> tuple[Device, dict[str, float]]:
    """The device scaled to blocks, and the factors by group of parameters."""

    def with_factors(x: np.ndarray) -> Device:
        factors = dict(zip(_GROUPS, np.exp(x), strict=True))
        known = device.stack.parameters() | {name: _machine(device, name) for name in _MACHINE}
        return _with(
            device,
            {name: value * factors.get(_group(name), 1.0) for name, value in known.items()},
        )

    def residuals(x: np.ndarray) -> np.ndarray:
        return np.concatenate([_errors(blocks, with_factors(x)), _SCALE * x / _LIKELY])

    x = least_squares(residuals, np.zeros(len(_GROUPS)), loss="soft_l1", f_scale=_SCALE).x
    return with_factors(x), dict(zip(_GROUPS, map(float, np.exp(x)), strict=True))


def _group(name: str) -> str:
    """The group of parameters that are scaled together, or none."""
    if name.startswith("launch") or name == "batch_s":
        return "launch"
    return "bandwidth" if name.endswith("_bandwidth") else name


def _machine(device: Device, name: str) -> float:
    return device.peak["float32"] if name == "peak.float32" else float(getattr(device, name))


def _starting_point(observations: Sequence[Observation], start: Device) -> dict[str, float]:
    """The parameters to fit, and where to start."""
    known = start.stack.parameters() | {name: _machine(start, name) for name in _MACHINE}
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
