"""real-time-chunking: a denoise loop that continues the chunk in force."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from vlacut.control.rtc import GUIDANCE, GUIDED, MODES, PREV_CHUNK, WEIGHTS
from vlacut.errors import PassError, suggestion
from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.program import Program
from vlacut_passes.chunking.loop import Loop
from vlacut_passes.chunking.undoing import behind


@dataclass(frozen=True)
class RealTimeChunking:
    """Adds inputs by which a loop that carries a chunk from noise to actions heeds another chunk.

    `guided`: after every step x -> y of the loop, as in real-time chunking without its backward
    pass (Black et al., arXiv 2506.07339; what LeRobot ships is elementwise),

        y' = y + gain w (prev_chunk - (x + left (y - x)))     where w is not 0, else y

    where x + left (y - x) is where the loop would end if it went on as in this step: `left` is how
    many steps are left, this one included. `prefix_weights` [T] are w, along time; `guidance` has
    gain and left of every step [trips, 2].

    `prefix`: where w is above 0 the chunk is `prev_chunk` in every step, as training-time
    real-time chunking has it (arXiv 2512.05964); `time` names an input of the loop that holds a
    time for every command, [1, T], which is 0 there.

    The chunk is given as the program's output has it. Where phases behind the loop cut it, or take
    it to the robot's units, the loop undoes that first, see `chunking.undoing`.

    With weights of 0 the bits are those of the program as it was. All of it is elementwise on the
    chunk, so that it is wherever the loop is; `vlacut.control.rtc` makes these inputs on the robot.

    Attributes:
        mode: `guided` or `prefix`.
        output: of the program, that is the chunk; its first, if empty.
        axis: of time; the one before the last if -1.
        time: see above; none if empty.

    Raises PassError where no loop carries the output, what is behind it cannot be undone, or an
    input of such a name is there already.
    """

    name: ClassVar[str] = "real-time-chunking"
    mode: str = GUIDED
    output: str = ""
    axis: int = -1
    time: str = ""

    def run(self, program: Program) -> None:
        """See `vlacut.ir.pipeline.Pass`."""
        if self.mode not in MODES:
            raise PassError(f"real-time-chunking has the modes {', '.join(MODES)}, not {self.mode}")
        names = [spec.name for spec in program.outputs]
        output = self.output or names[0]
        if output not in names:
            raise PassError(f"the program has no output {output!r}; {suggestion(output, names)}")
        made = behind(program, output)
        phase = program.phases[made.phase]
        taken = {spec.name for spec in program.inputs}
        for other in program.phases:
            taken.update(other.input_names, other.output_names)
        clash = taken.intersection((PREV_CHUNK, WEIGHTS, GUIDANCE, f"{GUIDANCE}.next"))
        if clash:
            raise PassError(f"the program has a tensor {sorted(clash)[0]} already")
        loop = Loop(program, output, made, self.axis)
        carried = dict(phase.carried)
        if self.mode == GUIDED:
            specs = loop.guide()
            carried[f"{GUIDANCE}.next"] = GUIDANCE
        else:
            specs = loop.fix(self.time)
        phases = list(program.phases)
        phases[made.phase] = replace(phase, carried=carried)
        program.phases = tuple(phases)
        program.inputs = (*program.inputs, *specs)
        # An example without a chunk in force: what is measured on it is the program as it was.
        nothing = {one.name: np.zeros(one.numpy_shape, one.numpy_dtype) for one in specs}
        EXAMPLE.put(program, {**(EXAMPLE.find(program) or {}), **nothing})
