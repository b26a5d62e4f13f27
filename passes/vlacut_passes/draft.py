"""draft: a loop that says tokens, in one pass over drafts of them; the result stays greedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vlacut.errors import InputError, PassError
from vlacut.ir.annotation import EXAMPLE, NOTES, WEIGHT_PASSES
from vlacut.ir.graphs import value_spec
from vlacut.ir.original import ORIGINAL
from vlacut.ir.phase_roll import Names
from vlacut.ir.program import Program
from vlacut.tensor import TensorSpec
from vlacut.tensor.drafts import INPUT, LAST, parse_draft
from vlacut_passes.drafting.following import following
from vlacut_passes.drafting.greedy import greedy_original
from vlacut_passes.drafting.token_loop import TokenLoop, find_token_loop
from vlacut_passes.drafting.verifying import DraftNames, drafted_phase


@dataclass(frozen=True)
class Draft:
    """Runs a prefill and all trips of a loop that says tokens in one pass, on drafted tokens.

    The loop is one that feeds back its own argmax. Every trip reads a draft in the place of the
    token before it; so its products do not wait for one another, and `pack` reads their weights
    once. The drafts from the first on that are what the loop says are right, and what their trips
    made is kept; from the first wrong one on the loop goes on trip by trip (an If and a Loop of
    ONNX, so nothing of it is the runtime's). The tokens are the greedy ones whatever is drafted,
    within the executor's rounding over numbers of rows: a product of many rows may be summed in
    another order than one of a single row, which decides between words that are as good as equal.

    Attributes:
        source: where drafts come from, see `vlacut.tensor.drafts`: `last`, `velocity`, `kalman` and
            `chunk` make them of the tokens said before, which are state; `input` is an input
            `draft` [trips, shape of the token] that the caller gives.
        loop: name of the phase; empty for the only such loop.
        right: how many drafts from the first on are right, on average, from 0 to all trips; the
            price of a step has the other trips again.
        count: whether the action also has `accepted`, how many drafts were right.

    Raises PassError where there is no such loop, or no phase right before it makes its first token.
    """

    name: ClassVar[str] = "draft"
    source: str = LAST
    loop: str = ""
    right: float = 0.0
    count: bool = False

    def run(self, program: Program) -> None:
        """See `vlacut.ir.pipeline.Pass`."""
        try:
            source = parse_draft(self.source)
        except InputError as error:
            raise PassError(f"draft: {error}") from error
        found = find_token_loop(program, self.loop)
        trips = found.loop.trips
        if not 0 <= self.right <= trips:
            raise PassError(
                f"draft: {self.right:g} of {trips} drafts are right; write 0 to {trips}"
            )
        known, name = Names(program), f"{found.prefill.name}_{found.loop.name}"
        fresh = (known.free(one) for one in (name, "draft", "said_tokens", "accepted"))
        names = DraftNames(*fresh)
        follow = following(source, known, names.draft, names.said)
        left = trips - self.right
        phase = drafted_phase(found, names, found.read_after(program), left, follow)
        before, said = program.phases, names.said
        original = ORIGINAL.find(program)
        program.phases = (*before[: found.index - 1], phase, *before[found.index + 1 :])
        if self.count:
            program.outputs = (*program.outputs, TensorSpec(names.accepted, "int64", ()))
        program.state = (*program.state, *follow.states)
        if source.kind == INPUT:
            self._feed(program, found, names.draft)
        WEIGHT_PASSES.put(program, 1)
        if original is not None:
            ORIGINAL.put(program, lambda: greedy_original(original(), before, found, said))
        note = (
            f"phase {phase.name}: {found.loop.trips} trips of {found.loop.name} read drafts, and "
            f"run again from the first wrong one on"
        )
        NOTES.put(program, (*(NOTES.find(program) or ()), note))

    def _feed(self, program: Program, found: TokenLoop, draft: str) -> None:
        """Let the caller give the drafts."""
        like = value_spec(found.value)
        spec = TensorSpec(draft, like.dtype, (found.loop.trips, *like.shape))
        program.inputs = (*program.inputs, spec)
        example = dict(EXAMPLE.find(program) or {})
        if example:
            zeros = np.zeros(spec.numpy_shape, spec.numpy_dtype)
            EXAMPLE.put(program, {**example, draft: zeros})
