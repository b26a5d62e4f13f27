"""TensorRT's Python bindings, imported once a driver was found: see `Driver` for why not before."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from vlacut.errors import BackendError
from vlacut_backends.cuda.driver import driver

_log = logging.getLogger("vlacut.tensorrt")


@cache
def tensorrt() -> Any:
    """The module `tensorrt`. Raises BackendError if there is no driver, or it cannot be loaded."""
    driver()
    try:
        return import_module("tensorrt")
    except (ImportError, OSError) as error:
        raise BackendError(
            f"TensorRT's Python module cannot be loaded: {error}; on a Jetson install "
            f"python3-libnvinfer (JetPack), on a server pip install tensorrt; where only trtexec "
            f"is, build with --via trtexec"
        ) from error


def has_tensorrt() -> bool:
    """Whether `tensorrt` can be loaded."""
    try:
        tensorrt()
    except BackendError:
        return False
    return True


@cache
def logger() -> Any:
    """TensorRT's logger, of which it wants one a process: to the logger `vlacut.tensorrt`."""
    return make_logger(lambda level, text: _log.log(level, "%s", text))


def make_logger(note: Callable[[int, str], None]) -> Any:
    """A logger that calls `note` with a level of `logging` and a line."""
    trt = tensorrt()
    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.WARNING,
        trt.ILogger.Severity.INFO: logging.DEBUG,
        trt.ILogger.Severity.VERBOSE: logging.DEBUG,
    }

    class Logger(trt.ILogger):  # type: ignore[name-defined, misc]  # of a module found at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            """Called by TensorRT, from any thread."""
            note(levels.get(severity, logging.DEBUG), msg)

    return Logger()
