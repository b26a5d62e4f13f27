"""Engines of models that are tried here and now, in a folder that is gone afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx_ir as ir

from vlacut import registry
from vlacut.backend import Builder, Engine, Executor
from vlacut.errors import InputError
from vlacut.split.emission import save
from vlacut.split.weights import WeightStore


@contextmanager
def workshop(backend: str, threads: int = 0) -> Iterator[Workshop]:
    """A workshop of its own, for models of one program: weights go by their names.

    Args:
        backend: that runs the models.
        threads: that an engine takes; 0 for as many as the back end's recipe says.

    Raises InputError if the back end runs nothing here.
    """
    with tempfile.TemporaryDirectory(prefix="vlacut-") as name:
        folder = Path(name)
        with WeightStore(folder) as store:
            yield Workshop(folder, store, backend, threads)


class Workshop:
    """Makes engines of models as those of a bundle are made. See `workshop`."""

    def __init__(self, folder: Path, store: WeightStore, backend: str, threads: int) -> None:
        self._folder = folder
        self._store = store
        self._builder: Builder = registry.load("builders", backend)()
        here = registry.names("executors")
        if backend not in here:
            raise InputError(f"back end {backend} runs nothing here; {', '.join(here)} do")
        self._executor: Executor = registry.load("executors", backend)()
        self._threads = {"threads": str(threads)} if threads else {}
        self._made = 0

    def engine(self, name: str, model: ir.Model) -> Engine:
        """An engine of a model, which is changed in place.

        Raises BackendError, naming the model, if the back end cannot run it.
        """
        self._made += 1
        file = name.replace("/", "-")  # samples of calibration have strides in their names
        path = self._folder / f"{self._made}" / f"{file}.onnx"
        recipe = self._builder.recipe()
        self._builder.prepare(model, name, recipe)
        self._store.externalise(model)
        save(model, path)
        return self._executor.load(path, self._folder, {**recipe, **self._threads})
