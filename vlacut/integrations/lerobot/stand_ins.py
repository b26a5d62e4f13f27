"""Stand-ins for what LeRobot's pickles name: its two records, and arrays and scalars of numpy.

Each waits for its bytes: an array's shape is believed only where its bytes fill it.

Source: numpy's `ndarray.__reduce_ex__` and `dtype.__reduce__`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vlacut.errors import WireError

RECORDS = ("RemotePolicyConfig", "TimedObservation")
# Where releases of LeRobot keep them: 0.4 and later, 0.3.
MODULES = ("lerobot.async_inference.helpers", "lerobot.scripts.server.helpers")
MOST_AXES = 8
_KINDS = "biuf"


@dataclass
class ReadRecord:
    """One of the client's objects.

    Attributes:
        module, name: of its class, as the client has it.
        values: its attributes.
    """

    module: str
    name: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Name:
    """A name that is admitted; it is called by nobody."""

    module: str
    name: str


class StandInDtype:
    """A dtype of numpy's; its byte order is told after its kind."""

    def __init__(self, code: Any) -> None:
        self._code, self._order = code, "|"

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("|", "<", ">", "="):
            raise WireError(f"the state of a dtype is {shown(state)}")
        self._order = state[1]

    def made(self) -> np.dtype[Any]:
        if not isinstance(self._code, str) or len(self._code) > 4 or self._code[:1] not in _KINDS:
            raise WireError(
                f"arrays are of numbers and booleans, and one is of {shown(self._code)}"
            )
        try:
            made = np.dtype(self._order.replace("|", "=") + self._code)
        except (TypeError, ValueError) as error:
            raise WireError(f"there is no dtype {self._code!r}") from error
        if made.kind not in _KINDS:  # `b,O` is a record, with an object in it
            raise WireError(f"arrays are of numbers and booleans, and one is of {self._code!r}")
        return made


class StandInArray:
    """An array, whose state is to come."""

    array: np.ndarray | None = None

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise WireError("the state of an array is no five things")
        _, shape, dtype, fortran, content = state
        self.array = _filled(content, dtype, shape, "F" if fortran is True else "C")


def shown(value: Any) -> str:
    """A value in an error's text; of a container its kind, for all that it holds may be endless."""
    return f"{value!r:.40}" if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"


def _filled(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """An array of some bytes, which its shape must fill."""
    if not isinstance(content, bytes) or not isinstance(dtype, StandInDtype):
        raise WireError("an array has no bytes, or no dtype")
    right = isinstance(shape, tuple) and len(shape) <= MOST_AXES
    if not right or not all(type(dim) is int and dim >= 0 for dim in shape):
        raise WireError(f"the shape of an array is no tuple of at most {MOST_AXES} sizes")
    made = dtype.made()
    if math.prod(shape) * made.itemsize != len(content):
        raise WireError(f"{len(content)} bytes are no array {list(shape)} of {made}")
    if order not in ("C", "F"):
        raise WireError(f"an array is in the order {shown(order)}")
    return np.frombuffer(content, made).reshape(shape, order=order)


def _new_array(kind: Any, shape: Any, code: Any) -> StandInArray:
    return StandInArray()  # what it says of its shape is its state's to say


def _scalar(dtype: Any, content: Any) -> Any:
    return _filled(content, dtype, (), "C")[()]


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return _filled(content, dtype, shape, order)


def _new_dtype(code: Any, *_: Any) -> StandInDtype:
    return StandInDtype(code)


CALLED: dict[tuple[str, str], Callable[..., Any]] = {
    **{
        (f"{core}.{module}", name): made
        for core in ("numpy._core", "numpy.core")
        for module, name, made in (
            ("multiarray", "_reconstruct", _new_array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
    ("numpy", "dtype"): _new_dtype,
}
CLASSES = {("numpy", "ndarray")}
