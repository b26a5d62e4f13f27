"""`program.toml`: which files the phases of a program are, and how they go together.

name = "policy"                       # optional, the folder's name otherwise
inputs = ["image", "state"]           # optional, what no earlier phase makes otherwise
outputs = ["action"]

[[phase]]
name = "denoise"
file = "denoise.onnx"                 # or denoise.pt2, as vlacut-export writes it
inputs = ["noise", "context"]         # of a .pt2 file: names of its tensors, in order
outputs = ["noise_out"]               # of a .pt2 file
trips = 10                            # optional, 1 otherwise
carried = { noise_out = "noise" }     # optional
when = "reset"                        # optional: in the first step of an episode alone

[state]                               # optional: outputs of a step, inputs of the next
next_h = "h"                          # zeros at first
next_c = { input = "c", initial = "c.npy", name = "cell" }
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomllib

from vlacut.errors import ModelError

_PROGRAM_KEYS = {"name": str, "inputs": list, "outputs": list, "phase": list, "state": dict}
_PHASE_KEYS = {
    "name": str,
    "file": str,
    "trips": int,
    "carried": dict,
    "inputs": list,
    "outputs": list,
    "when": str,
}
_STATE_KEYS = {"input": str, "initial": str, "name": str}


def program_files(path: Path) -> list[Path]:
    """The files of a folder's program, the description first; raises as `folder_program` does."""
    description = read_description(path)
    given = [one for one in description.get("state", {}).values() if isinstance(one, dict)]
    names = [entry["file"] for entry in description["phase"]]
    names += [one["initial"] for one in given if "initial" in one]
    return [path / "program.toml", *(path / name for name in names)]


def read_description(folder: Path) -> Mapping[str, Any]:
    """What `program.toml` of a folder says, checked; raises ModelError naming the key."""
    file = folder / "program.toml"
    if not file.is_file():
        raise ModelError(f"{file}: no such file; a folder needs it to be a program")
    try:
        description = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: {error}") from error
    _check(description, _PROGRAM_KEYS, ("outputs", "phase"), str(file))
    for index, entry in enumerate(description["phase"]):
        where = f"{file}: phase {index + 1}"
        if not isinstance(entry, dict):
            raise ModelError(f"{where} must be a table; write [[phase]]")
        _check(entry, _PHASE_KEYS, ("name", "file"), where)
        _check_names(entry, where)
    for output, fed in description.get("state", {}).items():
        where = f"{file}: state {output}"
        if isinstance(fed, dict):
            _check(fed, _STATE_KEYS, ("input",), where)
        elif not isinstance(fed, str):
            raise ModelError(f"{where} must be the name of an input, or a table; is {fed!r}")
    _check_names(description, str(file))
    return description


def _check_names(table: Mapping[str, Any], where: str) -> None:
    for key in ("inputs", "outputs"):
        if not all(isinstance(name, str) for name in table.get(key, ())):
            raise ModelError(f"{where}: {key} must be a list of names")


def _check(
    table: Mapping[str, Any], keys: Mapping[str, type], needed: Sequence[str], where: str
) -> None:
    for key, value in table.items():
        if key not in keys:
            raise ModelError(f"{where}: unknown key {key}; known: {', '.join(keys)}")
        if type(value) is not keys[key]:
            raise ModelError(f"{where}: {key} must be a {keys[key].__name__}, is {value!r}")
    for key in needed:
        if not table.get(key):
            raise ModelError(f"{where}: {key} is missing")


def inside(folder: Path, name: str, what: str) -> Path:
    """A file of a folder; ModelError, for `what` names it, if it lies elsewhere."""
    file = folder / name
    if not file.resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"{folder}: {what}: {name} is outside the folder")
    return file
