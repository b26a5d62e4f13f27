"""The golden tensors of a part, and the comparison of an engine with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlacut.bundle.engine_records import GOLDEN, NOTHING
from vlacut.errors import BackendError, BundleError
from vlacut.tensor.npz import UNREADABLE, read_npz, reason

if TYPE_CHECKING:
    from vlacut_backends.tensorrt.execute import Port


@dataclass(frozen=True)
class Golden:
    """Inputs of a part, and the outputs it should give; empty if these are not known."""

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """What outputs were compared with, and how far off they are, as a share of the largest."""

    against: str
    error: float


def read_golden(file: str, inputs: Sequence[str], outputs: Sequence[str]) -> Golden:
    """The golden tensors in a file; none without a file. Raises BundleError if it is damaged."""
    if not file:
        return Golden({}, {})
    try:
        arrays = read_npz(Path(file))
        return Golden(*({key: arrays[key] for key in keys} for keys in (inputs, outputs)))
    except UNREADABLE as error:
        raise BundleError(f"{file}: cannot be read: {reason(error)}; compile it again") from error


def fit(golden: Golden, ports: Sequence[Port], name: str) -> Golden:
    """Golden tensors for an engine with these ports; zeros, and no outputs, where there are none.

    Raises BackendError if they are not those of the engine.
    """
    if not golden.outputs:
        zeros = {port.key: np.zeros(port.shape, port.dtype) for port in ports if port.is_input}
        return Golden(zeros, {})
    for port in ports:
        found = (golden.inputs if port.is_input else golden.outputs).get(port.key)
        if found is None or found.shape != port.shape or found.dtype != port.dtype:
            raise BackendError(
                f"part {name}: the bundle has no golden {port.key} of {port.dtype}"
                f"{list(port.shape)}, as its engine does; compile it again"
            )
    return golden


def compare(
    made: Mapping[str, np.ndarray], golden: Golden, dtypes: Mapping[str, str]
) -> Comparison:
    """Compare by the largest difference in a tensor over the largest magnitude in it.

    Whole numbers and truth values must be equal: a difference there counts as infinite, and so does
    a NaN.
    """
    if not golden.outputs:
        return Comparison(NOTHING, 0.0)
    shares = [
        _share(made[key], wanted, dtypes.get(key, "")) for key, wanted in golden.outputs.items()
    ]
    return Comparison(GOLDEN, max(shares, default=0.0))


def _share(made: np.ndarray, wanted: np.ndarray, dtype: str) -> float:
    if dtype == "bfloat16":
        made, wanted = (
            _widened(item) if item.dtype.kind == "u" else item for item in (made, wanted)
        )
    if made.dtype.kind != "f":
        return 0.0 if np.array_equal(made, wanted) else float("inf")
    made, wanted = made.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(made) & np.isfinite(wanted)
    # The same infinities are no difference: masks are made of them.
    if not np.array_equal(made[~finite], wanted[~finite], equal_nan=True):
        return float("inf")
    worst = float(np.max(np.abs(made[finite] - wanted[finite]), initial=0.0))
    largest = float(np.max(np.abs(wanted[finite]), initial=0.0))
    return worst / largest if largest else (0.0 if worst == 0 else float("inf"))


def _widened(carrier: np.ndarray) -> np.ndarray:
    """bfloat16, carried as its bits, as float32."""
    return (carrier.astype(np.uint32) << 16).view(np.float32)
