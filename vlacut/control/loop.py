"""The control loop of a robot: what `vlacut.ControlLoop` is.

    with vlacut.connect("policy.vlacut", "10.0.0.5:7000", tls="robot") as policy:
        with vlacut.ControlLoop(policy, chunk="action", rate=20, controller="rapid") as loop:
            while running:
                command = loop.tick(observation)     # None until the first chunk is there
                # loop.sense(q, qd, tau) at the arm's own rate

`tick` and `sense` wait for nothing; they may be called from two threads.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vlacut.bundle.opened import Bundle
from vlacut.control.controllers.naming import DYQ, make_controller
from vlacut.control.cycle import Cycle
from vlacut.control.executors import ASYNC
from vlacut.control.inferring.worker import Worker
from vlacut.control.naming import make_executor
from vlacut.control.recording.recorder import Recorder
from vlacut.control.report import CommandReport, routes_of
from vlacut.control.signals.motion import RATE, UNFITTED, Joints, MotionMeter
from vlacut.control.situation import Controller
from vlacut.control.tables import read_tables
from vlacut.control.ways.chunk import ChunkReader, ChunkSpec, parse_chunk
from vlacut.control.ways.playing import make_playing
from vlacut.control.ways.starving import HOLD, Starving
from vlacut.errors import InputError, suggestion
from vlacut.runtime.closing import Closing
from vlacut.runtime.edge.observed import check_observation
from vlacut.runtime.edge.session import EdgeSession

_log = logging.getLogger("vlacut.control")


class ControlLoop(Closing):
    """Commands at a rate, from a connected policy.

    Args:
        policy: what `vlacut.connect` gives; only the loop uses it while the loop is open.
        chunk: the output that holds the commands, see `vlacut.control.ways.chunk`.
        rate: ticks per second.
        controller: name of one, see `vlacut.control.controllers.naming`, or one itself.
        executor: `sync`, `async` or `rtc`, see `vlacut.control.executors`.
        playing: `naive`, `aligned`, `blend` or `ensemble`, see `vlacut.control.ways.playing`; empty
            for the executor's own.
        starve: `hold` or `stop`, see `vlacut.control.ways.starving`.
        entropy: name of the output that tells how unsure the policy is; empty for none.
        tables: file of `vlacut calibrate-actions`, for controllers and for the scale of `sense`;
            None for the bundle's own.
        sense_rate: how many samples of the joints per second `sense` will be given.
        record: file to write episodes to at the end, see `vlacut.control.recording.episodes`.
        clock: gives nanoseconds; the session uses the default, `time.perf_counter_ns`, too.
        options: options of the controller, see its class.

    Raises InputError if one of these does not fit the policy.
    """

    def __init__(
        self,
        policy: EdgeSession,
        chunk: str | ChunkSpec,
        rate: float,
        controller: str | Controller = "when-empty",
        *,
        executor: str = ASYNC,
        playing: str = "",
        starve: str = HOLD,
        entropy: str = "",
        tables: str | os.PathLike[str] | None = None,
        sense_rate: float = RATE,
        record: str | os.PathLike[str] | None = None,
        clock: Callable[[], int] = time.perf_counter_ns,
        **options: Any,
    ) -> None:
        if not 0 < rate < math.inf:
            raise InputError(f"a rate of {rate:g} ticks per second; it must be above 0")
        plan = policy.plan
        spec = parse_chunk(chunk) if isinstance(chunk, str) else chunk
        for name in filter(None, (spec.output, entropy)):
            if name not in plan.outputs:
                said = suggestion(name, plan.outputs)
                raise InputError(f"{plan.program} has no output {name!r}; {said}")
        inputs = {one.name: one for one in plan.inputs}
        self._reader = ChunkReader(spec, plan.spec[plan.outputs[spec.output]], inputs, 1 / rate)
        _warn_of_deadline(policy.deadline, self._reader.spec)
        runs = make_executor(executor, inputs)
        self._inputs = {name: one for name, one in inputs.items() if name not in runs.adds}
        self._fixed = policy.plan.fixed
        self._premises = policy.plan.premises
        self._drawn = {one.input for one in policy.plan.noise}
        routes = routes_of(plan)
        held: Bundle | None = getattr(policy, "bundle", None)  # of `vlacut.connect`
        if tables is None and held is not None:
            tables = held.actions_path
        read = read_tables(Path(tables)) if tables is not None else None
        if controller == DYQ and held is not None and held.precision_table_path is not None:
            options.setdefault("table", held.precision_table_path)
        if isinstance(controller, str):
            controller = make_controller(
                controller, routes, tables=read, entropy=bool(entropy), **options
            )
        elif options:
            raise InputError(f"a controller of one's own takes no {', '.join(options)}")
        self._meter = MotionMeter(sense_rate, read.motion if read else UNFITTED)
        self._clock = clock
        self._last: CommandReport | None = None
        self._said = ""
        self._recorder: Recorder | None = None
        if record is not None:
            self._recorder = Recorder(Path(record), routes, self._reader, 1 / rate)
        self._worker = Worker(policy, clock)
        try:
            self._cycle = Cycle(
                self._reader,
                self._worker,
                routes,
                runs,
                make_playing(playing or runs.playing, self._reader),
                controller,
                Starving(starve, self._reader),
                1 / rate,
                entropy,
            )
        except BaseException:
            self._worker.close()
            raise

    def tick(
        self, observation: Mapping[str, np.ndarray], captured_ns: int | None = None
    ) -> np.ndarray | None:
        """The command that is due, [width]; None until the first chunk is there. See `last`.

        Args:
            observation: tensors by name; copied if an inference begins with them.
            captured_ns: when it was captured, on the loop's clock; None for now. A time in the
                future counts as now.

        Raises ObservationError at once where a name, shape or dtype is wrong, and InputError for
        what the step of an earlier tick found: a NaN in its observation, or a loop that is set up
        wrongly. The tick after that goes on. A failed inference raises nothing: `last` says so, the
        next one is asked for, and commands go on.
        """
        checked = check_observation(
            self._inputs,
            observation,
            self._fixed,
            allow_nan=True,  # the step looks for them, beside the ticks
            premises=self._premises,
            drawn=self._drawn,
        )
        now = self._clock()
        captured = now if captured_ns is None else min(captured_ns, now)
        self._last = report = self._cycle.tick(checked, now, captured, self._meter.take())
        if self._recorder is not None:
            self._recorder.tick(report, captured, checked, self._cycle.newest)
        self._note(report)
        return report.command

    def sense(
        self,
        q: Joints | None,
        qd: Joints | None = None,
        tau: Joints | None = None,
        at_ns: int | None = None,
    ) -> None:
        """Take a sample of the joints, at the arm's own rate; see `vlacut.control.signals.motion`.

        Args:
            q: positions in rad; None if velocities are given.
            qd: velocities in rad/s.
            tau: torques in Nm.
            at_ns: when it was taken, on the loop's clock; None for now.
        """
        at = self._clock() if at_ns is None else at_ns
        self._meter.sense(q, qd, tau, at)
        if self._recorder is not None:
            self._recorder.sense(q, qd, tau, at)

    def prime(self, observation: Mapping[str, np.ndarray]) -> None:
        """Make the first chunk now, and wait for it, before the robot moves.

        Raises what `EdgeSession.step` does.
        """
        checked = check_observation(
            self._inputs,
            observation,
            self._fixed,
            allow_nan=True,  # the step looks for them, beside the ticks
            premises=self._premises,
            drawn=self._drawn,
        )
        answer = self._worker.run(self._cycle.first(checked, self._clock()))
        self._cycle.prime(answer, self._clock())

    def reset(self) -> None:
        """Begin another episode: a chunk asked for in the last one is not played in it."""
        self._cycle.reset()
        self._worker.reset()
        self._meter.reset()
        if self._recorder is not None:
            self._recorder.reset()

    @property
    def last(self) -> CommandReport:
        """Report of the last tick; InputError before the first."""
        if self._last is None:
            raise InputError("there was no tick yet")
        return self._last

    @property
    def error(self) -> str:
        """Why the last inference failed; empty if it did not."""
        return self._cycle.error

    def close(self) -> None:
        """End the thread of inferences, after the current one, and write what was recorded.

        Raises OSError if that cannot be written.
        """
        self._worker.close()
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.write()

    def _note(self, report: CommandReport) -> None:
        """Say once that the loop starves, or does no longer."""
        said = "starves" if report.starved and report.command is not None else ""
        if said != self._said:
            self._said = said
            if said:
                _log.warning("tick %d has no command of a chunk: %s", report.tick, self._why())
            else:
                _log.info("tick %d has a command of a chunk again", report.tick)

    def _why(self) -> str:
        """Why there is no command of a chunk."""
        spec = self._reader.spec
        return self.error or (
            f"it was over before the next one came; one that is played by its own time lasts from "
            f"its capture on, so its {spec.horizon * spec.period_s:g} s have to be two inferences"
        )


def _warn_of_deadline(deadline: float | None, spec: ChunkSpec) -> None:
    """Say where the session waits for the cloud beyond the last command of a chunk."""
    lasts_s = spec.horizon * spec.period_s
    if deadline is not None and deadline > lasts_s:
        _log.warning(
            "the session's deadline of %g s is longer than a chunk lasts, %g s: while the cloud is "
            "late the loop runs out of commands before the session falls back; give a shorter one",
            deadline,
            lasts_s,
        )
