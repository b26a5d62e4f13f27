"""What a step leaves to the next so that it has drafts: one interface for all sources.

The formulas are those of `vlacut.tensor.drafts`, where they are in numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import onnx_ir as ir

from vlacut.ir.extracting import Extract
from vlacut.ir.phase_roll import Names
from vlacut.ir.state import State
from vlacut.tensor.drafts import (
    CHUNK,
    INPUT,
    LAST,
    UNSEEN_SPREAD,
    VELOCITY,
    DraftSource,
    noise,
    shifted,
)

_FLOAT, _BOOL = ir.TensorType(ir.DataType.FLOAT), ir.TensorType(ir.DataType.BOOL)


class Following(Protocol):
    """Drafts of the next step, written into the graph of this one."""

    @property
    def states(self) -> tuple[State, ...]:
        """What the next step gets of this one."""

    def outputs(self, made: Extract, said: ir.Value) -> Mapping[str, ir.Value]:
        """What the states are fed with, by name, of the tokens [trips, ...] that the loop said."""


def following(source: DraftSource, names: Names, draft: str, said: str) -> Following:
    """Of a source; `draft` names the input of the drafts, and `said` the output of the tokens."""
    if source.kind == INPUT:
        return _Nothing(())
    if source.kind == LAST:
        return _Nothing((State(said, draft, name="drafted tokens"),))
    if source.kind == CHUNK:
        return _Shifted(source, names, draft)
    return _Tracked(source, names, draft)


class _Nothing:
    """Beside what the loop says, nothing is made."""

    def __init__(self, states: tuple[State, ...]) -> None:
        self.states = states

    def outputs(self, made: Extract, said: ir.Value) -> Mapping[str, ir.Value]:
        return {}


class _Shifted:
    """The rest of the chunk in force."""

    def __init__(self, source: DraftSource, names: Names, draft: str) -> None:
        self._source, self._next = source, names.free("next_drafts")
        self.states = (State(self._next, draft, name="drafts"),)

    def outputs(self, made: Extract, said: ir.Value) -> Mapping[str, ir.Value]:
        shape = said.shape
        assert shape is not None
        which = made.constant(shifted(int(str(shape[0])), self._source))
        return {self._next: made.add("Gather", [said, which], said, None, axis=0)}


class _Tracked:
    """Where tokens are and how they move: the filter's state, and how far it may be off."""

    def __init__(self, source: DraftSource, names: Names, draft: str) -> None:
        self._source, self._next = source, names.free("next_drafts")
        self._names = [names.free(one) for one in ("draft_track", "draft_spread")]
        self._made = [names.free(f"next_{one}") for one in ("draft_track", "draft_spread")]
        self.states = (
            State(self._next, draft, name="drafts"),
            State(self._made[0], self._names[0], name="movement of drafts"),
            State(self._made[1], self._names[1], name="spread of drafts"),
        )

    def outputs(self, made: Extract, said: ir.Value) -> Mapping[str, ir.Value]:
        write, shape = _Arithmetic(made), said.shape
        assert shape is not None
        sizes = [int(str(size)) for size in shape]
        track = made.input(self._names[0], write.like, (2, *sizes))
        spread = made.input(self._names[1], write.like, (3,))
        old = [write.at(spread, place, ()) for place in range(3)]
        place, velocity = (write.at(track, row, sizes) for row in range(2))
        read = write.op("Cast", sizes, said, to=int(ir.DataType.FLOAT))
        gains, spreads = self._gains(write, old)
        ahead = write.op("Add", sizes, place, velocity)
        apart = write.op("Sub", sizes, read, ahead)
        steps = [write.op("Mul", sizes, gain, apart) for gain in gains]
        moved = write.op("Add", sizes, ahead, steps[0]), write.op("Add", sizes, velocity, steps[1])
        seen = write.op("Greater", (), old[0], write.number(0))
        seen.type = _BOOL
        here = write.op("Where", sizes, seen, moved[0], read)
        speed = write.op("Where", sizes, seen, moved[1], write.number(0))
        first = write.array([1, 0, UNSEEN_SPREAD])
        wide = write.op("Where", (3,), seen, write.stack(spreads, ()), first)
        drafts = write.op("Round", sizes, write.op("Add", sizes, here, speed))
        assert said.dtype is not None
        following = write.op("Cast", sizes, drafts, to=int(said.dtype))
        following.type = said.type
        track_after = write.stack([here, speed], sizes)
        return {self._next: following, self._made[0]: track_after, self._made[1]: wide}

    def _gains(
        self, write: _Arithmetic, spread: list[ir.Value]
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        """By how much of a surprise place and velocity move, and the spread after that."""
        if self._source.kind == VELOCITY:
            one = write.number(1)
            return [one, one], [one, write.number(0), write.number(0)]
        place, both, velocity = spread
        quarter, half, whole = (write.number(float(one)) for one in noise(self._source))
        twice = write.op("Add", (), both, both)
        ahead = write.op("Add", (), write.op("Add", (), place, twice), velocity)
        ahead = write.op("Add", (), ahead, quarter)
        across = write.op("Add", (), write.op("Add", (), both, velocity), half)
        faster = write.op("Add", (), velocity, whole)
        total = write.op("Add", (), ahead, write.number(1))
        gains = [write.op("Div", (), one, total) for one in (ahead, across)]
        less = (gains[0], ahead), (gains[0], across), (gains[1], across)
        taken = [write.op("Mul", (), *pair) for pair in less]
        before = (ahead, across, faster)
        return gains, [
            write.op("Sub", (), one, off) for one, off in zip(before, taken, strict=True)
        ]


class _Arithmetic:
    """Writes operators on float32."""

    def __init__(self, made: Extract) -> None:
        self._made = made
        self.like = ir.Value(type=_FLOAT)

    def op(
        self, kind: str, shape: list[int] | tuple[int, ...], *inputs: ir.Value, **attributes: int
    ) -> ir.Value:
        return self._made.add(kind, inputs, self.like, shape, **attributes)

    def array(self, numbers: list[float]) -> ir.Value:
        return self._made.constant(np.array(numbers, np.float32))

    def number(self, number: float) -> ir.Value:
        return self._made.constant(np.array(number, np.float32))

    def at(self, value: ir.Value, place: int, shape: list[int] | tuple[int, ...]) -> ir.Value:
        """A row of a value."""
        index = self._made.constant(np.array(place, np.int64))
        return self.op("Gather", shape, value, index, axis=0)

    def stack(self, rows: list[ir.Value], shape: list[int] | tuple[int, ...]) -> ir.Value:
        axis = self._made.constant(np.array([0], np.int64))
        each = [self.op("Unsqueeze", (1, *shape), one, axis) for one in rows]
        return self.op("Concat", (len(rows), *shape), *each, axis=0)
