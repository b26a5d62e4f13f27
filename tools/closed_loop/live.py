r"""Episodes in real time, each beside the same one in virtual time.

    python -m tools.closed_loop.live --plan openvla.vlacut --traces TRACES --episodes 5

The world keeps time with the clock. The session is the twin's: the full-size bundle on both its
sides, real sockets between them, devices and link emulated; it says when a chunk is there, and the
bench's policy says what is in it, as in virtual time. What must agree: success, and the mean age,
while the policy is quicker than the session; else its chunks are older, by what the line says.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vlacut.api import connect
from vlacut.bundle.manifest import read_bundle
from vlacut.control.inferring.worker import Worker
from vlacut.control.report import Route, routes_of
from vlacut.control.ways.playing import PLAYINGS
from vlacut.emulation import EmulatedLink, shape_of
from vlacut.emulation.observation import planned_observation
from vlacut.emulation.twin import emulated_cloud
from vlacut.hardware.trace import Trace
from vlacut.plans.plan import Plan
from vlacut.runtime.closing import Closing
from vlacut.runtime.edge.report import StepReport
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.network.selectors import Forecast

from .acts import Acts
from .cells import EXPERT, HELD_OUT, Cell, Stage, drawn, how, recordings, timing_of
from .outcomes import Outcome, outcome_of
from .rollout import PERIOD_NS, How, Run, Scene, cycle_of, play
from .tasks import Task
from .world import World


class Late(NamedTuple):
    """How far an episode was from what it stands for, in s.

    Attributes:
        tick: the latest that a tick came.
        policy: the longest that the policy took beyond the session, which ages its chunk.
    """

    tick: float
    policy: float


class Standin(Closing):
    """A session that takes its own time, and gives another policy's actions.

    Args:
        session: of the full-size bundle, with emulated devices.
        policy: whose actions are given.

    Attributes:
        ran: route and seconds of every inference.
        late_s: the longest that the policy took beyond the session.
    """

    def __init__(self, session: EdgeSession, policy: Acts) -> None:
        self._session, self._policy = session, policy
        self._seen = planned_observation(session.plan)
        self._beside = ThreadPoolExecutor(1)
        self._routes = routes_of(session.plan)
        self.ran: list[tuple[Route, float]] = []
        self.late_s = 0.0

    def close(self) -> None:
        """End the policy's thread, after what it makes; the session stays open."""
        self._beside.shutdown()

    @property
    def plan(self) -> Plan:
        """Of the full-size bundle."""
        return self._session.plan

    @property
    def last(self) -> StepReport:
        """Of the session."""
        return self._session.last

    def forecast(self) -> Forecast:
        """Of the session."""
        return self._session.forecast()

    def reset(self) -> None:
        """Begin another episode."""
        self._session.reset()

    def step(
        self, observation: Mapping[str, np.ndarray], captured_ns: int, variant: int | None
    ) -> Mapping[str, np.ndarray]:
        """The policy's actions, made meanwhile, once the session has its own."""
        began = time.perf_counter()
        made = self._beside.submit(self._policy.act, observation)
        self._session.step(self._seen, captured_ns, variant)
        over = time.perf_counter()
        names = [one.name for one in self.plan.variants]
        self.ran.append((self._routes[names.index(self.last.variant)], over - began))
        actions = made.result()
        self.late_s = max(self.late_s, time.perf_counter() - over)
        return actions


class Clock:
    """Ticks as they come, by this machine's clock.

    Attributes:
        late_s: the latest that one came.
    """

    def __init__(self) -> None:
        self._due_ns, self.late_s = time.perf_counter_ns(), 0.0

    def __call__(self, tick: int) -> int:
        """Wait for the next tick; when it is."""
        time.sleep(max(0.0, (self._due_ns - time.perf_counter_ns()) * 1e-9))
        now_ns = time.perf_counter_ns()
        self.late_s = max(self.late_s, (now_ns - self._due_ns) * 1e-9)
        self._due_ns += PERIOD_NS
        return now_ns


def live(
    task: Task, world: World, policy: Acts, seed: int, session: EdgeSession, how: How
) -> tuple[Run, Late]:
    """One episode by the clock, and how late it was."""
    with (
        Standin(session, policy) as standin,
        Worker(standin) as worker,  # type: ignore[arg-type]
    ):
        cycle = cycle_of(policy, how, worker, routes_of(session.plan))
        scene, clock = Scene(task, world, policy, seed), Clock()
        run = play(scene, cycle, how, clock)
    run.ran = standin.ran
    return run, Late(clock.late_s, standin.late_s)


def after(trace: Trace, seconds: float) -> Trace:
    """What is left of a recording after its first seconds."""
    ends = np.cumsum(trace.seconds)
    left = np.minimum(ends - seconds, trace.seconds)
    rates = [rate for rate, lasts in zip(trace.rates, left, strict=True) if lasts > 0]
    return Trace(tuple(rates), tuple(left[left > 0].tolist()))


def both(stage: Stage, cell: Cell, seed: int) -> tuple[Outcome, Outcome, Late]:
    """The same episode in virtual and in real time; and how late that was."""
    task, world = stage.world(cell.task)
    policy = stage.policy(cell.policy, cell.task, cell.horizon)
    plan = read_bundle(Path(cell.plan)).plan
    virtual, way = stage.run(cell, seed), how(cell, timing_of(cell, seed))
    index, begins_s = drawn(cell.traces, seed)
    shape = shape_of(plan.link, after(recordings(cell.traces)[0][index], begins_s))
    with (
        emulated_cloud(Path(cell.plan)) as server,
        EmulatedLink(server, shape, begun=False) as link,
        connect(
            cell.plan,
            "{}:{}".format(*link.address),
            emulate=True,
            selector=cell.selector,
            predictor="ewma",
        ) as session,
    ):
        link.begin()
        run, late = live(task, world, policy, seed, session, way)
    return virtual, outcome_of(seed, run), late


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--plan", type=Path, required=True, help="a full-size bundle")
    parser.add_argument("--traces", type=Path, required=True, help="recorded bandwidths")
    parser.add_argument("--policy", default=EXPERT, help="a bundle; the expert without one")
    parser.add_argument("--playing", default="aligned", choices=PLAYINGS)
    parser.add_argument("--episodes", type=int, default=5)
    given = parser.parse_args()
    cell = Cell("belt", given.policy, plan=str(given.plan), traces=str(given.traces))
    cell = replace(cell, playing=given.playing)
    stage, ages = Stage(), []
    for seed in range(HELD_OUT, HELD_OUT + given.episodes):
        virtual, real, late = both(stage, cell, seed)
        if virtual.age_s and real.age_s:  # else no chunk was ever in time
            ages.append((virtual.age_s, real.age_s))
        print(
            f"{seed}: success {virtual.success:d} {real.success:d}, "
            f"age {1e3 * virtual.age_s:.0f} {1e3 * real.age_s:.0f} ms, "
            f"asked {virtual.asked} {real.asked}, "
            f"at most late: a tick {1e3 * late.tick:.0f}, the policy {1e3 * late.policy:.0f} ms"
        )
    if ages:
        first, second = 1e3 * np.mean(ages, 0)
        print(f"mean age: {first:.0f} ms in virtual, {second:.0f} ms in real time")


if __name__ == "__main__":
    main()
