"""ONNX Runtime, the run half: numpy and onnxruntime alone, Python 3.10 and up.

The recipe says by which provider: on the CPU as here, on a GPU as in `bound`.

Weights stay where they are: the session maps the store's files and does not pack weights ahead, so
that sessions of one process share one copy in the page cache. Parts with products of 4 bits are the
exception: their kernel needs its weights packed, and each session has a copy of its own. The recipe
names the optimisers to leave out, see `build.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlacut.backend import Engine
from vlacut.errors import BackendError

try:
    import onnxruntime as ort
except ImportError as error:
    raise BackendError(
        "the back end onnxruntime needs it: pip install 'vlacut[onnxruntime]'"
    ) from error

_LEVELS = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_ERRORS_ONLY = 3
# Without packing ahead its kernel takes up to 200 times as long. The file is not parsed here: a
# part in which anything else has that name packs its weights, too, and is right all the same.
_PACKED = b"MatMulNBits"


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
        session = open_session(model.read_bytes(), str(model), recipe, root)
        return OnnxRuntimeEngine(session, model.stem)


def open_session(
    model: bytes,
    name: str,
    recipe: Mapping[str, str],
    root: Path | None = None,
    providers: Sequence[Any] = ("CPUExecutionProvider",),
) -> ort.InferenceSession:
    """A session of an ONNX model whose weights, but for those in it, are in the folder `root`.

    Raises BackendError, naming the model, if ONNX Runtime cannot load it.
    """
    options = _options(recipe, _PACKED in model)
    if root is not None:
        folder = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(folder, str(root))
    try:
        return ort.InferenceSession(
            model,
            options,
            providers=list(providers),
            disabled_optimizers=recipe.get("without", "").split(),
        )
    except Exception as error:  # its own exceptions share no base but this
        raise BackendError(f"{name}: ONNX Runtime cannot load it: {error}") from error


def _options(recipe: Mapping[str, str], packs: bool) -> ort.SessionOptions:
    level = recipe.get("optimisation", "basic")
    if level not in _LEVELS:
        raise BackendError(f"recipe: optimisation {level!r} is none of {', '.join(_LEVELS)}")
    options = ort.SessionOptions()
    options.graph_optimization_level = _LEVELS[level]
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = int(recipe.get("threads", "0"))
    for entry, value in {
        "session.disable_prepacking": "0" if packs else "1",
        "session.intra_op.allow_spinning": "0",
    }.items():
        options.add_session_config_entry(entry, value)
    return options


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
