r"""Episodes in real time, each beside the same one in virtual time.

    python -m tools.closed_loop.live --plan openvla.vlacut --traces TRACES --episodes 5

The world keeps time with the clock. The session is the twin's: the full-size bundle on both its
sides, real sockets between them, devices and link emulated; it says when a chunk is there, and the
bench's policy says what is in it, as in virtual time. What must agree: success, and the mean age.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from vlacut.api import connect
from vlacut.bundle.manifest import read_bundle
from vlacut.control.cycle import Cycle
from vlacut.control.inferring.worker import Worker
from vlacut.control.naming import make_executor
from vlacut.control.report import Route, routes_of
from vlacut.control.signals.motion import MotionMeter
from vlacut.control.ways.playing import make_playing
from vlacut.control.ways.starving import HOLD, Starving
from vlacut.emulation import EmulatedLink, shape_of
from vlacut.emulation.observation import planned_observation
from vlacut.emulation.twin import emulated_cloud
from vlacut.hardware.trace import Trace
from vlacut.plans.plan import Plan
from vlacut.runtime.edge.report import StepReport
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.network.selectors import Forecast

from .arm import RATE
from .cells import EXPERT, HELD_OUT, Cell, Stage, drawn, how, recordings, timing_of
from .episodes import sentence
from .oracle import Oracle
from .outcomes import Outcome, outcome_of
from .rollout import PERIOD_NS, Deployed, How, Run, sampled
from .sight import Sight
from .tasks import Task, begin
from .world import SUBSTEPS, World


class Standin:
    """A session that takes its own time, and gives another policy's actions.

    Args:
        session: of the full-size bundle, with emulated devices.
        policy: whose actions are given.
    """

    def __init__(self, session: EdgeSession, policy: Deployed | Oracle) -> None:
        self._session, self._policy = session, policy
        self._seen = planned_observation(session.plan)
        self._beside = ThreadPoolExecutor(1)
        self._routes = routes_of(session.plan)
        self.ran: list[tuple[Route, float]] = []

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
        taken = time.perf_counter() - began
        names = [one.name for one in self.plan.variants]
        self.ran.append((self._routes[names.index(self.last.variant)], taken))
        return made.result()


def live(
    task: Task, world: World, policy: Deployed | Oracle, seed: int, session: Standin, way: How
) -> tuple[Run, float]:
    """One episode by the clock; and the latest that a tick came, in s."""
    episode, run, latest = begin(task, world, seed), Run(), 0.0
    sight = Sight(world, episode, policy.seen, sentence(task.name, episode), seed, None)
    reader, worker = policy.reader(way.horizon), Worker(session)  # type: ignore[arg-type]
    executor = make_executor(way.executor, policy.inputs)
    cycle = Cycle(
        reader,
        worker,
        routes_of(session.plan),
        executor,
        make_playing(way.playing or executor.playing, reader),
        way.controller(),
        Starving(HOLD, reader),
        1 / RATE,
    )
    meter, due_ns = MotionMeter(RATE * SUBSTEPS, way.scale), time.perf_counter_ns()
    for tick in range(task.most_ticks):
        time.sleep(max(0.0, (due_ns - time.perf_counter_ns()) * 1e-9))
        now_ns = time.perf_counter_ns()
        latest, due_ns = max(latest, (now_ns - due_ns) * 1e-9), due_ns + PERIOD_NS
        report = cycle.tick(sight.look(tick), now_ns, now_ns, meter.take())
        run.reports.append(report)
        episode.move(world, tick)
        sensed = world.step(world.command if report.command is None else report.command)
        for sample in sampled(sensed, now_ns):
            meter.sense(*sample)
        run.sensed.append(sensed)
        run.ticks = tick + 1
        if task.done(world, episode):
            run.success = True
            break
    worker.close()
    run.ran = session.ran
    return run, latest


def after(trace: Trace, seconds: float) -> Trace:
    """What is left of a recording after its first seconds."""
    ends = np.cumsum(trace.seconds)
    left = np.minimum(ends - seconds, trace.seconds)
    rates = [rate for rate, lasts in zip(trace.rates, left, strict=True) if lasts > 0]
    return Trace(tuple(rates), tuple(left[left > 0].tolist()))


def both(stage: Stage, cell: Cell, seed: int) -> tuple[Outcome, Outcome, float]:
    """The same episode in virtual and in real time; and the latest that a tick came, in s."""
    task, world = stage.world(cell.task)
    policy, plan = stage.policy(cell.policy, cell.task), read_bundle(Path(cell.plan)).plan
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
        run, latest = live(task, world, policy, seed, Standin(session, policy), way)
    return virtual, outcome_of(seed, run), latest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--plan", type=Path, required=True, help="a full-size bundle")
    parser.add_argument("--traces", type=Path, required=True, help="recorded bandwidths")
    parser.add_argument("--policy", default=EXPERT, help="a bundle; the expert without one")
    parser.add_argument("--playing", default="aligned")
    parser.add_argument("--episodes", type=int, default=5)
    given = parser.parse_args()
    cell = Cell("belt", given.policy, plan=str(given.plan), traces=str(given.traces))
    cell = replace(cell, playing=given.playing)
    stage, ages = Stage(), []
    for seed in range(HELD_OUT, HELD_OUT + given.episodes):
        virtual, real, latest = both(stage, cell, seed)
        ages.append((virtual.age_s, real.age_s))
        print(
            f"{seed}: success {virtual.success:d} {real.success:d}, "
            f"age {1e3 * virtual.age_s:.0f} {1e3 * real.age_s:.0f} ms, "
            f"asked {virtual.asked} {real.asked}, a tick was {1e3 * latest:.0f} ms late at most"
        )
    first, second = np.mean(ages, 0)
    print(f"mean age: {1e3 * first:.0f} ms in virtual, {1e3 * second:.0f} ms in real time")


if __name__ == "__main__":
    main()
