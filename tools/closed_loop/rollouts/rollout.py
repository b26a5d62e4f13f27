"""An episode in virtual time: the world moves on while an inference runs.

The control loop is the robot's own (`vlacut.control.cycle`), the policy is the compiled bundle, and
only its time is not this machine's: an inference takes what a `Timing` says, and its chunk is there
after so many milliseconds of the world. The same seed gives the same episode to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlacut.control.cycle import Cycle
from vlacut.control.inferring.inference import Inference, Runner
from vlacut.control.inferring.virtual import Delayed
from vlacut.control.naming import make_executor
from vlacut.control.recording.recorder import Recorder
from vlacut.control.report import Route
from vlacut.control.signals.motion import UNFITTED, MotionMeter, MotionScale
from vlacut.control.situation import Controller
from vlacut.control.ways.playing import make_playing
from vlacut.control.ways.starving import HOLD, Starving

from ..policies.policy import CHUNK
from ..simulation.arm import RATE
from ..simulation.disturbances import Disturb
from ..simulation.tasks import Task
from ..simulation.world import SUBSTEPS, World
from .acts import Acts
from .deployed import DOUBT
from .oracle import ACTIONS
from .pipelined import Pipelined
from .scene import PERIOD_NS, Run, Scene, sampled
from .timing import Timing


@dataclass(frozen=True)
class How:
    """How a robot is driven.

    Attributes:
        controller: makes one.
        executor, playing: names, see `vlacut.control`.
        horizon: commands played of a chunk.
        scale: of the joints' scores.
    """

    controller: Callable[[], Controller]
    executor: str = "async"
    playing: str = "aligned"
    horizon: int = CHUNK
    scale: MotionScale = UNFITTED


Watch = Callable[[int, World], None]


def drive(
    task: Task,
    world: World,
    policy: Acts,
    seed: int,
    timing: Timing,
    how: How,
    disturb: Disturb | None = None,
    watch: Watch | None = None,
    record: Recorder | None = None,
) -> Run:
    """One episode. The world stands still for nobody."""

    def make(inference: Inference, variant: int) -> Mapping[str, np.ndarray]:
        timing.ended()
        return policy.act(inference.observation, variant)

    times = timing.course, timing.outlook
    behind = timing.warming
    runner: Runner = Pipelined(make, *times, behind) if behind else Delayed(make, *times)
    cycle = cycle_of(policy, how, runner, timing.routes)
    scene = Scene(task, world, policy, seed, disturb)
    run = play(scene, cycle, how, lambda tick: tick * PERIOD_NS, watch, record)
    run.ran = timing.taken()
    return run


def cycle_of(policy: Acts, how: How, runner: Runner, routes: Sequence[Route]) -> Cycle:
    """The robot's own control loop, without a clock."""
    reader, executor = policy.reader(how.horizon), make_executor(how.executor, policy.inputs)
    return Cycle(
        reader,
        runner,
        routes,
        executor,
        make_playing(how.playing or executor.playing, reader),
        how.controller(),
        Starving(HOLD, reader),
        1 / RATE,
        DOUBT if policy.doubts else "",
    )


def play(
    scene: Scene,
    cycle: Cycle,
    how: How,
    clock: Callable[[int], int],
    watch: Watch | None = None,
    record: Recorder | None = None,
) -> Run:
    """An episode by a clock, which gives the time at which a tick is, in ns, once it has come."""
    meter, run = MotionMeter(RATE * SUBSTEPS, how.scale), Run()
    for tick in range(scene.task.most_ticks):
        now_ns = clock(tick)
        glance = scene.sight.look(tick)
        report = cycle.tick(glance, now_ns, now_ns, meter.take())
        run.reports.append(report)
        if record is not None:
            record.tick(report, now_ns, dict(glance), cycle.newest)
        if watch is not None:
            watch(tick, scene.world)
        done = scene.step(tick, report.command, run)
        for sample in sampled(run.sensed[-1], now_ns):
            meter.sense(*sample)
            if record is not None:
                record.sense(*sample)
        if done:
            break
    return run


def wait_for(
    task: Task,
    world: World,
    policy: Acts,
    seed: int,
    played: int,
    disturb: Disturb | None = None,
) -> Run:
    """One episode in which the world waits, as simulators do: for a chunk every so many ticks."""
    scene, reader, run = Scene(task, world, policy, seed, disturb), policy.reader(), Run()
    for tick in range(task.most_ticks):
        glance = scene.sight.look(tick)
        if tick % played == 0:
            chunk = reader.read(policy.act(glance)[ACTIONS], glance)
        if scene.step(tick, chunk[tick % played], run):
            break
    return run
