"""An episode in virtual time: the world moves on while an inference runs.

The control loop is the robot's own (`vlacut.control.cycle`), the policy is the compiled bundle, and
only its time is not this machine's: an inference takes what a `Timing` says, and its chunk is there
after so many milliseconds of the world. The same seed gives the same episode to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vlacut import registry
from vlacut.bundle.manifest import Bundle, open_bundle
from vlacut.control.cycle import Cycle
from vlacut.control.inferring.inference import Inference, Runner
from vlacut.control.inferring.virtual import Delayed
from vlacut.control.naming import make_executor
from vlacut.control.recording.recorder import Recorder
from vlacut.control.report import CommandReport, Route
from vlacut.control.rtc import GUIDANCE, PREV_CHUNK, WEIGHTS
from vlacut.control.signals.motion import UNFITTED, MotionMeter, MotionScale
from vlacut.control.situation import Controller
from vlacut.control.ways.chunk import ABSOLUTE, ChunkReader, ChunkSpec, Kind
from vlacut.control.ways.playing import make_playing
from vlacut.control.ways.starving import HOLD, Starving
from vlacut.runtime.whole import load_whole, run_whole
from vlacut.tensor import TensorSpec

from .acts import Acts
from .arm import RATE
from .disturbances import Disturb
from .episodes import sentence
from .oracle import ACTIONS, SWITCHED
from .policy import CHUNK
from .sight import Sight
from .tasks import TASKS, Task, begin
from .timing import Timing
from .world import SUBSTEPS, Sensed, World

PERIOD_NS = 1_000_000_000 // RATE
DOUBT = "doubt"  # the output that tells how unsure a policy is, if it has one
_GIVEN = (PREV_CHUNK, WEIGHTS, GUIDANCE)  # by the executor `rtc`
_SAMPLE_NS = PERIOD_NS // SUBSTEPS


class Deployed:
    """A bundle's uncut program: what every cut of it computes, bit for bit.

    Args:
        path: of the bundle.
        threads: of its engines; 0 for all cores.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.bundle: Bundle = open_bundle(path)
        manifest = self.bundle.manifest
        executor = registry.load("executors", self.bundle.backend(manifest.uncut))()
        recipe = {**self.bundle.recipe(manifest.uncut), "threads": str(threads)}
        self._phases = manifest.whole
        self._engines = load_whole(executor, self.bundle.root, self._phases, recipe)
        specs = self.bundle.plan.inputs
        self.inputs: Mapping[str, TensorSpec] = {spec.name: spec for spec in specs}
        self.seen: Sequence[str] = tuple(name for name in self.inputs if name not in _GIVEN)
        self.doubts = DOUBT in self.bundle.plan.outputs

    def act(self, observation: Mapping[str, np.ndarray], variant: int = 0) -> dict[str, np.ndarray]:
        """The chunk, and how unsure it is, by name; every variant's is the same."""
        given = {name: observation[name] for name in self.inputs}
        held = run_whole(self._phases, self._engines, given)
        return {name: held[key] for name, key in self.bundle.plan.outputs.items()}

    def reader(self, horizon: int = CHUNK) -> ChunkReader:
        """Of its chunks."""
        plan = self.bundle.plan
        spec = ChunkSpec(ACTIONS, switched=SWITCHED, horizon=horizon)
        if "noise" in self.inputs:  # flow says how far from the command in force
            spec = replace(spec, kind=Kind.RELATIVE, base="state", columns=(5, 6, 7, 8, ABSOLUTE))
        return ChunkReader(spec, plan.spec[plan.outputs[ACTIONS]], self.inputs, 1 / RATE)


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


@dataclass
class Run:
    """What an episode came to.

    Attributes:
        success: whether the task was done in time.
        ticks: it took.
        reports: of every tick.
        sensed: of every tick.
        ran: route and seconds of every inference that was begun.
    """

    success: bool = False
    ticks: int = 0
    reports: list[CommandReport] = field(default_factory=list)
    sensed: list[Sensed] = field(default_factory=list)
    ran: list[tuple[Route, float]] = field(default_factory=list)


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

    runner = Delayed(make, timing.course, timing.outlook)
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


class Scene:
    """An episode that begins: its world is reset, and a policy sees it."""

    def __init__(
        self,
        task: Task,
        world: World,
        policy: Acts,
        seed: int,
        disturb: Disturb | None = None,
    ) -> None:
        self.task, self.world, self._episode = task, world, begin(task, world, seed)
        told = sentence(task.name, self._episode)
        self.sight = Sight(world, self._episode, policy.seen, told, seed, disturb)

    def step(self, tick: int, command: np.ndarray | None, run: Run) -> bool:
        """A tick of the world, noted; whether the task is done. No command keeps the last one."""
        self._episode.move(self.world, tick)
        run.sensed.append(self.world.step(self.world.command if command is None else command))
        run.ticks = tick + 1
        run.success = self.task.done(self.world, self._episode)
        return run.success


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


def sampled(
    sensed: Sensed, now_ns: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
    """The samples of a tick that began at a time: joints, and when each was taken."""
    for at in range(SUBSTEPS):
        when = now_ns + (at + 1) * _SAMPLE_NS
        yield sensed.q[at], sensed.qd[at], sensed.tau[at], when


def wait_for(
    task: Task, world: World, policy: Acts, seed: int, disturb: Disturb | None = None
) -> Run:
    """One episode in which the world waits, as simulators do: every tick has a chunk of its own."""
    scene, reader, run = Scene(task, world, policy, seed, disturb), policy.reader(), Run()
    for tick in range(task.most_ticks):
        glance = scene.sight.look(tick)
        chunk = reader.read(policy.act(glance)[ACTIONS], glance)
        if scene.step(tick, chunk[0], run):
            break
    return run


def world_of(name: str) -> tuple[Task, World]:
    """A task and its world."""
    task = TASKS[name]
    return task, World(task.xml)
