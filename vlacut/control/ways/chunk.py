"""A chunk: an output of the policy that holds the commands of several ticks, and how one is read.

No graph says what an output means, so the user declares it: which axis is time, how far apart the
commands are, what they are relative to, and which columns are switched and never blended, such as a
gripper's. As text:

    action
    action,axis=1,period=50ms,horizon=8,switched=6
    action,kind=relative,base=state,columns=0:1:2:-:4    # `-`: that column is absolute
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from functools import partial
from typing import Any

import numpy as np

from vlacut.errors import HardwareError, InputError, suggestion
from vlacut.hardware.link import parse_seconds
from vlacut.tensor import TensorSpec

ABSOLUTE = -1  # a column of a relative chunk that is relative to nothing


class Kind(str, Enum):
    """What the numbers of a chunk are.

    ABSOLUTE: targets. RELATIVE: targets, less a tensor of the observation. DELTA: each an increment
    of what came before, as OpenVLA's.
    """

    ABSOLUTE = "absolute"
    RELATIVE = "relative"
    DELTA = "delta"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class ChunkSpec:
    """A chunk, declared.

    Attributes:
        output: name of the action's tensor.
        axis: the axis of time; None for the one before the last, or the only one of a vector.
        period_s: seconds between commands; 0 for a tick.
        horizon: how many commands of a chunk are played, from the first on; 0 for all.
        kind: see `Kind`.
        base: tensor of the observation that a relative chunk is relative to.
        columns: for every column of a command, its column in the flattened base, or `ABSOLUTE` for
            none. The default is the first columns, in order.
        switched: columns that are taken as they are, and never blended.

    Raises InputError.
    """

    output: str
    axis: int | None = None
    period_s: float = 0.0
    horizon: int = 0
    kind: Kind = Kind.ABSOLUTE
    base: str = ""
    columns: tuple[int, ...] = ()
    switched: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.period_s < 3600 or self.horizon < 0:
            raise InputError(f"chunk {self.output}: period and horizon must be 0 or more")
        if (self.kind is Kind.RELATIVE) != bool(self.base):
            raise InputError(
                f"chunk {self.output}: kind={self.kind} and base={self.base!r} do not fit; name "
                f"the tensor that a relative chunk is relative to, and none of another kind"
            )

    def __str__(self) -> str:
        """As `parse_chunk` reads it."""
        said = [self.output]
        said += [] if self.axis is None else [f"axis={self.axis}"]
        said += [f"period={self.period_s * 1e3:f}ms"] if self.period_s else []
        said += [f"horizon={self.horizon}"] if self.horizon else []
        said += [f"kind={self.kind}", f"base={self.base}"] if self.base else []
        said += [f"kind={self.kind}"] if self.kind is Kind.DELTA else []
        for key, columns in (("columns", self.columns), ("switched", self.switched)):
            written = ":".join("-" if one == ABSOLUTE else str(one) for one in columns)
            said += [f"{key}={written}"] if columns else []
        return ",".join(said)


def parse_chunk(text: str) -> ChunkSpec:
    """The chunk that a text declares, see the module's docstring; InputError if it does not."""
    output, *options = (part.strip() for part in text.split(","))
    given: dict[str, Any] = {}
    for option in options:
        key, _, value = option.partition("=")
        if key not in _READ:
            raise InputError(f"chunk {text!r}: no option {key!r}; {suggestion(key, _READ)}")
        name, read = _READ[key]
        try:
            given[name] = read(value)
        except (ValueError, HardwareError) as error:
            raise InputError(f"chunk {text!r}: {option} cannot be read: {error}") from error
    if not output:
        raise InputError(f"chunk {text!r}: name an output of the policy first")
    return ChunkSpec(output, **given)


def _columns(value: str) -> tuple[int, ...]:
    return tuple(ABSOLUTE if one == "-" else int(one) for one in value.split(":"))


_READ: Mapping[str, tuple[str, Any]] = {
    "axis": ("axis", int),
    "period": ("period_s", parse_seconds),
    "horizon": ("horizon", int),
    "kind": ("kind", Kind),
    "base": ("base", str),
    "columns": ("columns", _columns),
    "switched": ("switched", _columns),
}
assert {name for name, _ in _READ.values()} | {"output"} == {
    item.name for item in fields(ChunkSpec)
}


