"""The text of `--precisions`: `int8,int4,prefill=int8+decode=int4`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from vlacut.errors import InputError
from vlacut.hardware import Side
from vlacut.ir.pipeline import pass_text

# The last three as the literature has them, bits of weights and of activations.
QUANTISED = {
    "int8": {"weights": "int8"},
    "float8e4m3fn": {"weights": "float8e4m3fn"},
    "int4": {"weights": "int4"},
    "w8a8": {"weights": "int8"},
    "w4a16": {"weights": "int4", "activations": "float"},
    "w4a8": {"weights": "int4"},
}
ROUNDING_METHODS = ("gptq", "rtn")  # of the pass `quantise`, for 4 bits
_GROUPED = re.compile(r"(int4|w4a16|w4a8)g(\d+)")  # with the number of inputs that share a scale
_AS_IT_IS = "float"  # which is always there
_SIDES = tuple(side.value for side in (Side.EDGE, Side.CLOUD))
_CONVERTED = ("float16", "bfloat16")
NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


class BySide(NamedTuple):
    """The passes of what runs on each side; empty where it stays as it is."""

    edge: str
    cloud: str


def parse_precisions(
    text: str, rounding: Mapping[str, str] = NO_OPTIONS
) -> dict[str, str | BySide]:
    """The passes of every precision that a text lists, by its name.

    A name is a type, or `PHASE=TYPE` or `SIDE=TYPE` with `+` between; `int4g128` is int4 in groups
    of 128. `float`, on both sides too, is the program as it is. `rounding` are options that every
    `quantise` has. Raises InputError if the text does not parse, or one is there twice.
    """
    found: dict[str, str | BySide] = {}
    for name in filter(None, (item.strip() for item in text.split(","))):
        if name in found:
            raise InputError(f"--precisions {text}: {name} is there twice")
        if name == _AS_IT_IS:
            continue
        made = _by_side(text, name, rounding)
        if made is None:
            found[name] = ",".join(_passes(text, name, rounding))
        elif any(made):
            found[name] = made
    return found


def _by_side(text: str, name: str, rounding: Mapping[str, str]) -> BySide | None:
    """What a name says of each side; None if it speaks of none."""
    asked = [one.partition("=") for one in name.split("+")]
    sides = [side for side, *_ in asked]
    if not set(sides) & set(_SIDES):
        return None
    kinds = dict.fromkeys(_SIDES, _AS_IT_IS) | {side: kind for side, _, kind in asked}
    known = all(kind == _AS_IT_IS or quantise_options(kind) for kind in kinds.values())
    if len(kinds) > len(_SIDES) or len(set(sides)) < len(sides) or not known:
        raise InputError(
            f"--precisions {text}: {name!r} is no precision by side; write "
            f"{' or '.join((_AS_IT_IS, *QUANTISED))} for one side or both: edge=w4a16+cloud=float"
        )
    passes = (
        pass_text("quantise", {**quantise_options(kinds[side]), **rounding})
        if kinds[side] != _AS_IT_IS
        else ""
        for side in _SIDES
    )
    return BySide(*passes)


def _passes(text: str, name: str, rounding: Mapping[str, str]) -> Iterator[str]:
    if name in _CONVERTED:
        options = {"source": "weights", "target": name, "keep": "unsafe"}
        yield pass_text("convert-types", options)
        return
    phases: dict[str, list[str]] = {}
    for one in name.split("+"):
        phase, given, kind = one.rpartition("=")
        if not quantise_options(kind) or bool(given) != bool(phase) or not (phase or name == kind):
            raise InputError(
                f"--precisions {text}: {one!r} is no precision; write "
                f"{', '.join((*QUANTISED, *_CONVERTED))}, or by phase prefill=int8+decode=int4"
            )
        phases.setdefault(kind, []).append(phase)
    for kind, chosen in phases.items():  # one pass a type: phases that share a weight round it once
        options = {**quantise_options(kind), "phases": ";".join(chosen), **rounding}
        yield pass_text("quantise", options)


def quantise_options(kind: str) -> dict[str, str]:
    """The options of the pass `quantise` for a type by its name; none if it is no such type."""
    grouped = _GROUPED.fullmatch(kind)
    if grouped:
        return {**QUANTISED[grouped[1]], "group": grouped[2]}
    return QUANTISED.get(kind, {})
