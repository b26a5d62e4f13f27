"""Sessions of ONNX Runtime, as a recipe has them.

Weights stay where they are: the session maps the store's files and does not pack weights ahead, so
that sessions share one copy in the page cache. Parts with products of codes are the exception, for
their kernels need weights packed for the processor, and so are models that say they want it
(`build.py`). What packs them keeps them where all map them, see `prepacked`, or each session has a
copy of its own. The recipe names the optimisers to leave out, see `build.py`.

What a run makes on the CPU comes from one arena for all sessions of the process. An arena keeps the
most that it ever gave out, and sessions of one policy mostly run one after the other.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from vlacut.errors import BackendError, UnsupportedError
from vlacut_backends.onnxruntime.external_data import PACKED_FLOATS

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
_CPU = "CPUExecutionProvider"
_LEAST_OUTSIDE = 1024  # bytes of a weight, below which it stays in a saved model
# Without packing ahead their kernels take up to 200 and 3 times as long. The file is not parsed
# here: a part in which anything else has such a name packs its weights, too, and is right.
_PACKED = (b"MatMulNBits", b"MatMulInteger", PACKED_FLOATS.encode())
_log = logging.getLogger("vlacut.onnxruntime")


def packs(model: bytes) -> bool:
    """Whether sessions of a model pack its weights ahead."""
    return any(operator in model for operator in _PACKED)


def open_session(
    model: bytes,
    name: str,
    recipe: Mapping[str, str],
    root: Path | None = None,
    providers: Sequence[Any] = (_CPU,),
    given: Mapping[str, ort.OrtValue] | None = None,
    save: Path | None = None,
) -> ort.InferenceSession:
    """A session of an ONNX model whose weights, but for those in it, are in the folder `root`.

    Args:
        model: the file's bytes.
        name: of the part, for errors.
        recipe: see `build.py`.
        root: what the places of weights are relative to.
        providers: in order of preference.
        given: weights by name, in the place of what the model says; they are read where they lie,
            and the session holds them.
        save: where to save the model as the session has it, with its weights and what it packed of
            them in a file beside it.

    Raises BackendError, naming the model, if ONNX Runtime cannot load it: UnsupportedError if that
    is for an operator.
    """
    options = _options(recipe, packs(model))
    if list(providers) == [_CPU]:
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
    given = given or {}
    options.add_external_initializers(list(given), list(given.values()))  # it opens no file
    for weight, value in given.items():  # and without this it would copy each
        options.add_initializer(weight, value)
    if save is not None:
        _save(options, save)
    if root is not None:
        folder = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(folder, str(root))
    try:
        session = ort.InferenceSession(
            model,
            options,
            providers=list(providers),
            disabled_optimizers=recipe.get("without", "").split(),
        )
    except Exception as error:  # its own exceptions share no base but this
        kind = UnsupportedError if _lacks(error) else BackendError
        raise kind(f"{name}: ONNX Runtime cannot load it: {error}") from error
    session.given = given  # ONNX Runtime itself keeps no hold of their memory
    return session


@cache
def _share_arena() -> None:
    """Let there be an arena that sessions which ask for it share, once for this process."""
    kind, use = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, ort.OrtMemType.DEFAULT
    try:
        ort.create_and_register_allocator(ort.OrtMemoryInfo("Cpu", kind, 0, use), None)
    except Exception as error:  # its own exceptions share no base but this
        _log.debug("sessions share the arena that is there: %s", error)  # the user's own


def _lacks(error: Exception) -> bool:
    """Whether it is an operator, or a form of one, that ONNX Runtime does not have."""
    return type(error).__name__ == "NotImplemented" or "not a registered function/op" in str(error)


def _save(options: ort.SessionOptions, path: Path) -> None:
    options.optimized_model_filepath = str(path)
    for entry, value in {
        "optimized_model_external_initializers_file_name": f"{path.stem}.weights",
        "optimized_model_external_initializers_min_size_in_bytes": str(_LEAST_OUTSIDE),
        "save_external_prepacked_constant_initializers": "1",
    }.items():
        options.add_session_config_entry(f"session.{entry}", value)


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
