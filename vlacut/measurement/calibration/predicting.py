"""Predicting measurements many times, for devices that differ in their parameters.

A graph has few distinct kernels, and each is priced once. A kernel's seconds depend only on its own
operator's parameters. So one pass over the kernels gives the derivatives of all operators by one
parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from vlacut.hardware import Device
from vlacut.pricing.roofline import Kernel, device_seconds

_STEP = 1e-4  # of the logarithm of a parameter


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


class Predictions:
    """The seconds of observations as the model has them, on devices whose host takes no time.

    Args:
        observations: what is predicted.
        names: of the parameters that `derivatives` goes through; those of an operator are called
            `table.kind.Operator`, those of products of codes `table.kind.form`.
    """

    def __init__(self, observations: Sequence[Observation], names: Sequence[str]) -> None:
        of: dict[tuple[Kernel, int], int] = {}
        rows, columns = [], []
        for row, item in enumerate(observations):
            for kernel in item.kernels:
                rows.append(row)
                columns.append(of.setdefault((kernel, item.working_set), len(of)))
        self._pieces = tuple(of)
        shape = (len(observations), len(of))
        self._counts = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
        self._passes = self._grouped(names)

    def _grouped(self, names: Sequence[str]) -> list[tuple[list[int], list[np.ndarray]]]:
        """Indices of the parameters that move together, each with the kernels that it moves."""
        keys = np.array([f"{kernel.kind}.{kernel.own}" for kernel, _ in self._pieces])
        found: dict[str, tuple[list[int], list[np.ndarray]]] = {}
        for index, name in enumerate(names):
            table, _, key = name.partition(".")
            own = keys == key
            group, moved = (table, own) if own.any() else (name, np.full(len(keys), True))
            indices, masks = found.setdefault(group, ([], []))
            indices.append(index)
            masks.append(moved)
        return list(found.values())

    def seconds(self, device: Device) -> np.ndarray:
        """Of every observation."""
        return np.asarray(device.stack.call_s + self._counts @ self._each(device))

    def derivatives(self, x: np.ndarray, device: Callable[[np.ndarray], Device]) -> np.ndarray:
        """Of the logarithms of the seconds by x, [observations, parameters], at device(x)."""
        here = device(x)
        each, total = self._each(here), self.seconds(here)
        found = np.empty((len(total), len(x)))
        for indices, masks in self._passes:
            moved = x.copy()
            moved[indices] -= _STEP  # down, for parts may be at their bound
            there = device(moved)
            calls = here.stack.call_s - there.stack.call_s
            change = each - self._each(there)
            for index, mask in zip(indices, masks, strict=True):
                found[:, index] = (calls + self._counts @ (change * mask)) / (_STEP * total)
        return found

    def _each(self, device: Device) -> np.ndarray:
        return np.array([device_seconds(kernel, device, at) for kernel, at in self._pieces])
