"""What is in a .pt2 file, looked at before torch opens it: loading must not run code.

`torch.export.load` unpickles what the file marks as pickled, evaluates the expressions of its
dynamic shapes, and calls the functions that its nodes name. So what is pickled is refused, an
expression must be arithmetic on symbols, and a function must be an operator.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlacut.errors import ModelError

_OPERATOR = re.compile(
    r"torch\.ops\.[a-z]\w*\.\w+(\.\w+)?|_operator\.[a-z]\w*|math\.[a-z]\w*|torch\.sym_\w+"
)
_WORD = re.compile(r"[A-Za-z_]\w*")
_SYMBOL = re.compile(r"[a-z]{1,3}\d+|int_oo|oo|True|False")
_FUNCTIONS = frozenset(
    (
        *("Abs", "Add", "CeilDiv", "CeilToInt", "Eq", "FloorDiv", "FloorToInt", "Ge", "Gt"),
        *("IntTrueDiv", "Integer", "Le", "Lt", "Max", "Min", "Mod", "ModularIndexing", "Mul"),
        *("Ne", "Pow", "PowByNatural", "PythonMod", "Rational", "RoundToInt", "ToFloat"),
        *("TruncToInt", "Where"),
    )
)
_DECLARED = re.compile(r"Symbol\('([a-z]{1,3}\d+)'(, [a-z]+=(True|False))*\)")
_EXPRESSION = re.compile(r"[\w\s+\-*/%(),<>=&|~]*")


def check_archive(path: Path) -> None:
    """Raise ModelError unless a file is what torch.export.save writes, and is data alone."""
    configs, model = _read(path)
    for config in configs:
        for name, entry in config.get("config", {}).items():
            if entry.get("use_pickle", True):
                raise ModelError(
                    f"{path}: {name} is a pickled object, which may run code when loaded; "
                    f"only plain tensors can be read"
                )
    for key, text in _strings(model):
        allowed = {"target": _is_operator, "expr_str": _is_arithmetic}.get(key)
        if allowed is not None and not allowed(text):
            raise ModelError(f"{path}: {key} {text[:60]!r} may run code when loaded")


def _read(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The tensor tables and the graph of an archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            files = {name.partition("/")[2]: name for name in archive.namelist()}
            tables = [
                json.loads(archive.read(name))
                for short, name in files.items()
                if short.endswith(("_weights_config.json", "_constants_config.json"))
            ]
            model = (
                archive.read(files["models/model.json"]) if "models/model.json" in files else b""
            )
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ModelError(f"{path}: is no saved torch.export program, or is cut short") from error
    if not model:
        raise ModelError(
            f"{path}: holds no program of torch 2.8 or later; save it with torch.export.save"
        )
    if any(short.startswith("data/aotinductor/") for short in files):
        raise ModelError(f"{path}: holds machine code; save it with torch.export.save")
    return tables, json.loads(model)


def _strings(tree: Any) -> Iterator[tuple[str, str]]:
    """Every string that has a key, with the key."""
    stack = [tree]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            yield from ((key, value) for key, value in item.items() if isinstance(value, str))
            stack.extend(item.values())


def _is_operator(text: str) -> bool:
    return _OPERATOR.fullmatch(text) is not None


def _is_arithmetic(text: str) -> bool:
    text = _DECLARED.sub(r"\1", text)
    words = _WORD.findall(text)
    plain = all(_SYMBOL.fullmatch(word) or word in _FUNCTIONS for word in words)
    called = re.findall(r"([\w)]+)\s*\(", text)
    return (
        _EXPRESSION.fullmatch(text) is not None
        and plain
        and all(word in _FUNCTIONS for word in called)
    )
