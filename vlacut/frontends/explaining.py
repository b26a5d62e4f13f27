"""Why a module could not be traced: the line of its code, and what usually helps."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vlacut.errors import ModelError

# Packages and modules whose code is no model's own.
_TOOLS = ("torch", "vlacut", "onnxscript", "onnx_ir", "importlib", "contextlib")
_VALUES = (
    "give what is asked for as an input of whole numbers: it is fixed to the example's value",
    "compute both ways, and choose with torch.where",
    "end the phase before that line, and begin another behind it (TorchPhase)",
)
_OPERATORS = (
    "write the operator in terms of others, those that torch.onnx has a function for",
    "let transformers take another implementation: attn_implementation='eager'",
    "export that part as ONNX yourself, and bring the policy as a folder with a program.toml",
)
_WRITES = (
    "keep what is written from step to step as state: return it, and --state OUTPUT=INPUT",
    "call module.eval() before, if it is a running statistic",
    "write into a copy: x = x.clone()",
)
_ELSE = (
    "call the module on the example yourself: module(*args, **kwargs) must run",
    "give tensors as arguments, not objects that hold tensors",
    "leave out what is for training: call module.eval() before",
)
_KINDS = (
    (r"values of a tensor|data-dependent|shapes must be static", _VALUES),
    (r"no ONNX form|No ONNX function|unknown operator", _OPERATORS),
    (r"writes into", _WRITES),
)


@dataclass(frozen=True)
class Failure:
    """Why a model is none.

    Attributes:
        message: of the error.
        place: `file:line` of the model's code, and the line; empty if none of it had a part.
        cures: what usually helps, the commonest first.
    """

    message: str
    place: str
    cures: tuple[str, ...]


def failure_of(error: ModelError) -> Failure:
    """What to say of an error of a front end."""
    found = (cures for pattern, cures in _KINDS if re.search(pattern, str(error)))
    return Failure(str(error), error.place or _place(error), next(found, _ELSE))


def _place(error: BaseException) -> str:
    """The innermost line that is neither torch's nor ours, of the error that was first."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return own_line(
        (frame.filename, frame.lineno, frame.line)
        for one in reversed(chain)
        for frame in reversed(traceback.extract_tb(one.__traceback__))
    )


def own_line(lines: Iterable[tuple[str, int | str | None, str | None]]) -> str:
    """The first line that is no tool's, of its file, number and code; empty if each is one's."""
    tools = tuple(_places())
    for file, number, code in lines:
        if not file.startswith(tools):
            return f"{file}:{number}: {code or ''}".rstrip()
    return ""


def _places() -> Iterator[str]:
    """Where the code of the tools is that are loaded, and the frozen modules of Python."""
    yield "<frozen "
    for name in _TOOLS:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file:
            yield f"{Path(file).parent}{os.sep}" if Path(file).stem == "__init__" else file
