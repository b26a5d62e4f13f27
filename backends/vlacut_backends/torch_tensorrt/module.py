"""A part as a module of PyTorch: what torch.export traces, and torch-tensorrt compiles.

Its operators are those of `operators`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from vlacut.errors import BackendError
from vlacut_backends.torch_tensorrt.operators import DTYPES, OPERATORS


class PartModule(torch.nn.Module):
    """The graph of an ONNX file; weights are buffers.

    Args:
        path: of the file.
        root: the folder that its weights are relative to.

    Raises BackendError naming an operator or an element type that is not known here.
    """

    def __init__(self, path: Path, root: Path) -> None:
        super().__init__()
        self._graph = ir.load(path).graph
        ir.external_data.set_base_dir(self._graph, root)
        self._constants: dict[str, np.ndarray] = {}
        self._buffers_of: dict[str, str] = {}
        for node in self._graph:
            if node.op_type not in OPERATORS:
                raise BackendError(
                    f"part {path.stem}: {node.op_type} {node.name} is not known as an operator of "
                    f"PyTorch; leave --backend torch-tensorrt out"
                )
        for name, value in self._graph.initializers.items():
            self._add(name, value.const_value, path.stem)

    def _add(self, name: str, tensor: Any, where: str) -> None:
        if tensor.dtype not in DTYPES:
            raise BackendError(
                f"part {where}: {name} is of {tensor.dtype}, unknown to PyTorch here"
            )
        if tensor.dtype == ir.DataType.INT64 or tensor.size == 1:
            self._constants[name] = tensor.numpy()
        self._buffers_of[name] = f"weight{len(self._buffers_of)}"
        array = tensor.numpy()
        if tensor.dtype == ir.DataType.BFLOAT16:
            made = torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
        else:
            made = torch.from_numpy(np.array(array))
        self.register_buffer(self._buffers_of[name], made)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs in the graph's order, of inputs in the graph's order."""
        held: dict[str, Any] = {}
        for value, given in zip(self._graph.inputs, inputs, strict=True):
            held[str(value.name)] = given
        for name, buffer in self._buffers_of.items():
            held[name] = getattr(self, buffer)
        for node in self._graph:
            operands = [value and _Operand(self, held, value) for value in node.inputs]
            attributes = {name: item.value for name, item in node.attributes.items()}
            made = OPERATORS[node.op_type](operands, attributes)
            outputs = made if isinstance(made, tuple) else (made,)
            for value, tensor in zip(node.outputs, outputs, strict=False):
                held[str(value.name)] = tensor
        return tuple(held[str(value.name)] for value in self._graph.outputs)

    def constant(self, name: str) -> np.ndarray:
        """An initializer of whole numbers, or of one; BackendError if it is made at run time."""
        if name not in self._constants:
            raise BackendError(f"{name} is read as a shape, and is not constant")
        return self._constants[name]


class _Operand:
    """An input of an operator: a tensor, or numbers known now."""

    def __init__(self, module: PartModule, held: dict[str, Any], value: ir.Value) -> None:
        self._module = module
        self._name = str(value.name)
        self.tensor: torch.Tensor = held[self._name]

    @property
    def numbers(self) -> list[int]:
        """The whole numbers of a constant."""
        return [int(number) for number in self._module.constant(self._name).ravel()]

    @property
    def number(self) -> float | int:
        """The only number of a constant."""
        found: float | int = self._module.constant(self._name).item()
        return found
