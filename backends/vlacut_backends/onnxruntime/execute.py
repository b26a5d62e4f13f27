"""ONNX Runtime, the run half: numpy and onnxruntime alone, Python 3.10 and up.

The recipe says by which provider: on the CPU as here, on a GPU as in `bound`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlacut.backend import SHARED, Engine
from vlacut.errors import BackendError
from vlacut_backends.onnxruntime.opening import open_session, packs

if TYPE_CHECKING:
    import onnxruntime as ort


_BFLOAT16, _BFLOAT16_NUMBER = "tensor(bfloat16)", 16  # ONNX Runtime's name, ONNX's number


class OnnxRuntimeExecutor:
    """Loads parts into sessions, by the first of the recipe's providers that is here."""

    def __init__(self) -> None:
        self._turn = threading.Lock()

    def load(self, model: Path, root: Path, recipe: Mapping[str, str]) -> Engine:
        """See `vlacut.backend.Executor`."""
        asked = recipe.get("provider", "cpu")
        if asked != "cpu":
            from vlacut_backends.onnxruntime.providers import chosen_provider

            provider = chosen_provider(asked)
            if provider != "cpu":
                from vlacut_backends.onnxruntime.bound import load_bound

                return load_bound(model, root, recipe, provider, self._turn)
        # The bytes, not the path: weights are looked up in `root`, not beside the file.
        data = model.read_bytes()
        if recipe.get("prepack") == SHARED and packs(data):
            from vlacut_backends.onnxruntime.prepacked import PackedPart

            session = PackedPart(data, str(model), recipe, root).session()
        else:
            session = open_session(data, str(model), recipe, root)
        return OnnxRuntimeEngine(session, model.stem)


class OnnxRuntimeEngine:
    """A part in a session; `run` may be called from several threads."""

    def __init__(self, session: ort.InferenceSession, name: str) -> None:
        self._session = session
        self._name = name
        self._outputs = [output.name for output in session.get_outputs()]
        ports = (*session.get_inputs(), *session.get_outputs())
        # Of types that numpy lacks, shapes by name: arrays carry their bits.
        self._carried = {port.name: tuple(port.shape) for port in ports if port.type == _BFLOAT16}

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `vlacut.backend.Engine`."""
        try:
            if self._carried:
                return self._run_carried(inputs)
            made = self._session.run(self._outputs, dict(inputs))
        except Exception as error:  # its own exceptions share no base but this
            raise BackendError(f"part {self._name}: ONNX Runtime failed: {error}") from error
        return dict(zip(self._outputs, made, strict=True))

    def _run_carried(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As `run`, with bfloat16 read and written where the arrays are."""
        binding, held = self._session.io_binding(), []
        for port in self._session.get_inputs():
            array = np.require(inputs[port.name], requirements="C")
            held.append(array)  # until it has run
            if port.name in self._carried:
                where = array.ctypes.data
                binding.bind_input(port.name, "cpu", 0, _BFLOAT16_NUMBER, array.shape, where)
            else:
                binding.bind_cpu_input(port.name, array)
        made = {
            key: np.empty(self._carried[key], np.uint16)
            for key in self._outputs
            if key in self._carried
        }
        for key in self._outputs:
            if key in made:
                where, shape = made[key].ctypes.data, made[key].shape
                binding.bind_output(key, "cpu", 0, _BFLOAT16_NUMBER, shape, where)
            else:
                binding.bind_output(key, "cpu")
        self._session.run_with_iobinding(binding)
        found = zip(self._outputs, binding.get_outputs(), strict=True)
        return {key: made[key] if key in made else value.numpy() for key, value in found}
