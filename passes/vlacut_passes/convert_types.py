"""convert-types: computes in another element type: where an executor lacks the model's own, or
16 bits are enough.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import onnx_ir as ir

from vlacut.errors import PassError
from vlacut.ir.annotation import CONVERTED, EXAMPLE
from vlacut.ir.elements import carried, numbers
from vlacut.ir.graphs import dtype_name
from vlacut.ir.program import Program
from vlacut.ir.state import State
from vlacut.tensor import TensorSpec
from vlacut_passes.types.mixed import mix_precision
from vlacut_passes.types.ports import kept_ports, open_ports
from vlacut_passes.types.values import convert_inside

_FLOATS = {
    dtype_name(dtype): dtype
    for dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
}
WEIGHTS = "weights"
NOTHING, UNSAFE, INSIDE = "nothing", "unsafe", "inside"


@dataclass(frozen=True)
class ConvertTypes:
    """Turns values of one floating-point type into another, weights and casts included.

    Weights are converted when they are written, one at a time. What was converted is noted on the
    program, for the report.

    Attributes:
        source, target: `float32`, `float16`, `bfloat16` or `float64`. The source may be `weights`:
            the one of these that most of the weights have.
        keep: `nothing`: every value is converted, the observation and the action too. `unsafe`:
            they keep their types, and operators that lose too much in 16 bits compute in float32,
            see `vlacut_passes.types`. `inside`: the observation, the action and what is joined to
            them are converted, with casts, and nothing else.

    Raises PassError for another type, or an operator that cannot be converted.
    """

    name: ClassVar[str] = "convert-types"
    source: str = "bfloat16"
    target: str = "float32"
    keep: str = NOTHING

    def run(self, program: Program) -> None:
        """See `vlacut.ir.pipeline.Pass`."""
        for name in (self.source, self.target):
            if name not in _FLOATS and (name, self.source) != (WEIGHTS, WEIGHTS):
                raise PassError(f"convert-types knows {', '.join(_FLOATS)}; {name} is none of them")
        if self.keep not in (NOTHING, UNSAFE, INSIDE):
            raise PassError(
                f"convert-types: keep is {self.keep!r}, must be {NOTHING}, {UNSAFE} or {INSIDE}"
            )
        source = _of_weights(program) if self.source == WEIGHTS else _FLOATS[self.source]
        if self.keep == UNSAFE:
            mix_precision(program, source, _FLOATS[self.target])
            rest = ", float32 where it needs it"
        elif self.keep == INSIDE:
            self._convert_ends(program, source, partial(open_ports, program, kept_ports(program)))
            rest = " in the observation and the action"
        else:
            self._convert_ends(program, source, partial(convert_inside, program))
            rest = ""
        if dtype_name(source) != self.target:
            CONVERTED.put(program, f"{dtype_name(source)} to {self.target}{rest}")

    def _convert_ends(
        self,
        program: Program,
        source: ir.DataType,
        convert_graphs: Callable[[ir.DataType, ir.DataType], None],
    ) -> None:
        """Convert what the program takes, makes and keeps, with its graphs."""
        before = [program.state_spec(state) for state in program.state]
        convert_graphs(source, _FLOATS[self.target])
        self._convert_example(program, source)
        pairs = zip(program.state, before, strict=True)
        program.state = tuple(self._converted(state, spec, source) for state, spec in pairs)
        program.inputs = tuple(self._renamed(spec, source) for spec in program.inputs)
        program.outputs = tuple(self._renamed(spec, source) for spec in program.outputs)

    def _convert_example(self, program: Program, source: ir.DataType) -> None:
        """The recorded observation has the types of the program's inputs."""
        example = dict(EXAMPLE.find(program) or {})
        for spec in program.inputs:
            if spec.dtype == dtype_name(source) and spec.name in example:
                known = numbers(example[spec.name], spec.dtype)
                example[spec.name] = carried(known, replace(spec, dtype=self.target))
        if example:
            EXAMPLE.put(program, example)

    def _converted(self, state: State, spec: TensorSpec, source: ir.DataType) -> State:
        """The state with its initial value in the new type."""
        if state.initial is None or spec.dtype != dtype_name(source):
            return state
        known = numbers(state.initial, spec.dtype)
        return replace(state, initial=carried(known, replace(spec, dtype=self.target)))

    def _renamed(self, spec: TensorSpec, source: ir.DataType) -> TensorSpec:
        return replace(spec, dtype=self.target) if spec.dtype == dtype_name(source) else spec


def _of_weights(program: Program) -> ir.DataType:
    """The floating-point type of most weights, by elements; float32 where there are none."""
    elements: Counter[ir.DataType] = Counter()
    known = _FLOATS.values()
    for phase in program.phases:
        for value in phase.model.graph.initializers.values():
            if value.dtype is not None and value.dtype in known and value.shape is not None:
                elements[value.dtype] += math.prod(int(str(dim)) for dim in value.shape)
    return max(elements, key=lambda dtype: elements[dtype], default=ir.DataType.FLOAT)
