"""Inputs of ONNX files that are settings: a constant takes their place, for good.

A file that branches on a sampling rate has one graph for each. The robot never changes it, so it is
told once, and what depends on it folds away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from vlacut.errors import ModelError, suggestion

# Elements of an input by its name, in order.
Fixed = Mapping[str, tuple[float, ...]]


def fix_inputs(model: ir.Model, fixed: Fixed, where: str) -> None:
    """Make constants of inputs, in place; they are inputs no longer.

    Raises ModelError, starting with `where`, for a name that no input has, or numbers that it
    cannot hold.
    """
    given = {str(value.name): value for value in model.graph.inputs}
    for name, array in arrays_of(model, fixed, where).items():
        value = given[name]
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(array, name=name)
        value.shape = ir.Shape(array.shape)
        model.graph.register_initializer(value)


def arrays_of(model: ir.Model, fixed: Fixed, where: str) -> dict[str, np.ndarray]:
    """What the inputs of a file are fixed to, in their types and shapes; raises as `fix_inputs`."""
    given = {str(value.name): value for value in model.graph.inputs}
    for name in fixed:
        if name not in given:
            raise ModelError(f"{where}: no input {name} to fix; {suggestion(name, given)}")
    return {name: _array(given[name], numbers, where) for name, numbers in fixed.items()}


def read_of(model: ir.Model, fixed: Fixed) -> Fixed:
    """What is fixed of a file of several, of which each has some of the inputs."""
    given = {str(value.name) for value in model.graph.inputs}
    return {name: numbers for name, numbers in fixed.items() if name in given}


def parse_fixed(items: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Elements by name, of items `NAME=VALUE`; several elements have commas between them.

    Raises ModelError for an item that does not parse, or a name that comes twice.
    """
    found: dict[str, tuple[float, ...]] = {}
    for item in items:
        name, _, text = item.rpartition("=")
        try:
            numbers = tuple(_number(part) for part in text.split(","))
        except ValueError:
            numbers = ()
        if not name or not numbers:
            raise ModelError(f"--fix {item}: write NAME=VALUE, e.g. sr=16000, or sizes=480,640")
        if name in found:
            raise ModelError(f"--fix {item}: {name} is fixed twice")
        found[name] = numbers
    return found


def _number(text: str) -> float:
    named = {"true": True, "false": False}.get(text.strip().lower())
    if named is not None:
        return named
    try:
        return int(text)
    except ValueError:
        return float(text)


def _array(value: ir.Value, numbers: tuple[float, ...], where: str) -> np.ndarray:
    if not isinstance(value.type, ir.TensorType) or value.dtype == ir.DataType.STRING:
        raise ModelError(f"{where}: input {value.name} is a {value.type}: no numbers to fix")
    dims = [dim if isinstance(dim, int) else None for dim in value.shape or ()]
    if value.shape is None:
        dims = [] if len(numbers) == 1 else [None]
    if dims.count(None) == 1:  # as many as are given
        rest = int(np.prod([dim for dim in dims if dim is not None]))
        dims = [len(numbers) // max(rest, 1) if dim is None else dim for dim in dims]
    shape = tuple(1 if dim is None else dim for dim in dims)
    if int(np.prod(shape)) != len(numbers):
        raise ModelError(
            f"{where}: input {value.name} holds {int(np.prod(shape))} elements, and --fix gives it "
            f"{len(numbers)}"
        )
    array = np.array(numbers).astype(value.dtype.numpy()) if value.dtype else np.array(numbers)
    if not np.array_equal(array.astype(np.float64), np.array(numbers, np.float64)) and (
        array.dtype.kind in "biu"
    ):
        raise ModelError(
            f"{where}: input {value.name} is of {value.dtype}, which holds no "
            f"{', '.join(map(str, numbers))}"
        )
    return array.reshape(shape)
