"""in-flight: a control step in which several requests are each a stage further."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vlacut.errors import PassError, suggestion
from vlacut.ir.annotation import NOTES, WARMING, WEIGHT_PASSES
from vlacut.ir.graphs import value_spec
from vlacut.ir.original import ORIGINAL, PLAIN, Original, note
from vlacut.ir.program import Phase, Program, copied
from vlacut_passes.pipelining.course import course_of
from vlacut_passes.pipelining.program import InFlightProgram


@dataclass(frozen=True)
class InFlight:
    """Overlaps the requests of successive control steps, so that `pack` reads weights once for all.

    In a control step the newest request is prefilled while every older one runs its next trips of
    the loop; the action that comes out is the oldest one's. So there are more actions a second, and
    each answers an older observation: requests - 1 steps old. What is in flight is state of the
    program, which a reset drops. The action of a step equals what the program makes of that
    request's observation alone, within the executor's rounding over numbers of rows.

    With fewer requests a step has more passes over the weights: the fewest that suffice, see
    `pipelining.course`. The prefill is in the first pass if it shares weights with the loop.

    Attributes:
        requests: most that are in flight.
        loop: name of the phase; empty for the only one with trips.

    Raises PassError for a number of requests that the loop cannot have, where there is no such
    loop, or several, and for a program that remembers: its next step waits for this one's end.
    """

    name: ClassVar[str] = "in-flight"
    requests: int = 2
    loop: str = ""

    def run(self, program: Program) -> None:
        """See `vlacut.ir.pipeline.Pass`."""
        if program.state:
            raise PassError(
                f"the next step waits for what this one leaves: state {program.state[0].name}; "
                f"requests cannot overlap"
            )
        index = self._index(program)
        loop = program.phases[index]
        prefilled = index > 0 and _shares_weights(program.phases[index - 1], loop)
        plain = copied(program)
        course = course_of(loop.trips, self.requests, prefilled)
        made = InFlightProgram(program, index, course)
        program.phases = made.phases
        program.state = made.states
        WARMING.put(program, course.ticks - 1)
        WEIGHT_PASSES.put(program, course.more + 1)
        PLAIN.put(program, plain)
        if ORIGINAL.find(program) is not None:
            why = "with requests in flight a step's action is of an earlier observation"
            note(program, Original("the model", why_not=why))
        line = (
            f"{course.ticks} requests in flight, {course.more + 1} passes over the weights of "
            f"{loop.name} a step: an action answers the observation {course.ticks - 1} steps before"
        )
        NOTES.put(program, (*(NOTES.find(program) or ()), line))

    def _index(self, program: Program) -> int:
        loops = [phase.name for phase in program.phases if phase.trips > 1 and not phase.on_reset]
        name = self.loop or (loops[0] if len(loops) == 1 else "")
        if name in loops:
            return [phase.name for phase in program.phases].index(name)
        if self.loop:
            raise PassError(f"no phase {self.loop!r} has trips; {suggestion(self.loop, loops)}")
        raise PassError(
            f"in-flight overlaps the trips of one loop; the program has {len(loops)}: "
            f"{', '.join(loops) or 'no phase has trips'}; name one with loop="
        )


def _shares_weights(before: Phase, loop: Phase) -> bool:
    """Whether the phase before a loop runs once, and reads matrices that the loop reads too."""
    if before.trips > 1 or before.on_reset:
        return False
    one, other = before.model.graph, loop.model.graph
    if dict(one.opset_imports) != dict(other.opset_imports):
        return False
    shared = one.initializers.keys() & other.initializers.keys()
    return any(len(value_spec(one.initializers[name]).shape) > 1 for name in shared)
