"""Which weights stay exact in 4 bits: chosen by the error of the action, beside a fixed list.

    python tools/exact_layers.py [MODEL ...]

For the tiny models of the zoo, rounded by GPTQ over eight observations. The list is the usual one:
products outside repeated blocks (patches, projector, head) and the first and the last block of each
row of three or more (most rows of tiny models have two), by the names that `annotate-structure`
gives them. The choice by measurement (`quantise{error=...}`) may move the action as far as that
list does, on what both are rounded by. Printed are the bytes of all weights over those in float32,
and how far the action moves on eight observations of which rounding has seen the example alone,
median and largest, as the back end onnxruntime runs it. No figure depends on the machine's speed.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict

import numpy as np
import onnxruntime as ort
from rich.console import Console
from rounding_error import compare

from vlacut import registry
from vlacut.frontends.load import load_program
from vlacut.ir.annotation import STRUCTURE
from vlacut.ir.graphs import value_spec
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Program, copied
from vlacut.tensor.numerics import relative_difference
from vlacut_passes.quantising.observing import Observed, observations
from vlacut_passes.quantising.products import products

SEEN = 8  # observations that weights are rounded by, the example among them
SMALLEST = 4096  # elements of a weight that is rounded, as `quantise` has it
ROUND = f"quantise{{weights=int4 activations=float observations={SEEN}"


def main() -> None:
    """Print rows of every model as they come."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*")
    chosen = parser.parse_args().models
    out = Console(width=100)
    for model in chosen or [f"{name}:tiny" for name in registry.names("models")]:
        plain = load_program(model)
        parse_pipeline("simplify,annotate-structure").run(plain)
        listed = fixed_list(plain)
        none = rounded(plain, "")
        fixed = rounded(plain, f" exact={';'.join(listed)}")
        moved = seen_error(plain, fixed)
        if not moved:  # no bound for the other, which would be none at all
            out.print(f"{model}: the list leaves nothing to round")
            continue
        measured = rounded(plain, f" error={moved * 1.0001:.6g}")  # it is said in six digits
        for way, made in (("none", none), ("list", fixed), ("measured", measured)):
            errors, _ = compare(plain, made)
            share = stored(made) / stored(plain)
            said = f"{share:.1%} of the bytes, action {np.median(errors):.3g}, {max(errors):.3g}"
            seen = f"on what it is rounded by {seen_error(plain, made):.3g}"
            out.print(f"{model} {way}: {said}; {seen}", soft_wrap=True)


def rounded(plain: Program, options: str) -> Program:
    """A copy in 4 bits."""
    made = copied(plain)
    parse_pipeline(f"{ROUND}{options}}}").run(made)
    return made


def fixed_list(program: Program) -> list[str]:
    """Names of weights outside repeated blocks, and in the first and last block of each row."""
    places: dict[str, tuple[str, int] | None] = {}
    rows: dict[str, list[int]] = defaultdict(list)
    for phase in program.phases:
        for one in products(phase.model.graph, SMALLEST):
            found = re.fullmatch(r"(.*)\.(\d+)", STRUCTURE.get(one.node).block)
            row = (found[1], int(found[2])) if found and _repeats(found[1]) else None
            places[one.name] = row
            if row:
                rows[row[0]].append(row[1])
    ends = {
        (row, end)
        for row, listed in rows.items()
        for end in (min(listed), max(listed))
        if len(set(listed)) > 2  # else all of it would stay
    }
    return [name for name, place in places.items() if place is None or place in ends]


def _repeats(row: str) -> bool:
    """Whether a row is of blocks of a transformer; a projector's products are numbered, too."""
    return row.endswith(("layers", "blocks"))


def seen_error(plain: Program, made: Program) -> float:
    """How far the action moves at most on what weights are rounded by."""
    exact, other = Observed(plain), Observed(made)
    return max(
        relative_difference(other.step(one), exact.step(one)) for one in observations(plain, SEEN)
    )


def stored(program: Program) -> int:
    """Bytes of all weights, each once."""
    weights = {
        name: value_spec(value).nbytes
        for phase in program.phases
        for name, value in phase.model.graph.initializers.items()
    }
    return sum(weights.values())


if __name__ == "__main__":
    ort.set_default_logger_severity(3)
    main()
