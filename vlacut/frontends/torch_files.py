"""Files that `torch.export.save` wrote, read as data: nothing in them is executed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch.export import ExportedProgram

from vlacut.errors import ModelError
from vlacut.frontends.exported.emitting import emit
from vlacut.frontends.exported.fakes import is_real
from vlacut.frontends.exported.saying import quiet, reason
from vlacut.frontends.pt2.program import read_program
from vlacut.frontends.torch import program_from_module
from vlacut.frontends.torch_original import exported_original, torch_runner
from vlacut.frontends.torch_program import array_of, examples_of, finished
from vlacut.ir.original import Face, Original, Runner
from vlacut.ir.program import Program


def load_pt2(
    path: str | os.PathLike[str],
    opset: int = 20,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Program:
    """Load what `torch.export.save` wrote, as `program_from_module` does, with its `opset` and
    `shapes`.

    Nothing in the file is executed: it is read here as data (`vlacut.frontends.pt2`), and torch
    opens none of it.

    Raises ModelError if it is no such file, or as `program_from_module` does.
    """
    file = Path(path)
    return program_from_module(_read(file), name=file.stem, opset=opset, shapes=shapes)


def pt2_phase(
    file: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
    opset: int = 20,
) -> tuple[ir.Model, dict[str, np.ndarray]]:
    """The graph of a .pt2 file whose tensors have these names, and its example by name.

    `shapes` binds dynamic dimensions, by input; `opset` is the version of ONNX's operators.

    Raises ModelError as `load_pt2` does.
    """
    exported, where = _read(file), str(file)
    model = finished(emit(exported, opset, where), where, inputs, outputs, shapes)
    examples = examples_of(exported, inputs)
    real = {name: tensor for name, tensor in examples.items() if is_real(tensor)}
    return model, {name: array_of(tensor) for name, tensor in real.items()}


def pt2_runner(file: Path, inputs: Sequence[str], outputs: Sequence[str]) -> Runner:
    """Runs a .pt2 file by torch."""
    exported = _read(file)
    return torch_runner(exported.module(), exported.example_inputs or ((), {}), inputs, outputs)


def pt2_original(face: Face, file: Path) -> Original:
    """What the model check runs of a file that a program came from."""
    return exported_original(face, _read(file))


def _read(file: Path) -> ExportedProgram:
    try:
        with quiet():
            return read_program(file)
    except ModelError:
        raise
    except Exception as error:  # torch's own code, which knows no errors of a file's
        raise ModelError(
            f"{file}: torch {torch.__version__} cannot read it ({reason(error)}); "
            f"save it again with torch.export.save"
        ) from error
