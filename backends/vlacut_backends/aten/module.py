"""A part as a module of PyTorch: what the back end `torch` runs, torch.export traces, and
torch-tensorrt compiles. Its operators are those of `operators`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlacut.errors import BackendError
from vlacut_backends.aten.operators import OPERATORS, why_not
from vlacut_backends.aten.part import PartGraph, PartNode, read_part
from vlacut_backends.aten.weights import Weights, dtype_of

_MOST_ELEMENTS = 1 << 18  # of what is made of weights alone and kept: as `vlacut.ir.offline` has it


class PartModule(torch.nn.Module):
    """The graph of an ONNX file; weights are buffers.

    What operators make of weights alone is made here, once, where it is a view of a weight or
    small; the rest of it at every run, for it would be a copy in each part that reads it.

    Args:
        path: of the file.
        root: the folder that its weights are relative to.
        weights: what parts have in common, and where they are; this one's own, on the CPU, if None.

    Attributes:
        inputs: keys in order, with their element types.
        outputs: keys, in order.

    Raises BackendError naming an operator or an element type that is not known here.
    """

    def __init__(self, path: Path, root: Path, weights: Weights | None = None) -> None:
        super().__init__()
        graph = read_part(path)
        for node in graph.nodes:
            reason = why_not(node)
            if reason:
                raise BackendError(f"part {path.stem}: {node} {reason}; take another --backend")
        self.inputs = {
            key: dtype_of(kind, f"part {path.stem}: {key}") for key, kind in graph.inputs.items()
        }
        self.outputs = graph.outputs
        self._numbers: dict[str, np.ndarray] = {}
        self._buffers_of: dict[str, str] = {}
        shared = weights or Weights(torch.device("cpu"))
        held = {
            name: shared.tensor(stored, root, f"part {path.stem}: {name}")
            for name, stored in graph.weights.items()
        }
        for name, tensor in held.items():
            self._note_numbers(name, tensor)
        with torch.no_grad():
            nodes = self._fold(graph, held)
        read = {name for node in nodes for name in node.inputs} | {*graph.outputs}
        for name in held:
            if name in read:
                self._buffers_of[name] = f"weight{len(self._buffers_of)}"
                self.register_buffer(self._buffers_of[name], held[name])
        self._steps = _steps(nodes, graph.outputs)

    def _note_numbers(self, name: str, tensor: torch.Tensor) -> None:
        """Keep what may be read as a shape, an axis or a limit."""
        if tensor.numel() == 1 or (tensor.dtype == torch.int64 and tensor.dim() <= 1):
            held = tensor.detach().cpu()
            whole = held.dtype in (torch.bfloat16, torch.float8_e4m3fn)
            self._numbers[name] = (held.float() if whole else held).numpy().copy()

    def _fold(self, graph: PartGraph, held: dict[str, torch.Tensor]) -> list[PartNode]:
        """Make what weights alone make; returns the operators that are left."""
        left = []
        for node in graph.nodes:
            given = [name for name in node.inputs if name]
            if all(name in held for name in given):
                made = _made(self, node, held)
                weights = {_storage(held[name]) for name in given}
                if all(one.numel() <= _MOST_ELEMENTS or _storage(one) in weights for one in made):
                    for name, tensor in zip(node.outputs, made, strict=False):
                        held[name] = tensor
                        self._note_numbers(name, tensor)
                    continue
            left.append(node)
        return left

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs in the graph's order, of inputs in the graph's order."""
        held: dict[str, torch.Tensor] = dict(zip(self.inputs, inputs, strict=True))
        for name, buffer in self._buffers_of.items():
            held[name] = getattr(self, buffer)
        for node, last in self._steps:
            held.update(zip(node.outputs, _made(self, node, held), strict=False))
            for name in last:
                held.pop(name, None)
        return tuple(held[name] for name in self.outputs)

    def constant(self, name: str) -> np.ndarray:
        """Numbers known when the part is loaded; BackendError if they are made at run time."""
        if name not in self._numbers:
            raise BackendError(f"{name} is read as a shape, and is not constant")
        return self._numbers[name]


def _made(
    module: PartModule, node: PartNode, held: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    operands = [_Operand(module, held[name], name) if name else None for name in node.inputs]
    made = OPERATORS[node.kind](operands, node.attributes)
    return made if isinstance(made, tuple) else (made,)


def _steps(
    nodes: Iterable[PartNode], outputs: Iterable[str]
) -> list[tuple[PartNode, tuple[str, ...]]]:
    """Operators in order, each with what nobody reads after it."""
    kept, found = {*outputs}, []
    for node in reversed(list(nodes)):
        last = {name for name in (*node.inputs, *node.outputs) if name} - kept
        kept |= last
        found.append((node, tuple(sorted(last))))
    return found[::-1]


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class _Operand:
    """An input of an operator: a tensor, or numbers known now."""

    def __init__(self, module: PartModule, tensor: torch.Tensor, name: str) -> None:
        self._module, self._name = module, name
        self.tensor = tensor

    @property
    def numbers(self) -> list[int]:
        """The whole numbers of a constant."""
        return [int(number) for number in self._module.constant(self._name).ravel()]

    @property
    def number(self) -> float | int:
        """The only number of a constant."""
        found: float | int = self._module.constant(self._name).item()
        return found

    @property
    def known(self) -> Any:
        """The only number if it is known now; else the tensor."""
        try:
            return self.number
        except (BackendError, ValueError):
            return self.tensor
