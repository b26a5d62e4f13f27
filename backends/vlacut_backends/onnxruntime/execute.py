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

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `vlacut.backend.Engine`."""
        try:
            made = self._session.run(self._outputs, dict(inputs))
        except Exception as error:  # its own exceptions share no base but this
            raise BackendError(f"part {self._name}: ONNX Runtime failed: {error}") from error
        return dict(zip(self._outputs, made, strict=True))
