"""PyTorch, the run half: torch, numpy, and onnx to read a part's file.

Weights are mapped from the bundle's store, each once for all parts of an executor. On the CPU what
a part makes is handed on as numpy arrays, without a copy; on a GPU see `lane`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vlacut.backend import Engine
from vlacut.errors import BackendError, UnsupportedError

try:
    import torch

    from vlacut_backends.aten.module import PartModule
    from vlacut_backends.aten.weights import Weights, to_array, to_tensor
    from vlacut_backends.torch.computing import compute
except ImportError as error:
    raise BackendError(
        f"the back end torch needs {error.name}: pip install 'vlacut[torch]'"
    ) from error

_log = logging.getLogger("vlacut.torch")
PROVIDERS = ("cuda", "cpu")


class TorchExecutor:
    """Loads parts as modules; those of one executor hold each weight once."""

    def __init__(self) -> None:
        self._weights: dict[str, Weights] = {}

    def load(self, model: Path, root: Path, recipe: Mapping[str, str]) -> Engine:
        """See `vlacut.backend.Executor`. The provider is the first of the recipe's that is here."""
        kind = chosen_provider(recipe.get("provider", "cpu"))
        threads = recipe.get("threads", "0")
        if threads != "0":
            torch.set_num_threads(int(threads))
        if kind not in self._weights:
            self._weights[kind] = Weights(torch.device(kind))
        module = PartModule(model, root, self._weights[kind]).eval()
        if kind == "cuda":
            from vlacut_backends.torch.lane import DeviceTorchEngine

            return DeviceTorchEngine(module, model.stem)
        return TorchEngine(module, model.stem)


def chosen_provider(text: str) -> str:
    """The first of `cuda,cpu` that this machine has. Raises BackendError if it has none of them."""
    for name in text.split(","):
        if name not in PROVIDERS:
            raise UnsupportedError(f"provider {name!r}: PyTorch has {' and '.join(PROVIDERS)}")
        if name == "cpu" or torch.cuda.is_available():
            return name
        _log.info("PyTorch %s sees no GPU", torch.__version__)
    raise UnsupportedError(
        f"PyTorch {torch.__version__} sees no GPU: look at nvidia-smi, install the build for its "
        f"CUDA (pip install torch from https://download.pytorch.org/whl), or take --provider cpu"
    )


class TorchEngine:
    """A part as a module on the CPU; `run` may be called from several threads.

    What it makes is never a view of what it was given, or of a weight: frames are overwritten.
    """

    def __init__(self, module: PartModule, name: str) -> None:
        self._module, self.name = module, name
        self._kept = {_address(tensor) for tensor in module.buffers()}

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `vlacut.backend.Engine`."""
        given = [to_tensor(inputs[key], dtype) for key, dtype in self._module.inputs.items()]
        made = compute(self._module, given, self.name)
        borrowed = self._kept | {_address(tensor) for tensor in given}
        return {
            key: to_array(tensor.clone() if _address(tensor) in borrowed else tensor)
            for key, tensor in zip(self._module.outputs, made, strict=True)
        }


def _address(tensor: torch.Tensor) -> int:
    """Of the memory that a tensor is a view of."""
    return tensor.untyped_storage().data_ptr()
