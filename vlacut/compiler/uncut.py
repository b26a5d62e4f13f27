"""The uncut phases of a bundle that is being made, running on this machine.

Those of a back end that does not run here are run by another one, its `reference`: the files that
were emitted, with types the reference lacks converted, and rounded to the model's own between them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx_ir as ir

from vlacut import registry
from vlacut.backend import Engine
from vlacut.bundle.manifest import WholePhase
from vlacut.ir.elements import elements, numbers
from vlacut.ir.graphs import dtype_name, value_spec
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Phase, Program
from vlacut.runtime.whole import load_whole
from vlacut.split.emission import save
from vlacut.split.weights import WeightStore
from vlacut.tensor import TensorSpec


@contextmanager
def uncut_engines(
    folder: Path, phases: Sequence[WholePhase], backend: str, runner: str
) -> Iterator[tuple[Mapping[str, Engine], Reference | None]]:
    """Engines of the phases in a bundle's folder, by name, and the reference that runs them.

    Args:
        folder: where the bundle is being made.
        phases: the uncut ones.
        backend: that the bundle is for.
        runner: that runs them; where it is the same, there is no reference.

    Raises BackendError if they cannot be loaded.
    """
    if runner == backend:
        recipe = registry.load("builders", backend)().recipe()
        yield load_whole(registry.load("executors", backend)(), folder, phases, recipe), None
        return
    with tempfile.TemporaryDirectory(prefix="vlacut-") as scratch:
        reference = Reference(runner, folder, Path(scratch))
        names = [phase.name for phase in phases]
        yield {name: reference.load(f"whole/{name}.onnx") for name in names}, reference


class Reference:
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
                else numbers(inputs[spec.name], spec.dtype).astype(self._types[spec.name])
                for spec in self._given
            }
        )
        return {
            spec.name: found[spec.name].astype(elements(spec.dtype)).view(spec.numpy_dtype)
            for spec in self._made
        }
