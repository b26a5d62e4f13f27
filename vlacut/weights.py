"""The weight store of a bundle: one file a distinct tensor, named by its content.

Tensors are streamed in: each is hashed and written from where it lies (a memory map, a torch
storage), one at a time, so that memory holds no more than the largest of them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir

from vlacut.errors import ModelError
from vlacut.graphs import dtype_name
from vlacut.tensor import dtype_bits

_INLINE_BYTES = 1024  # below it, a file of its own costs more than it saves
_CHUNK = 1 << 24


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
        data = _bytes(tensor)
        digest = hashlib.sha256(data).hexdigest()
        path = self._folder / "weights" / digest
        if not path.exists():
            with path.open("wb") as file:
                for chunk in _chunks(data):
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
        return digest


def _bytes(tensor: ir.TensorProtocol) -> memoryview:
    """The packed little-endian bytes of a tensor, without a copy where it lies in memory."""
    if dtype_bits(dtype_name(tensor.dtype)) < 8:
        return memoryview(tensor.tobytes())
    array = np.ascontiguousarray(tensor.numpy())
    return array.reshape(-1).view(np.uint8).data


def _chunks(data: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(data), _CHUNK):
        yield data[start : start + _CHUNK]
