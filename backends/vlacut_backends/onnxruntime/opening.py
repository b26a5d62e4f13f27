"""Sessions of ONNX Runtime, as a recipe has them.

Weights stay where they are: the session maps the store's files and does not pack weights ahead, so
that sessions of one process share one copy in the page cache. Parts with products of 4 bits are the
exception: their kernel needs its weights packed, and each session has a copy of its own. The recipe
names the optimisers to leave out, see `build.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
