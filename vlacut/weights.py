"""The weight store of a bundle: one file a distinct tensor, named by its content.

Tensors are streamed in: each is hashed and written from where it lies (a file, a torch storage) in
pieces, so that memory holds a piece.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir as ir

from vlacut.errors import ModelError
from vlacut.graphs import dtype_name
from vlacut.tensor import dtype_bits

Buffer = bytes | memoryview

_INLINE_BYTES = 1024  # below it, a file of its own costs more than it saves
_CHUNK = 1 << 23


class WeightStore:
    """Writes weights into `folder/weights`, each distinct content once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digest_of: dict[str, str] = {}
        (folder / "weights").mkdir()

    def externalise(self, model: ir.Model) -> None:
        """Replace a model's weights, but for the smallest, by references into the store.

        Raises ModelError naming a weight that has a shape but no content.
        """
        for name, value in sorted(model.graph.initializers.items()):
            tensor = value.const_value
            if tensor is None:
                raise ModelError(
                    f"weight {name} has no content: the model was traced on shapes alone; "
                    f"give --weights, or use `vlacut plan`"
                )
            if tensor.nbytes >= _INLINE_BYTES:
                value.const_value = self._reference(name, tensor)
            elif isinstance(tensor, ir.ExternalTensor):
                value.const_value = ir.tensor(np.array(tensor.numpy()), name=name)
        ordered = sorted(model.graph.initializers.items())
        model.graph.initializers.clear()
        model.graph.initializers.update(ordered)

    def _reference(self, name: str, tensor: ir.TensorProtocol) -> ir.ExternalTensor:
        digest = self._digest_of.get(name) or self._add(tensor)
        self._digest_of[name] = digest
        shape = ir.Shape(tuple(int(str(dim)) for dim in tensor.shape))
        return ir.ExternalTensor(
            f"weights/{digest}", 0, tensor.nbytes, tensor.dtype, shape=shape, name=name
        )

    def _add(self, tensor: ir.TensorProtocol) -> str:
        """Write a tensor under a passing name while it is hashed, then give it its own."""
        passing = self._folder / "weights" / "passing"
        with passing.open("wb") as file:
            digest = _copy(_chunks(tensor), file)
        path = passing.with_name(digest)
        if path.exists():
            passing.unlink()
        else:
            passing.rename(path)
        return digest


def _copy(chunks: Iterator[Buffer], file: BinaryIO) -> str:
    """Write chunks to a file; returns their SHA-256. Reading, hashing and writing overlap."""
    digest = hashlib.sha256()
    with ThreadPoolExecutor(2) as threads:
        coming = threads.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = threads.submit(next, chunks, None)
            hashed = threads.submit(digest.update, chunk)
            file.write(chunk)
            hashed.result()
    return digest.hexdigest()


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


def _file_chunks(tensor: ir.ExternalTensor) -> Iterator[bytes]:
    left = tensor.nbytes
    with open(tensor.path, "rb") as file:
        file.seek(tensor.offset or 0)
        while left:
            chunk = file.read(min(left, _CHUNK))
            if not chunk:
                raise ModelError(f"weight {tensor.name}: {tensor.path} ends {left} bytes early")
            left -= len(chunk)
            yield chunk
