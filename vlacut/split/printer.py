"""The text of a split: its parts with their operators, and the schedule of every variant.

    part main.0 on edge(main/x) -> (main/y)
      %y: float32[1, 8] = MatMul(%x, $w)
    schedule chosen
      run main.0
      send main/y to cloud

What is in the trips of a loop stands under it, with the trips where these are not all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlacut.ir.printer import operator_text
from vlacut.plans.instructions import Instruction, Loop, Move, Run, Transfer, Trips
from vlacut.split.parts import Split
from vlacut.tensor.codec import Codec


def print_split(made: Split, variants: Sequence[str]) -> str:
    """The text of a split, ending in a newline; `variants` are the names of its schedules."""
    return "\n".join(_lines(made, variants)) + "\n"


def _lines(made: Split, variants: Sequence[str]) -> Iterator[str]:
    for part, model in zip(made.parts, made.models, strict=True):
        takes, makes = ", ".join(part.inputs), ", ".join(part.outputs)
        yield f"part {part.name} on {part.side}({takes}) -> ({makes})"
        for node in model.graph:
            yield f"  {operator_text(node)}"
    for name, schedule in zip(variants, made.schedules, strict=True):
        yield f"schedule {name}"
        for item in schedule:
            yield from _instruction(item, "  ")


def _instruction(item: Instruction, indent: str) -> Iterator[str]:
    if isinstance(item, Loop):
        yield f"{indent}loop x {item.trips}"
        for inner in item.body:
            yield from _instruction(inner, indent + "  ")
    else:
        yield indent + _what(item)


def _what(item: Run | Transfer | Move) -> str:
    if isinstance(item, Run):
        return f"run {item.part}"
    when = "" if item.trips is Trips.ALL else f", {item.trips.value}"
    if isinstance(item, Move):
        return f"name {item.source} {item.target} on {' and '.join(map(str, item.sides))}{when}"
    sent = ", ".join(
        key if codec is Codec.NONE else f"{key} as {codec.value}" for key, codec in item.coded
    )
    return f"send {sent} to {item.source.other}{when}"
