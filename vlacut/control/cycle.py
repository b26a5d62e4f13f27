"""The cycle of a control loop: tick after tick, pure of clocks and threads.

`ControlLoop` gives it the time and a thread that makes inferences; simulations give it theirs.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from vlacut.control.arrivals import Arrivals
from vlacut.control.executors import Executor, InForce
from vlacut.control.inferring.inference import Answer, Inference, Outlook, Runner
from vlacut.control.report import CommandReport, Route
from vlacut.control.signals.ahead import announced
from vlacut.control.situation import (
    STILL,
    Buffered,
    Coming,
    Controller,
    Keep,
    Motion,
    Request,
    Situation,
)
from vlacut.control.ways.chunk import Chunk, ChunkReader
from vlacut.control.ways.playing import Due, Playing
from vlacut.control.ways.starving import Starving

_REMEMBERED_S = 2.0  # of executed commands


class Cycle:
    """Decides, asks, and plays.

    Args:
        reader: reads the chunk.
        runner: makes inferences.
        routes: one per variant.
        executor, playing, controller, starving: see their modules.
        period_s: seconds per tick.
        entropy: name of the policy's output that tells how unsure it is; empty for none.
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
        self._starving, self._period_s = starving, period_s
        self._executed: deque[np.ndarray] = deque(maxlen=2 + round(_REMEMBERED_S / period_s))
        self._arrivals = Arrivals(reader, runner, playing, executor.counts, entropy)
        self._ticks = self._asked = 0
        self.reset()

    def reset(self) -> None:
        """Begin another episode: earlier commands are not played, and chunks under way not used."""
        self._playing.reset()
        self._controller.reset()
        self._arrivals.reset()
        self._executed.clear()
        self._due: Due | None = None
        self._last_ns: int | None = None
        self._asked_ns: int | None = None
        self._pending: Request | None = None

    @property
    def error(self) -> str:
        """Why the last inference failed; empty if it did not."""
        return self._arrivals.error

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
        self._arrivals.poll(now_ns, self._ticks)
        outlook = self._runner.outlook(now_ns)
        situation = self._situation(now_ns, motion, outlook)
        decision = self._controller.decide(situation)
        asked = self._act(decision, observation, captured_ns, outlook, now_ns)
        report = self._play(now_ns, asked, decision.why, motion)
        self._ticks, self._last_ns = self._ticks + 1, now_ns
        return report

    def prime(self, answer: Answer, now_ns: int) -> None:
        """Take the chunk of an inference that was made before the first tick."""
        self._arrivals.started(answer.inference, now_ns)
        self._arrivals.take(answer, now_ns, self._ticks)

    def first(self, observation: Mapping[str, np.ndarray], now_ns: int) -> Inference:
        """What to ask for before the first tick."""
        in_force = InForce(self._playing.rest(now_ns), 0)
        given = self._executor.observed(observation, self._reader, in_force)
        return Inference(self._next_number(), given, now_ns, self._ticks, None, "first")

    def _next_number(self) -> int:
        self._asked += 1
        return self._asked - 1

    def _situation(self, now_ns: int, motion: Motion, outlook: Outlook) -> Situation:
        in_flight = self._arrivals.in_flight
        tick_s = self._period_s if self._last_ns is None else (now_ns - self._last_ns) * 1e-9
        left_s, newest = self._playing.left_s(now_ns), self._playing.newest
        step_s = outlook.late[outlook.likely] + self._playing.overlap_s
        buffer = Buffered(
            left_s,
            math.inf if newest is None else (now_ns - newest.captured_ns) * 1e-9,
            None if in_flight is None else (now_ns - in_flight[1]) * 1e-9,
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
            self._arrivals.entropy,
            self._executed,
            self._arrivals.seam,
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
        wanted, arrivals = self._pending, self._arrivals
        if isinstance(decision, Request):
            if arrivals.in_flight is None or decision.preempt:
                wanted = decision
            if arrivals.in_flight is not None and decision.preempt:
                arrivals.superseded, self._pending = True, decision
        if wanted is None or arrivals.in_flight is not None or now_ns < arrivals.not_before_ns:
            return None
        self._pending = None
        chosen = outlook.likely if wanted.variant is None else wanted.variant
        delay = math.ceil(outlook.late[chosen] / self._reader.spec.period_s)
        in_force = InForce(self._playing.rest(now_ns), delay)
        copied = {name: np.array(array) for name, array in observation.items()}
        given = self._executor.observed(copied, self._reader, in_force)
        number = self._next_number()
        inference = Inference(number, given, captured_ns, self._ticks, wanted.variant, wanted.why)
        self._asked_ns = now_ns
        arrivals.started(inference, now_ns)
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
        last, in_flight = self._due, self._arrivals.in_flight
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
            in_flight=in_flight[0].number if in_flight else None,
            dropped=self._arrivals.dropped,
            why=why,
            motion=motion,
            step=self._arrivals.step(chunk.number) if chunk else None,
        )
