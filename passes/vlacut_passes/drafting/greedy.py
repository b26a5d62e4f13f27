"""What a program came from, made to say which tokens its trips read: drafts are held to that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from vlacut.ir.original import Numbers, Original, Runner
from vlacut.ir.program import Phase
from vlacut_passes.drafting.token_loop import TokenLoop


def greedy_original(
    original: Original, phases: tuple[Phase, ...], found: TokenLoop, said: str
) -> Original:
    """The original run as a whole, trip by trip; `said` names the tokens that its trips read."""
    if not original.phases:
        return original
    return replace(original, phases={}, step=_step(original, phases, found, said))


def _step(original: Original, phases: tuple[Phase, ...], found: TokenLoop, said: str) -> Runner:
    course = [(phase.name, phase.trips, dict(phase.carried), phase.input_names) for phase in phases]

    def run(given: Mapping[str, np.ndarray]) -> Numbers:
        held: Numbers = dict(given)
        for name, trips, carried, inputs in course:
            fed = {one: held[one] for one in inputs}
            tokens = []
            for _ in range(trips):
                tokens.append(fed.get(found.token))
                made = original.phases[name](fed)
                fed |= {read: made[output] for output, read in carried.items()}
            held |= made
            if name == found.loop.name:
                held[said] = np.stack([one for one in tokens if one is not None])
        return held

    return run