class ChunkReader:
    """Reads commands out of actions, and writes them back as the policy would have.

    Args:
        spec: the declaration.
        output: spec of its tensor.
        inputs: specs of the observation, by name.
        tick_s: the loop's period, where the declaration has none.

    Attributes:
        spec: with its axis, period and horizon worked out.
        length: commands in a chunk, those beyond the horizon too.
        width: numbers in a command.
        blended: whether each column may be, by column.

    Raises InputError where the declaration does not fit these tensors.
    """

    def __init__(
        self,
        spec: ChunkSpec,
        output: TensorSpec,
        inputs: Mapping[str, TensorSpec],
        tick_s: float,
    ) -> None:
        rank = len(output.shape)
        axis = max(0, rank - 2) if spec.axis is None else spec.axis
        if not -rank <= axis < rank or not np.issubdtype(output.numpy_dtype, np.floating):
            raise InputError(f"chunk {spec.output}: {output} has no axis {axis} of float commands")
        self._shape, self._dtype = output.shape, output.numpy_dtype
        self.length = output.shape[axis]
        self.width = int(np.prod(output.shape)) // max(1, self.length)
        if not self.length or not self.width:
            raise InputError(f"chunk {spec.output}: {output} holds no command")
        horizon = min(spec.horizon or self.length, self.length)
        self.spec = replace(spec, axis=axis, period_s=spec.period_s or tick_s, horizon=horizon)
        self._axis = axis
        self.blended = np.ones(self.width, bool)
        for column in spec.switched:
            if not 0 <= column < self.width:
                raise InputError(f"chunk {spec.output}: no column {column} of {self.width}")
            self.blended[column] = False
        self._base = partial(_base, spec.base, *_picked(spec, inputs, self.width))

    def read(self, array: np.ndarray, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Commands [length, width] in float64, absolute unless they are increments.

        Raises InputError if a number is not finite: a robot must not get such a command.
        """
        commands = np.moveaxis(array, self._axis, 0).reshape(self.length, -1).astype(np.float64)
        if not np.isfinite(commands).all():
            raise InputError(f"{self.spec.output}: a command of the policy is not finite")
        return commands + self._base(observation) if self.spec.base else commands

    def write(self, commands: np.ndarray, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """The array of the policy's output that would read as these commands [length, width]."""
        relative = commands - self._base(observation) if self.spec.base else commands
        moved = np.moveaxis(np.empty(self._shape, np.uint8), self._axis, 0).shape
        array = np.moveaxis(relative.reshape(moved), 0, self._axis)
        return np.ascontiguousarray(array, self._dtype)


def _base(
    name: str, picked: np.ndarray, kept: np.ndarray, observation: Mapping[str, np.ndarray]
) -> np.ndarray:
    """What every column is relative to, [width]; 0 where it is absolute."""
    return np.where(kept, observation[name].reshape(-1)[picked].astype(np.float64), 0.0)


def _picked(
    spec: ChunkSpec, inputs: Mapping[str, TensorSpec], width: int
) -> tuple[np.ndarray, np.ndarray]:
    if not spec.base:
        return np.zeros(0, int), np.zeros(0, bool)
    if spec.base not in inputs:
        raise InputError(f"chunk {spec.output}: base {spec.base}: {suggestion(spec.base, inputs)}")
    size = int(np.prod(inputs[spec.base].shape))
    columns = np.array(spec.columns or range(width))
    if columns.size != width or columns.max() >= size or columns.min() < ABSOLUTE:
        raise InputError(
            f"chunk {spec.output}: columns {':'.join(map(str, columns))} of {inputs[spec.base]} "
            f"must be {width}, and below {size}; `-` for an absolute one"
        )
    return np.maximum(columns, 0), columns != ABSOLUTE


@dataclass(frozen=True, eq=False)
class Chunk:
    """Commands that an inference made. Times in nanoseconds on the loop's clock.

    Attributes:
        number: of the inference.
        commands: [length, width], see `ChunkReader.read`.
        captured_ns: when the observation behind them was captured.
        arrived_ns: when the loop had them.
        asked_tick: number of the tick that asked for them.
        variant: index of the plan's variant that was asked for.
        source: where the session had the action from, see `vlacut.runtime.edge.report.Source`.
    """

    number: int
    commands: np.ndarray
    captured_ns: int
    arrived_ns: int
    asked_tick: int
    variant: int
    source: str
