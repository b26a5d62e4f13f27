"""Local execution: a cut program run in one place, to measure what codecs do to its action.

A back end on this machine runs the parts that `vlacut.split.parts` makes. The runtime's codecs
encode and decode a tensor that crosses in coded form. So the measured action is the one that both
sides would compute.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vlacut.hardware import Side
from vlacut.plans.instructions import Move, Run, Transfer, steps
from vlacut.runtime.wire.codecs import coder_of
from vlacut.split.parts import Split
from vlacut.split.workshop import Workshop
from vlacut.tensor import TensorSpec
from vlacut.tensor.codec import Codec

Codecs = Mapping[str, Codec]


class LocalExecution:
    """A cut with its engines; walks the schedule of both sides.

    Args:
        made: the cut, carried out.
        workshop: makes the engines of its parts.
    """

    def __init__(self, made: Split, workshop: Workshop) -> None:
        self._first, self._schedule = made.firsts[0], made.schedule
        self._part = {part.name: part for part in made.parts}
        self._spec = {spec.name: spec for spec in made.tensors}
        pairs = zip(made.parts, made.models, strict=True)
        self._engines = {part.name: workshop.engine(part.name, model) for part, model in pairs}

    def begin(self, initial: Mapping[str, np.ndarray]) -> None:
        """Begin an episode."""
        self._held = {side: dict(initial) for side in Side}
        self._begun = False

    def run(
        self, observation: Mapping[str, np.ndarray], codecs: Codecs
    ) -> Mapping[str, np.ndarray]:
        """All tensors after the next control step of the episode, by key; the edge's, where both
        sides have one.
        """
        held = self._held
        held[Side.EDGE] |= observation
        for step in steps(self._schedule if self._begun else (*self._first, *self._schedule)):
            self._do(step.instruction, held, codecs)
        self._begun = True
        return {**held[Side.CLOUD], **held[Side.EDGE]}

    def _do(
        self,
        instruction: Run | Transfer | Move,
        held: Mapping[Side, dict[str, np.ndarray]],
        codecs: Codecs,
    ) -> None:
        if isinstance(instruction, Run):
            part = self._part[instruction.part]
            mine = held[part.side]
            mine |= self._engines[part.name].run({key: mine[key] for key in part.inputs})
        elif isinstance(instruction, Transfer):
            for key in instruction.tensors:
                array = held[instruction.source][key]
                codec = codecs.get(key, Codec.NONE)
                held[instruction.source.other][key] = _over(array, codec, self._spec[key])
        else:
            for side in instruction.sides:
                held[side][instruction.target] = held[side][instruction.source]


def _over(array: np.ndarray, codec: Codec, spec: TensorSpec) -> np.ndarray:
    """What arrives of a tensor."""
    if codec is Codec.NONE:
        return array
    coder = coder_of(codec, spec)
    wire, arrived = np.empty(coder.nbytes, np.uint8), np.empty(array.shape, array.dtype)
    nbytes = coder.encode(np.require(array, requirements="C"), wire)
    coder.decode(wire[:nbytes], arrived)
    return arrived
