"""The text of `--precisions`: `int8,int4,prefill=int8+decode=int4`."""

from __future__ import annotations

from collections.abc import Iterator

from vlacut.errors import InputError
from vlacut.ir.pipeline import pass_text

_QUANTISED = ("int8", "float8e4m3fn", "int4")
_CONVERTED = ("float16", "bfloat16")


def parse_precisions(text: str) -> dict[str, str]:
    """The passes of every precision that a text lists, by its name.

    A name is a type, or `PHASE=TYPE` with `+` between. Raises InputError if it does not parse, or
    one is there twice.
    """
    found: dict[str, str] = {}
    for name in filter(None, (item.strip() for item in text.split(","))):
        if name in found:
            raise InputError(f"--precisions {text}: {name} is there twice")
        found[name] = ",".join(_passes(text, name))
    return found


def _passes(text: str, name: str) -> Iterator[str]:
    if name in _CONVERTED:
        options = {"source": "weights", "target": name, "keep": "unsafe"}
        yield pass_text("convert-types", options)
        return
    phases: dict[str, list[str]] = {}
    for one in name.split("+"):
        phase, given, kind = one.rpartition("=")
        if kind not in _QUANTISED or bool(given) != bool(phase) or not (phase or name == kind):
            raise InputError(
                f"--precisions {text}: {one!r} is no precision; write "
                f"{', '.join((*_QUANTISED, *_CONVERTED))}, or by phase prefill=int8+decode=int4"
            )
        phases.setdefault(kind, []).append(phase)
    for kind, chosen in phases.items():  # one pass a type: phases that share a weight round it once
        yield pass_text("quantise", {"weights": kind, "phases": ";".join(chosen)})
