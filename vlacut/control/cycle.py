"""The cycle of a control loop: tick after tick, pure of clocks and threads.

`ControlLoop` gives it the time and a thread that makes inferences; simulations give it theirs.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from vlacut.control.executors import Executor, InForce
from vlacut.control.inferring.inference import Answer, Inference, Outlook, Runner
from vlacut.control.report import CommandReport, Route
from vlacut.control.signals.ahead import announced
from vlacut.control.signals.entropy import entropy_of
from vlacut.control.situation import (
    STILL,
    Buffered,
    Coming,
    Controller,
    Keep,
    Motion,
    Request,
    Seam,
    Situation,
)
from vlacut.control.ways.chunk import Chunk, ChunkReader
from vlacut.control.ways.playing import Due, Playing, own_command
from vlacut.control.ways.starving import Starving
from vlacut.errors import InputError
from vlacut.runtime.edge.report import StepReport

_REMEMBERED_S = 2.0  # of executed commands
_PAUSE_NS = 100_000_000  # after an inference that failed

FAILED, NO_NEWER, OVER, SUPERSEDED = "failed", "no newer", "over when it came", "superseded"


class Cycle:
    """Decides, asks, and plays.

    Args:
        reader: reads the chunk.
        runner: makes inferences.
        routes: one per variant.
        executor, playing, controller, starving: see their modules.
        period_s: seconds per tick.
        entropy: name of the policy's output that tells how unsure it is; empty for none.

    Attributes:
        error: why the last inference failed; empty if it did not.
    """

    def __init__(
        self,
        reader: ChunkReader,
        runner: Runner,
        routes: Sequence[Route],
        executor: Executor,
        playing: Playing,
        controller: Controller,
        starving: Starving,
        period_s: float,
        entropy: str = "",
    ) -> None:
        self._reader, self._runner, self._routes = reader, runner, routes
        self._executor, self._playing, self._controller = executor, playing, controller
        self._starving, self._period_s, self._entropy_of = starving, period_s, entropy
        self._executed: deque[np.ndarray] = deque(maxlen=2 + round(_REMEMBERED_S / period_s))
        self._ticks = self._asked = 0
        self._in_flight: tuple[Inference, int] | None = None
        self.reset()

    def reset(self) -> None:
        """Begin another episode: earlier commands are not played, and chunks under way not used."""
        self._playing.reset()
        self._controller.reset()
        self._executed.clear()
        self._steps: dict[int, StepReport | None] = {}
        self._due: Due | None = None
        self._entropy: float | None = None
        self._seam: Seam | None = None
        self._last_ns: int | None = None
        self._asked_ns: int | None = None
        self._superseded = self._in_flight is not None
        self._pending: Request | None = None
        self._not_before_ns = -math.inf
        self._dropped = self.error = ""

    @property
    def newest(self) -> Chunk | None:
        """The chunk in force; None before the first."""
        return self._playing.newest

    def tick(
        self,
        observation: Mapping[str, np.ndarray],
        now_ns: int,
        captured_ns: int,
        motion: Motion = STILL,
    ) -> CommandReport:
        """One tick: the command that is due, and the report of it.

        Args:
            observation: checked; copied where it is needed for longer.
            now_ns: the time, not before that of the tick before.
            captured_ns: when the observation was captured, on the same clock.
            motion: what was sensed since the tick before.
        """
        self._dropped = ""
        if (answer := self._runner.answer(now_ns)) is not None:
            self._take(answer, now_ns)
        outlook = self._runner.outlook(now_ns)
        situation = self._situation(now_ns, motion, outlook)
        decision = self._controller.decide(situation)
        asked = self._act(decision, observation, captured_ns, outlook, now_ns)
        report = self._play(now_ns, asked, decision.why, motion)
        self._ticks, self._last_ns = self._ticks + 1, now_ns
        return report

    def prime(self, answer: Answer, now_ns: int) -> None:
        """Take the chunk of an inference that was made before the first tick."""
        self._in_flight, self._superseded = (answer.inference, now_ns), False
        self._take(answer, now_ns)

    def first(self, observation: Mapping[str, np.ndarray], now_ns: int) -> Inference:
        """What to ask for before the first tick."""
        in_force = InForce(self._playing.rest(now_ns), 0)
        given = self._executor.observed(observation, self._reader, in_force)
        return Inference(self._next_number(), given, now_ns, self._ticks, None, "first")

    def _next_number(self) -> int:
        self._asked += 1
        return self._asked - 1

    def _take(self, answer: Answer, now_ns: int) -> None:
        """An inference has ended: its chunk is in force from now on, unless something forbids."""
        superseded, self._superseded, self._in_flight = self._superseded, False, None
        self.error = answer.error
        if superseded:
            self._dropped = SUPERSEDED
        elif answer.action is None:
            self._dropped, self._not_before_ns = FAILED, now_ns + _PAUSE_NS
        else:
            self._dropped = self._adopt(answer, answer.action, now_ns)

    def _adopt(self, answer: Answer, action: Mapping[str, np.ndarray], now_ns: int) -> str:
        """Why the chunk cannot be used; empty if it is in force now."""
        newest, inference = self._playing.newest, answer.inference
        if newest is not None and answer.captured_ns <= newest.captured_ns:
            return NO_NEWER
        try:
            commands = self._reader.read(action[self._reader.spec.output], inference.observation)
        except InputError as error:
            self.error, self._not_before_ns = str(error), now_ns + _PAUSE_NS
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
        counted = self._ticks - inference.tick if self._executor.counts else None
        if not self._playing.adopt(chunk, now_ns, counted):
            return OVER
        self._seam = None if newest is None else self._seam_of(newest, chunk, now_ns)
        self._steps = {inference.number: answer.step}
        if self._entropy_of:
            self._entropy = entropy_of(action[self._entropy_of])
        return ""

    def _seam_of(self, old: Chunk, new: Chunk, now_ns: int) -> Seam | None:
        """What two chunks have for now; None where one of them has nothing."""
        period_ns = max(1, round(self._reader.spec.period_s * 1e9))
        before, after = (own_command(one, now_ns, period_ns) for one in (old, new))
        if before is None or after is None:
            return None
        gap_s = (new.captured_ns - old.captured_ns) * 1e-9
        return Seam(new.number, gap_s, np.abs(after - before))

    def _situation(self, now_ns: int, motion: Motion, outlook: Outlook) -> Situation:
        tick_s = self._period_s if self._last_ns is None else (now_ns - self._last_ns) * 1e-9
        left_s, newest = self._playing.left_s(now_ns), self._playing.newest
        step_s = outlook.late[outlook.likely] + self._playing.overlap_s
        buffer = Buffered(
            left_s,
            math.inf if newest is None else (now_ns - newest.captured_ns) * 1e-9,
            None if self._in_flight is None else (now_ns - self._in_flight[1]) * 1e-9,
            math.inf if self._asked_ns is None else (now_ns - self._asked_ns) * 1e-9,
            self._executor.runs_out(left_s, step_s, self._period_s),
            None if newest is None else newest.number,
        )
        rest = self._playing.rest(now_ns)
        again = not (self._playing.aligned or self._executor.counts)
        return Situation(
            self._ticks,
            tick_s,
            outlook.forecast,
            outlook.times,
            motion,
            announced(rest, self._reader),
            buffer,
            self._entropy,
            self._executed,
            self._seam,
            Coming(rest, self._reader.spec.period_s, again),
        )

    def _act(
        self,
        decision: Keep | Request,
        observation: Mapping[str, np.ndarray],
        captured_ns: int,
        outlook: Outlook,
        now_ns: int,
    ) -> int | None:
        """Begin an inference if one is asked for and none is under way; its number."""
        wanted = self._pending
        if isinstance(decision, Request):
            if self._in_flight is None or decision.preempt:
                wanted = decision
            if self._in_flight is not None and decision.preempt:
                self._superseded, self._pending = True, decision
        if wanted is None or self._in_flight is not None or now_ns < self._not_before_ns:
            return None
        self._pending = None
        chosen = outlook.likely if wanted.variant is None else wanted.variant
        delay = math.ceil(outlook.late[chosen] / self._reader.spec.period_s)
        in_force = InForce(self._playing.rest(now_ns), delay)
        copied = {name: np.array(array) for name, array in observation.items()}
        given = self._executor.observed(copied, self._reader, in_force)
        number = self._next_number()
        inference = Inference(number, given, captured_ns, self._ticks, wanted.variant, wanted.why)
        self._in_flight, self._superseded, self._asked_ns = (inference, now_ns), False, now_ns
        self._runner.start(inference, now_ns)
        return number

    def _play(self, now_ns: int, asked: int | None, why: str, motion: Motion) -> CommandReport:
        due = self._playing.due(now_ns)
        starved = due is None
        if due is not None:
            self._due, command = due, due.values
        elif self._executed:
            command = self._starving.command(self._executed)
        else:
            command = None
        if command is not None:
            command = np.array(command)
            self._executed.append(command)
        last = self._due
        chunk = last.chunk if last else None
        return CommandReport(
            tick=self._ticks,
            at_ns=now_ns,
            command=command,
            captured_ns=last.captured_ns if last else now_ns,
            inference=chunk.number if chunk else None,
            chunks=last.of if last and not starved else (),
            index=last.index if last else 0,
            starved=starved,
            route=self._routes[chunk.variant] if chunk else None,
            source=chunk.source if chunk else "",
            asked=asked,
            in_flight=self._in_flight[0].number if self._in_flight else None,
            dropped=self._dropped,
            why=why,
            motion=motion,
            step=self._steps.get(chunk.number) if chunk else None,
        )
