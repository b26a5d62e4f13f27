"""Surgery on parts: a user's function on what the engines of a side are built of.

`--surgery fix.py:fix` rewrites phases, before the program is cut; `--surgery cloud=fix.py:fix` the
parts of a side, as its back end made them ready. The golden tensors of a part that another machine
builds are of the part before, so its engine is compared with what the function was given.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from vlacut.errors import InputError
from vlacut.hardware import Side
from vlacut.ir.graphs import value_spec
from vlacut.ir.pipeline import parse_pipeline, pass_text
from vlacut.ir.program import Phase, Program

_NAME = "surgery"
_BEFORE = "before-surgery"  # a folder of a bundle that is being made; gone when it is


@dataclass(frozen=True)
class Operation:
    """A function of a file, for phases, or for the parts of a side."""

    file: str
    function: str
    side: Side | None = None

    def text(self, part: str = "") -> str:
        """The pass, as a pipeline has it; for a part, its name."""
        options = {"file": self.file, "function": self.function, "part": part}
        return pass_text(_NAME, {key: value for key, value in options.items() if value})


def parse_operation(text: str) -> Operation:
    """Read `FILE.py:FUNCTION`, or `edge=` or `cloud=` before it. Raises InputError."""
    side, _, rest = text.partition("=")
    known = side in {one.value for one in Side}
    file, _, function = (rest if known else text).rpartition(":")
    if not file.endswith(".py") or not function:
        raise InputError(
            f"--surgery: {text!r}: write FILE.py:FUNCTION for phases, or edge=FILE.py:FUNCTION or "
            f"cloud=FILE.py:FUNCTION for the parts of a side"
        )
    return Operation(file, function, Side(side) if known else None)


def on_phases(texts: Sequence[str]) -> Iterator[Operation]:
    """Those of them that are for phases."""
    return (one for one in map(parse_operation, texts) if one.side is None)


def on_parts(texts: Sequence[str], side: Side) -> tuple[Operation, ...]:
    """Those of them that are for the parts of a side."""
    return tuple(one for one in map(parse_operation, texts) if one.side is side)


def before_surgery(name: str) -> str:
    """Where in a bundle that is being made a part is as it was, if a function rewrote it."""
    return f"{_BEFORE}/{name}.onnx"


def forget_before(folder: Path) -> None:
    """Remove from a bundle's folder what parts were."""
    if (folder / _BEFORE).is_dir():
        shutil.rmtree(folder / _BEFORE)


def operate(model: ir.Model, name: str, operations: Sequence[Operation]) -> None:
    """Let functions rewrite the model of a part, in place, with the verifier before and after each.

    Args:
        model: of the part, made ready by its back end.
        name: of the part; the graph that a function gets is called so.
        operations: one after the other.

    Raises PassError or VerificationError, naming file, function and part.
    """
    inputs = [value_spec(value) for value in model.graph.inputs]
    outputs = [value_spec(value) for value in model.graph.outputs]
    phase = re.sub(r"[^A-Za-z0-9_-]", "-", name)
    while any(spec.name.startswith(f"{phase}/") for spec in (*inputs, *outputs)):
        phase += "_"  # a program's inputs are named like no phase of it
    program = Program(name, (Phase(phase, model),), tuple(inputs), tuple(outputs))
    parse_pipeline(",".join(one.text(name) for one in operations)).run(program)
