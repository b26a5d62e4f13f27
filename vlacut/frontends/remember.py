"""Inputs and outputs of a program that are its state: what a caller would hand back by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vlacut.errors import ModelError, suggestion
from vlacut.ir.program import Program
from vlacut.ir.state import State
from vlacut.tensor import TensorSpec

AUTO = "auto"
# What an output is called that is fed back, and the input it is fed to; X is what they share.
_PAIRS = (
    ("next_{}", "{}"),
    ("next.{}", "{}"),
    ("{}_out", "{}_in"),
    ("present.{}", "past.{}"),
    ("present.{}", "past_key_values.{}"),
)


def remember(program: Program, pairs: Mapping[str, str]) -> None:
    """Make outputs and inputs of a program its state, in place: they are no longer in the action
    and the observation. At first they are zeros.

    Raises ModelError for a name that is no such output or input, or a pair that is not alike.
    """
    made = {spec.name: spec for spec in program.outputs}
    given = {spec.name: spec for spec in program.inputs}
    for output, fed in pairs.items():
        for what, name, known in (("output", output, made), ("input", fed, given)):
            if name not in known:
                raise ModelError(
                    f"{program.name}: state {output}={fed}: it has no {what} {name}; "
                    f"{suggestion(name, known)}"
                )
    states = tuple(State(output, fed) for output, fed in pairs.items())
    program.keep(states)


def parse_state(program: Program, asked: Sequence[str]) -> dict[str, str]:
    """Outputs and the inputs that they are fed to, of items `OUTPUT=INPUT`, or `auto`.

    Raises ModelError for one that does not parse, an output or input that is named twice, or where
    `auto` finds nothing.
    """
    pairs: dict[str, str] = {}
    for item in asked:
        output, is_pair, fed = item.partition("=")
        if item == AUTO:
            found = dict(_alike(program))
            if not found:
                raise ModelError(
                    f"{program.name}: --state auto finds no pair like next_X and X, X_out and X_in "
                    f"or present.X and past.X of one type and shape; write --state OUTPUT=INPUT"
                )
        elif not (output and is_pair and fed):
            raise ModelError(f"--state {item}: write OUTPUT=INPUT, e.g. next_h=h, or auto")
        else:
            found = {output: fed}
        for one, other in found.items():
            if pairs.get(one, other) != other or (one not in pairs and other in pairs.values()):
                raise ModelError(
                    f"--state {one}={other}: two outputs for one input, or one output for two"
                )
            pairs[one] = other
    return pairs


def _alike(program: Program) -> Iterator[tuple[str, str]]:
    """Pairs that are named as state is, and of one type and shape; each tensor once."""
    given = {spec.name: spec for spec in program.inputs}
    for spec in program.outputs:
        for output, fed in _PAIRS:
            start, _, end = output.partition("{}")
            if not (spec.name.startswith(start) and spec.name.endswith(end)):
                continue
            shared = spec.name[len(start) : len(spec.name) - len(end)]
            other = given.get(fed.format(shared))
            if shared and other is not None and _same(spec, other):
                del given[other.name]
                yield spec.name, other.name
                break


def _same(one: TensorSpec, other: TensorSpec) -> bool:
    return (one.dtype, one.shape) == (other.dtype, other.shape)
