"""An episode in virtual time: the world moves on while an inference runs.

The control loop is the robot's own (`vlacut.control.cycle`), the policy is the compiled bundle, and
only its time is not this machine's: an inference takes what a `Timing` says, and its chunk is there
after so many milliseconds of the world. The same seed gives the same episode to the bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mujoco
import numpy as np

from vlacut.bundle.manifest import Bundle, open_bundle
from vlacut.control.cycle import Cycle
from vlacut.control.inferring.inference import Inference, Outlook
from vlacut.control.inferring.virtual import Course, Delayed
from vlacut.control.naming import make_executor
from vlacut.control.report import CommandReport, Route
from vlacut.control.situation import Controller
from vlacut.control.ways.chunk import ChunkReader, ChunkSpec
from vlacut.control.ways.playing import make_playing
from vlacut.control.ways.starving import HOLD, Starving
from vlacut.runtime.whole import load_uncut, run_whole

from .episodes import sentence
from .policy import BEFORE, CHUNK, DIMS
from .tasks import TASKS, Task, begin
from .world import RATE, Sensed, World

PERIOD_NS = 1_000_000_000 // RATE
_CHUNK = ChunkSpec("actions", switched=(4,))
Disturb = Callable[[np.ndarray, int], np.ndarray]


class Glance(Mapping[str, np.ndarray]):
    """What a policy gets at a tick. A picture is rendered when somebody looks at it."""

    def __init__(self, told: Mapping[str, np.ndarray], show: Callable[[str], np.ndarray]) -> None:
        self._told, self._show = dict(told), show

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._told:
            self._told[name] = self._show(name)
        return self._told[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("front", "before", "wrist", "tokens", "state", "noise"))

    def __len__(self) -> int:
        return 6


class Sight:
    """The cameras of a world, and where everything was of late."""

    def __init__(self, world: World, told: np.ndarray, seed: int, disturb: Disturb | None) -> None:
        self._world, self._told, self._disturb = world, told, disturb
        self._places: deque[np.ndarray] = deque(maxlen=BEFORE + 1)
        self._noise = np.random.default_rng((seed, 1))
        self._then = mujoco.MjData(world.model)
        self._tick = 0

    def look(self, tick: int) -> Glance:
        """This tick's; to be called at every tick."""
        self._tick = tick
        self._places.append(self._world.data.qpos.copy())
        told = {"tokens": self._told, "state": self._world.proprioception}
        return Glance(told, self._show)

    def _show(self, name: str) -> np.ndarray:
        if name == "noise":
            return self._noise.normal(size=(CHUNK, DIMS)).astype(np.float32)
        if name == "before":
            self._then.qpos[:] = self._places[0]
            self._then.mocap_pos[:] = self._world.data.mocap_pos
            self._then.mocap_quat[:] = self._world.data.mocap_quat
            mujoco.mj_forward(self._world.model, self._then)
            picture = self._world.picture("front", data=self._then)
        else:
            picture = self._world.picture(name)
        return picture if self._disturb is None else self._disturb(picture, self._tick)


class Deployed:
    """A bundle's uncut program: what every cut of it computes, bit for bit.

    Args:
        path: of the bundle.
    """

    def __init__(self, path: Path) -> None:
        self.bundle: Bundle = open_bundle(path)
        manifest = self.bundle.manifest
        self._phases = manifest.whole
        self._engines = load_uncut(self.bundle) or {}
        self.inputs = {spec.name: spec for spec in self.bundle.plan.inputs}

    def act(self, observation: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The chunk, by name."""
        outputs = self.bundle.plan.outputs
        held = run_whole(self._phases, self._engines, observation)
        return {name: held[key] for name, key in outputs.items()}


@dataclass(frozen=True)
class Timing:
    """What inferences take.

    Attributes:
        course: of one that is asked for at a time.
        outlook: what the robot can know of the next one at a time.
        routes: by variant.
    """

    course: Callable[[Inference, int], Course]
    outlook: Callable[[int], Outlook]
    routes: Sequence[Route] = (Route("fixed", "cloud", "float32"),)


def fixed(seconds: float) -> Timing:
    """Every inference takes as long."""
    return Timing(lambda _, __: Course(0, seconds), lambda _: Outlook((seconds,), (seconds,)))


@dataclass(frozen=True)
class How:
    """How a robot is driven.

    Attributes:
        controller: makes one.
        executor, playing: names, see `vlacut.control`.
        horizon: commands played of a chunk.
    """

    controller: Callable[[], Controller]
    executor: str = "async"
    playing: str = "aligned"
    horizon: int = CHUNK


@dataclass
class Run:
    """What an episode came to.

    Attributes:
        success: whether the task was done in time.
        ticks: it took.
        reports: of every tick.
        sensed: of every tick.
    """

    success: bool = False
    ticks: int = 0
    reports: list[CommandReport] = field(default_factory=list)
    sensed: list[Sensed] = field(default_factory=list)


def drive(
    task: Task,
    world: World,
    policy: Deployed,
    seed: int,
    timing: Timing,
    how: How,
    disturb: Disturb | None = None,
    watch: Callable[[int, World], None] | None = None,
) -> Run:
    """One episode. The world stands still for nobody."""
    episode = begin(task, world, seed)
    sight = Sight(world, sentence(task.name, episode), seed, disturb)
    spec = ChunkSpec(_CHUNK.output, switched=_CHUNK.switched, horizon=how.horizon)
    plan = policy.bundle.plan
    reader = ChunkReader(spec, plan.spec[plan.outputs[spec.output]], policy.inputs, 1 / RATE)
    executor = make_executor(how.executor, policy.inputs)

    def make(inference: Inference, _: int) -> Mapping[str, np.ndarray]:
        given = inference.observation
        return policy.act({name: given[name] for name in policy.inputs})

    cycle = Cycle(
        reader,
        Delayed(make, timing.course, timing.outlook),
        timing.routes,
        executor,
        make_playing(how.playing or executor.playing, reader),
        how.controller(),
        Starving(HOLD, reader),
        1 / RATE,
    )
    run = Run()
    for tick in range(task.most_ticks):
        now_ns = tick * PERIOD_NS
        report = cycle.tick(sight.look(tick), now_ns, now_ns)
        run.reports.append(report)
        if watch is not None:
            watch(tick, world)
        episode.move(world, tick)
        command = world.command if report.command is None else report.command
        run.sensed.append(world.step(command))
        run.ticks = tick + 1
        if task.done(world, episode):
            run.success = True
            break
    return run


def world_of(name: str) -> tuple[Task, World]:
    """A task and its world."""
    task = TASKS[name]
    return task, World(task.xml)
