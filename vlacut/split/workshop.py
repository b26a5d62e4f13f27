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
from vlacut.split.own_types import convert_model
from vlacut.split.weights import WeightStore


@contextmanager
def workshop(backend: str, threads: int = 0, provider: str = "") -> Iterator[Workshop]:
    """A workshop of its own, for models of one program: weights go by their names.

    Args:
        backend: that runs the models.
        threads: that an engine takes; 0 for as many as the back end's recipe says.
        provider: that its executor is to take, and no other; empty for the recipe's.

    Raises InputError if the back end runs nothing here, or has no such provider.
    """
    with tempfile.TemporaryDirectory(prefix="vlacut-") as name:
        folder = Path(name)
        with WeightStore(folder) as store:
            yield Workshop(folder, store, backend, threads, provider)


class Workshop:
    """Makes engines of models as those of a bundle are made. See `workshop`."""

    def __init__(
        self, folder: Path, store: WeightStore, backend: str, threads: int, provider: str = ""
    ) -> None:
        self._folder = folder
        self._store = store
        self._builder: Builder = registry.load("builders", backend)()
        here = registry.names("executors")
        if backend not in here:
            raise InputError(f"back end {backend} runs nothing here; {', '.join(here)} do")
        self._executor: Executor = registry.load("executors", backend)()
        known = getattr(self._builder, "providers", ())
        if provider and provider not in known:
            has = f"has {', '.join(known)}" if known else "has none to choose from"
            raise InputError(f"--provider {provider}: back end {backend} {has}")
        self._provider = {"provider": provider} if provider else {}
        self._threads = {"threads": str(threads)} if threads else {}
        self._made = 0

    def engine(self, name: str, model: ir.Model) -> Engine:
        """An engine of a model, which is changed in place.

        Raises BackendError, naming the model, if the back end cannot run it.
        """
        self._made += 1
        file = name.replace("/", "-")  # samples of calibration have strides in their names
        path = self._folder / f"{self._made}" / f"{file}.onnx"
        recipe = {**self._builder.recipe(), **self._provider}
        if self._builder.conversions:
            convert_model(model, self._builder.conversions)
        self._builder.prepare(model, name, recipe)
        self._store.externalise(model)
        save(model, path)
        return self._executor.load(path, self._folder, {**recipe, **self._threads})
