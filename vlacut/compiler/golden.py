"""The golden step: one control step of the uncut model, recorded when a bundle is made.

A back end that does not run here has it recorded by another one, its `reference`: of the files that
were emitted, with types the reference lacks converted, and rounded to the model's own between them.
Then every part's inputs and outputs are recorded too, for whoever builds its engine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from vlacut import registry
from vlacut.backend import Engine
from vlacut.bundle.manifest import WholePhase
from vlacut.bundle.npz import npz_bytes
from vlacut.errors import InputError
from vlacut.ir.dataflow import key_of
from vlacut.ir.graphs import dtype_name, value_spec
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Phase, Program
from vlacut.plan.instructions import Move, Run, steps
from vlacut.plan.plan import Plan
from vlacut.runtime.whole import load_whole, run_whole
from vlacut.split.emission import save
from vlacut.split.local_execution import example_observation
from vlacut.split.weights import WeightStore
from vlacut.tensor import TensorSpec


def write_golden(
    program: Program, plan: Plan, phases: Sequence[WholePhase], folder: Path, backend: str
) -> None:
    """Run the uncut phases in a bundle's folder once, and record observation and action there.

    Raises InputError if neither the back end nor another one runs them here, BackendError if it
    fails.
    """
    builder = registry.load("builders", backend)()
    if builder.reference not in registry.names("executors"):
        raise InputError(f"back end {backend} runs nothing here; record no step with --no-golden")
    observation = example_observation(program)
    (folder / "golden").mkdir()
    if builder.reference == backend:
        engines = load_whole(
            registry.load("executors", backend)(), folder, phases, builder.recipe()
        )
        tensors = run_whole(phases, engines, observation)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            reference = _Reference(builder.reference, folder, Path(scratch))
            names = [phase.name for phase in phases]
            tensors = run_whole(
                phases, {name: reference.load(f"whole/{name}.onnx") for name in names}, observation
            )
            _write_parts(plan, reference, observation, folder / "golden" / "parts")
    action = {
        spec.name: tensors[key_of(program, program.output_source(spec.name))]
        for spec in program.outputs
    }
    for which, arrays in (("observation", observation), ("action", action)):
        (folder / "golden" / f"{which}.npz").write_bytes(npz_bytes(arrays))


def _write_parts(
    plan: Plan, reference: _Reference, observation: Mapping[str, np.ndarray], folder: Path
) -> None:
    """Record the first run of each part, every variant walked with both sides in one place."""
    folder.mkdir()
    engines = {part.name: reference.load(f"parts/{part.name}.onnx") for part in plan.parts}
    written: set[str] = set()
    for variant in plan.variants:
        held = dict(observation)
        for _, _, _, instruction in steps(variant.schedule):
            if isinstance(instruction, Run):
                part = plan.part[instruction.part]
                held |= engines[part.name].run({key: held[key] for key in part.inputs})
                if part.name not in written:
                    arrays = {key: held[key] for key in (*part.inputs, *part.outputs)}
                    (folder / f"{part.name}.npz").write_bytes(npz_bytes(arrays))
                    written.add(part.name)
            elif isinstance(instruction, Move):
                held[instruction.target] = held[instruction.source]


class _Reference:
    """Loads emitted files into another back end, converted for it, and written to a scratch folder.

    Weights that the conversion leaves alone are written once more, too: the other back end may
    store them in another layout.
    """

    def __init__(self, backend: str, folder: Path, scratch: Path) -> None:
        self._builder = registry.load("builders", backend)()
        self._executor = registry.load("executors", backend)()
        self._folder, self._scratch = folder, scratch

    def load(self, name: str) -> _Rounded:
        """The engine of an emitted file, which takes and makes the types that the file has."""
        model = ir.load(self._folder / name)
        ir.external_data.set_base_dir(model.graph, self._folder)
        given = [value_spec(value) for value in model.graph.inputs]
        made = [value_spec(value) for value in model.graph.outputs]
        program = Program("golden", (Phase("golden", model),), tuple(given), tuple(made))
        for source, target in self._builder.conversions.items():
            parse_pipeline(f"convert-types{{source={source} target={target}}}").run(program)
        where = self._scratch / name.replace("/", ".")
        where.mkdir()
        recipe = self._builder.recipe()
        self._builder.prepare(model, name, recipe)
        types = {str(v.name): dtype_name(v.dtype) for v in model.graph.inputs if v.dtype}
        with WeightStore(where) as store:
            store.externalise(model)
        save(model, where / "model.onnx")
        return _Rounded(
            self._executor.load(where / "model.onnx", where, recipe), given, types, made
        )


class _Rounded:
    """An engine in other types than its file's: numbers are rounded to those at its border."""

    def __init__(
        self,
        engine: Engine,
        given: Sequence[TensorSpec],
        types: Mapping[str, str],
        made: Sequence[TensorSpec],
    ) -> None:
        self._engine, self._given, self._types, self._made = engine, given, types, made

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `vlacut.backend.Engine`."""
        found = self._engine.run(
            {
                spec.name: inputs[spec.name]
                if self._types[spec.name] == spec.dtype
                else _numbers(inputs[spec.name], spec.dtype).astype(self._types[spec.name])
                for spec in self._given
            }
        )
        return {
            spec.name: found[spec.name].astype(_elements(spec.dtype)).view(spec.numpy_dtype)
            for spec in self._made
        }


def _elements(dtype: str) -> np.dtype[np.generic]:
    """The numpy type whose numbers these elements are; ml_dtypes' where numpy lacks it."""
    return np.dtype({"bfloat16": ir.DataType.BFLOAT16.numpy()}.get(dtype, dtype))


def _numbers(array: np.ndarray, dtype: str) -> np.ndarray:
    """The numbers that a tensor as carried at run time stands for."""
    return array.view(_elements(dtype))
