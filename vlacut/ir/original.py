"""What a program came from, able to run by itself: the check compares the program with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from vlacut.ir.annotation import Key
from vlacut.ir.program import Program

Numbers = dict[str, np.ndarray]
# Inputs by name to outputs by name, those of the phase. Numbers of types that numpy lacks are in
# float32. It casts what it is given to its own types, and raises whatever its own code raises.
Runner = Callable[[Mapping[str, np.ndarray]], Numbers]

# Names of element types, the coarser the later; `8 bits` and `4 bits` stand for what is quantised.
PRECISIONS = ("float64", "float32", "float16", "bfloat16", "8 bits", "4 bits")
_EIGHT_BITS = ("QuantizeLinear", "DynamicQuantizeLinear")


@dataclass(frozen=True)
class Original:
    """What a program came from.

    Attributes:
        what: for people: `your PyTorch module`.
        phases: how each phase of the program runs there, by its name; empty if it cannot.
        step: how a whole control step runs there, where its phases are not the program's: from
            observation and state to action and state, by name.
        why_not: why it cannot be run.
        precision: the coarsest of `PRECISIONS` in it.
    """

    what: str
    phases: Mapping[str, Runner] = field(default_factory=dict, repr=False)
    step: Runner | None = field(default=None, repr=False)
    why_not: str = ""
    precision: str = "float32"


@dataclass(frozen=True)
class Face:
    """What a program of one phase looks like from outside, before a pass changes it.

    Attributes:
        phase: its name.
        inputs, outputs: names, in order.
        precision: the coarsest of `PRECISIONS` in it.
    """

    phase: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    precision: str


def face_of(program: Program) -> Face:
    """The face of a program of one phase."""
    (phase,) = program.phases
    return Face(phase.name, phase.input_names, phase.output_names, precision_of(program))


# Made when it is asked for: `plan` needs none, and a file need not be read again for it.
ORIGINAL: Key[Callable[[], Original]] = Key("original", "the front end")

# What a program was before its requests overlapped, with graphs of its own.
PLAIN: Key[Program] = Key("plain", "in-flight")


def note(program: Program, original: Original) -> None:
    """Annotate a program with what it came from."""
    ORIGINAL.put(program, lambda: original)


def precision_of(program: Program) -> str:
    """The coarsest of `PRECISIONS` in a program."""
    found = {"float64"}
    for phase in program.phases:
        for node in phase.model.graph.all_nodes():
            if node.op_type in _EIGHT_BITS:
                found.add("8 bits")
            values = (value for value in (*node.inputs, *node.outputs) if value is not None)
            found |= {_precision(value.dtype.name) for value in values if value.dtype is not None}
    return max(found & set(PRECISIONS), key=PRECISIONS.index)


def _precision(dtype: str) -> str:
    """Of an ONNX element type; its own name where it holds no floating-point numbers."""
    if dtype == "INT4":
        return "4 bits"
    if dtype.startswith(("FLOAT8", "FLOAT4")):
        return "8 bits"
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(dtype, dtype.lower())
