"""The weight store of a bundle: one file per distinct tensor, named by its content.

The store streams tensors in: it hashes and writes each from where it lies (a file, a torch storage)
in pieces, so that memory holds a few pieces. The tensors of a checkpoint may come before a model
asks for them, while the model is still being traced.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np
import onnx_ir as ir

from vlacut.errors import ModelError
from vlacut.ir.graphs import dtype_name
from vlacut.split.blobs import BlobProcess, BlobWriter, Buffer
from vlacut.tensor import dtype_bits

Place = tuple[str, int, int]

_INLINE_BYTES = 1024  # below it, a file of its own costs more than it saves
_THREADS = 2  # one hashes while the other waits for the disk


class WeightStore:
    """Writes weights into `folder/weights`, each distinct content once; use it in a `with`.

    Leaving the block ends what still runs and removes what no model asked for.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "weights"
        self._folder.mkdir()
        self._digest_of: dict[str, str] = {}
        self._coming: dict[Place, Future[str]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, "weights")
        self._here = threading.local()  # a writer for each thread
        self._ahead = ThreadPoolExecutor(1, "weights-ahead")
        self._process: BlobProcess | None = None

    def __enter__(self) -> WeightStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for threads in (self._threads, self._ahead):
            threads.shutdown(cancel_futures=True)
        if self._process is not None:
            self._process.close()
        asked = set(self._digest_of.values())
        for path in self._folder.iterdir():
            if path.name not in asked:
                path.unlink()

    def prefetch(self, tensors: Iterable[ir.ExternalTensor]) -> None:
        """Begin to store tensors that lie in files; `externalise` asks for them later."""
        self._process = BlobProcess(self._folder)
        for tensor in tensors:
            if tensor.nbytes >= _INLINE_BYTES:
                place = _place(tensor)
                self._coming[place] = self._ahead.submit(self._process.copy, *place)

    def externalise(self, model: ir.Model) -> None:
        """Replace a model's weights, but for the smallest, by references into the store.

        Raises ModelError naming a weight that has a shape but no content, or whose file ends early.
        """
        initializers = model.graph.initializers
        tensors = {name: _content(name, initializers[name]) for name in sorted(initializers)}
        stored = {
            name: self._stored(name, tensor)
            for name, tensor in tensors.items()
            if tensor.nbytes >= _INLINE_BYTES
        }
        for name, tensor in tensors.items():
            if name in stored:
                self._digest_of[name] = _digest(name, stored[name])
                initializers[name].const_value = _reference(name, tensor, self._digest_of[name])
            elif isinstance(tensor, ir.ExternalTensor):
                initializers[name].const_value = ir.tensor(np.array(tensor.numpy()), name=name)
        ordered = sorted(initializers.items())
        initializers.clear()
        initializers.update(ordered)

    def _stored(self, name: str, tensor: ir.TensorProtocol) -> Future[str]:
        """The digest of a tensor, as soon as it is written."""
        if name in self._digest_of:
            known: Future[str] = Future()
            known.set_result(self._digest_of[name])
            return known
        if isinstance(tensor, ir.ExternalTensor) and _place(tensor) in self._coming:
            return self._coming[_place(tensor)]
        return self._threads.submit(self._add, tensor)

    def _add(self, tensor: ir.TensorProtocol) -> str:
        """Write a tensor; one in a file is read, not mapped, lest its pages count as memory."""
        if not hasattr(self._here, "writer"):
            self._here.writer = BlobWriter(self._folder)
        writer: BlobWriter = self._here.writer
        if isinstance(tensor, ir.ExternalTensor):
            return writer.copy(*_place(tensor))
        return writer.write(_bytes(tensor))


def _content(name: str, value: ir.Value) -> ir.TensorProtocol:
    if value.const_value is None:
        raise ModelError(
            f"weight {name} has no content: the model was traced on shapes alone; "
            f"give --weights, or use `vlacut plan`"
        )
    return value.const_value


def _digest(name: str, stored: Future[str]) -> str:
    try:
        return stored.result()
    except EOFError as error:
        raise ModelError(f"weight {name}: {error}; did the checkpoint change meanwhile?") from error


def _reference(name: str, tensor: ir.TensorProtocol, digest: str) -> ir.ExternalTensor:
    shape = ir.Shape(tuple(int(str(dim)) for dim in tensor.shape))
    where = f"weights/{digest}"
    return ir.ExternalTensor(where, 0, tensor.nbytes, tensor.dtype, shape=shape, name=name)


def _place(tensor: ir.ExternalTensor) -> Place:
    return (os.fspath(tensor.path), tensor.offset or 0, tensor.nbytes)


def _bytes(tensor: ir.TensorProtocol) -> Buffer:
    """The packed little-endian bytes of a tensor."""
    if dtype_bits(dtype_name(tensor.dtype)) < 8:
        return tensor.tobytes()
    return np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data
