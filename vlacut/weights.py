"""The weight store of a bundle: one file a distinct tensor, named by its content.

Tensors are streamed in: each is hashed and written from where it lies (a file, a torch storage) in
pieces, several at a time, so that memory holds a few pieces. Those of a checkpoint may come before
anybody asks for them, while the model is still being traced.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path
from types import TracebackType

import numpy as np
import onnx_ir as ir

from vlacut.errors import ModelError
from vlacut.graphs import dtype_name
from vlacut.tensor import dtype_bits

Buffer = bytes | memoryview
Place = tuple[str, int, int]

_INLINE_BYTES = 1024  # below it, a file of its own costs more than it saves
_CHUNK = 1 << 25  # large, for a thread waits for the interpreter's lock after every piece
_THREADS = 2  # one reads and hashes while the other waits for the disk


class WeightStore:
    """Writes weights into `folder/weights`, each distinct content once; use it in a `with`.

    Leaving the block ends what still runs and removes what no model asked for.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "weights"
        self._folder.mkdir()
        self._digest_of: dict[str, str] = {}
        self._coming: dict[Place, Future[str]] = {}
        self._numbers = count()
        self._threads = ThreadPoolExecutor(_THREADS, "weights")

    def __enter__(self) -> WeightStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        asked = set(self._digest_of.values())
        for path in self._folder.iterdir():
            if path.name not in asked:
                path.unlink()

    def prefetch(self, tensors: Iterable[ir.ExternalTensor]) -> None:
        """Begin to store tensors that lie in files; `externalise` asks for them later."""
        for tensor in tensors:
            if tensor.nbytes >= _INLINE_BYTES:
                self._coming[_place(tensor)] = self._threads.submit(self._add, tensor)

    def externalise(self, model: ir.Model) -> None:
        """Replace a model's weights, but for the smallest, by references into the store.

        Raises ModelError naming a weight that has a shape but no content.
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
                self._digest_of[name] = stored[name].result()
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
        """Write a tensor under a passing name while it is hashed, then give it its own."""
        passing = self._folder / f"passing-{next(self._numbers)}"
        digest = hashlib.sha256()
        with passing.open("wb", buffering=0) as file:
            for chunk in _chunks(tensor):
                digest.update(chunk)
                _write(file.fileno(), chunk)
            os.fsync(file)  # now, while others are hashed, rather than all of it at the end
        passing.rename(passing.with_name(digest.hexdigest()))
        return digest.hexdigest()


def _content(name: str, value: ir.Value) -> ir.TensorProtocol:
    if value.const_value is None:
        raise ModelError(
            f"weight {name} has no content: the model was traced on shapes alone; "
            f"give --weights, or use `vlacut plan`"
        )
    return value.const_value


def _reference(name: str, tensor: ir.TensorProtocol, digest: str) -> ir.ExternalTensor:
    shape = ir.Shape(tuple(int(str(dim)) for dim in tensor.shape))
    where = f"weights/{digest}"
    return ir.ExternalTensor(where, 0, tensor.nbytes, tensor.dtype, shape=shape, name=name)


def _place(tensor: ir.ExternalTensor) -> Place:
    return (os.fspath(tensor.path), tensor.offset or 0, tensor.nbytes)


def _write(file: int, chunk: Buffer) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(file, view) :]


def _chunks(tensor: ir.TensorProtocol) -> Iterator[Buffer]:
    """The packed little-endian bytes of a tensor, a piece at a time.

    A tensor in a file is read, not mapped, so that its pages do not count as this process's memory.
    """
    if isinstance(tensor, ir.ExternalTensor):
        yield from _file_chunks(tensor)
    elif dtype_bits(dtype_name(tensor.dtype)) < 8:
        yield tensor.tobytes()
    else:
        array = np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8)
        for start in range(0, array.size, _CHUNK):
            yield array[start : start + _CHUNK].data


def _file_chunks(tensor: ir.ExternalTensor) -> Iterator[memoryview]:
    """The bytes of a tensor in a file; every piece is gone when the next one is asked for."""
    left = tensor.nbytes
    piece = memoryview(bytearray(min(left, _CHUNK)))
    with open(tensor.path, "rb", buffering=0) as file:
        file.seek(tensor.offset or 0)
        while left:
            read = file.readinto(piece[: min(left, len(piece))])
            if not read:
                raise ModelError(f"weight {tensor.name}: {tensor.path} ends {left} bytes early")
            left -= read
            yield piece[:read]
