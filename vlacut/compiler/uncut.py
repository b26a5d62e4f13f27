"""Running the files of a bundle that is being made, on this machine.

If a back end does not run here, another one runs its files: its `reference`. The files are as they
were emitted. Types that the reference lacks are converted, and values between files are rounded to
the model's own types.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx_ir as ir

from vlacut import registry
from vlacut.backend import Engine, Executor
from vlacut.compiler.backends import BackEnds
from vlacut.hardware import Side
from vlacut.ir.elements import elements, numbers
from vlacut.ir.graphs import dtype_name, value_spec
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Phase, Program
from vlacut.split.emission import save
from vlacut.split.weights import WeightStore
from vlacut.tensor import TensorSpec


@contextmanager
def running_here(folder: Path, ends: BackEnds) -> Iterator[RunsHere]:
    """What runs the files in a bundle's folder until the block ends."""
    with tempfile.TemporaryDirectory(prefix="vlacut-") as scratch:
        yield RunsHere(folder, ends, Path(scratch))


class RunsHere:
    """Loads emitted files of either side. Made by `running_here`."""

    def __init__(self, folder: Path, ends: BackEnds, scratch: Path) -> None:
        self._folder, self._ends, self._scratch = folder, ends, scratch
        self._executors: dict[str, Executor] = {}
        self._references: dict[str, Reference] = {}

    def refers(self, side: Side) -> bool:
        """Whether another back end stands for that of a side."""
        return self._ends.runner(side) != self._ends.names[side]

    def has(self, file: str) -> bool:
        """Whether a file is there."""
        return (self._folder / file).is_file()

    def load(self, side: Side, file: str) -> Engine:
        """The engine of a file made for a side; BackendError if it cannot be loaded."""
        name = self._ends.runner(side)
        if self.refers(side):
            if name not in self._references:
                self._references[name] = Reference(name, self._folder, self._scratch)
            return self._references[name].load(file)
        if name not in self._executors:
            self._executors[name] = registry.load("executors", name)()
        recipe = self._ends.builders[side].recipe()
        return self._executors[name].load(self._folder / file, self._folder, recipe)


class Reference:
    """Loads emitted files into another back end, converted for it, and written to a scratch folder.

    All weights are written once more, because the other back end may store them in another layout.
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
                else numbers(inputs[spec.name], spec.dtype).astype(self._types[spec.name])
                for spec in self._given
            }
        )
        return {
            spec.name: found[spec.name].astype(elements(spec.dtype)).view(spec.numpy_dtype)
            for spec in self._made
        }
