"""The inference in flight, and the chunk that comes of it: what is taken over, and what is not."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from vlacut.control.inferring.inference import Answer, Inference, Runner
from vlacut.control.signals.entropy import entropy_of
from vlacut.control.situation import Seam
from vlacut.control.ways.chunk import Chunk, ChunkReader
from vlacut.control.ways.playing import Playing, own_command
from vlacut.errors import InputError
from vlacut.runtime.edge.report import StepReport

_PAUSE_NS = 100_000_000  # after an inference that failed

FAILED, NO_NEWER, OVER, SUPERSEDED = "failed", "no newer", "over when it came", "superseded"


class Arrivals:
    """Takes what the runner made, and hands its chunk to the way of playing.

    Args:
        reader: reads the chunk.
        runner: makes inferences.
        playing: plays the chunks.
        counts: whether a chunk is entered after the commands executed since its observation.
        entropy: name of the policy's output that tells how unsure it is; empty for none.

    Attributes:
        in_flight: the inference that is being made, and when it was asked for, in ns; None if none.
        superseded: whether its chunk is not to be used.
        dropped: why the chunk of the last `take` is not in force; empty if it is, or none came.
        error: why the last inference failed; empty if it did not.
        entropy: of the newest chunk, in nats; None if the policy tells none.
        seam: between the newest chunk and the one before; None if they did not meet.
        not_before_ns: nothing is to be asked for earlier.
    """

    def __init__(
        self, reader: ChunkReader, runner: Runner, playing: Playing, counts: bool, entropy: str
    ) -> None:
        self._reader, self._runner, self._playing = reader, runner, playing
        self._counts, self._entropy_of = counts, entropy
        self.in_flight: tuple[Inference, int] | None = None
        self.reset()

    def reset(self) -> None:
        """Begin another episode: the chunk of what is in flight is not used in it."""
        self._steps: dict[int, StepReport | None] = {}
        self.entropy: float | None = None
        self.seam: Seam | None = None
        self.superseded = self.in_flight is not None
        self.not_before_ns = -math.inf
        self.dropped = self.error = ""

    def started(self, inference: Inference, now_ns: int) -> None:
        """An inference has begun."""
        self.in_flight, self.superseded = (inference, now_ns), False

    def step(self, number: int) -> StepReport | None:
        """The session's report of the inference of a number; None if it is not the newest."""
        return self._steps.get(number)

    def poll(self, now_ns: int, ticks: int) -> None:
        """Take what is there by a tick; `ticks` is its number. Raises what `Runner.answer` does,
        after which the next inference may be asked for.
        """
        self.dropped = ""
        try:
            answer = self._runner.answer(now_ns)
        except BaseException:
            self.in_flight, self.superseded = None, False
            self.not_before_ns = now_ns + _PAUSE_NS
            raise
        if answer is not None:
            self.take(answer, now_ns, ticks)

    def take(self, answer: Answer, now_ns: int, ticks: int) -> None:
        """An inference has ended: its chunk is in force from now on, unless something forbids."""
        superseded, self.superseded, self.in_flight = self.superseded, False, None
        self.error = answer.error
        if superseded:
            self.dropped = SUPERSEDED
        elif answer.action is None:
            self.dropped, self.not_before_ns = FAILED, now_ns + _PAUSE_NS
        else:
            self.dropped = self._adopt(answer, answer.action, now_ns, ticks)

    def _adopt(
        self, answer: Answer, action: Mapping[str, np.ndarray], now_ns: int, ticks: int
    ) -> str:
        """Why the chunk cannot be used; empty if it is in force now."""
        newest, inference = self._playing.newest, answer.inference
        if newest is not None and answer.captured_ns <= newest.captured_ns:
            return NO_NEWER
        try:
            commands = self._reader.read(action[self._reader.spec.output], inference.observation)
        except InputError as error:
            self.error, self.not_before_ns = str(error), now_ns + _PAUSE_NS
            return FAILED
        chunk = Chunk(
            inference.number,
            commands,
            answer.captured_ns,
            now_ns,
            inference.tick,
            answer.variant,
            answer.source,
        )
        if not self._playing.adopt(chunk, now_ns, ticks - inference.tick if self._counts else None):
            return OVER
        self.seam = None if newest is None else self._seam(newest, chunk, now_ns)
        self._steps = {inference.number: answer.step}
        if self._entropy_of:
            self.entropy = entropy_of(action[self._entropy_of])
        return ""

    def _seam(self, old: Chunk, new: Chunk, now_ns: int) -> Seam | None:
        """What two chunks have for now; None where one of them has nothing."""
        period_ns = max(1, round(self._reader.spec.period_s * 1e9))
        before, after = (own_command(one, now_ns, period_ns) for one in (old, new))
        if before is None or after is None:
            return None
        gap_s = (new.captured_ns - old.captured_ns) * 1e-9
        return Seam(new.number, gap_s, np.abs(after - before))
