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
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vlacut.api import connect
from vlacut.bundle.reading import read_bundle
from vlacut.control.inferring.worker import Worker
from vlacut.control.report import routes_of
from vlacut.control.ways.playing import PLAYINGS
from vlacut.emulation import EmulatedLink, shape_of
from vlacut.emulation.twin import emulated_cloud
from vlacut.hardware.trace import Trace
from vlacut.runtime.edge.session import EdgeSession

from .results.cells import EXPERT, HELD_OUT, Cell, Stage, drawn, how, recordings, timing_of
from .results.outcomes import Outcome, interval, outcome_of
from .rollouts.acts import Acts
from .rollouts.rollout import How, cycle_of, play
from .rollouts.scene import PERIOD_NS, Run, Scene
from .rollouts.standin import Standin
from .simulation.tasks import Task
from .simulation.world import World


class Late(NamedTuple):
    """How far an episode was from what it stands for, in s.

    Attributes:
        tick: the latest that a tick came.
        policy: the longest that the policy took beyond the session, which ages its chunk.
    """

    tick: float
    policy: float


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
    stage, ages, won = Stage(), [], []
    for seed in range(HELD_OUT, HELD_OUT + given.episodes):
        virtual, real, late = both(stage, cell, seed)
        won.append((virtual.success, real.success))
        if virtual.age_s and real.age_s:  # else no chunk was ever in time
            ages.append((virtual.age_s, real.age_s))
        print(
            f"{seed}: success {virtual.success:d} {real.success:d}, "
            f"age {1e3 * virtual.age_s:.0f} {1e3 * real.age_s:.0f} ms, "
            f"asked {virtual.asked} {real.asked}, "
            f"at most late: a tick {1e3 * late.tick:.0f}, the policy {1e3 * late.policy:.0f} ms"
        )
    low, high = interval(sum(one for one, _ in won), len(won))
    print(
        f"success: {sum(one for one, _ in won)} of {len(won)} in virtual time, {low:.0%} to "
        f"{high:.0%}; {sum(one for _, one in won)} in real time"
    )
    if ages:
        first, second = 1e3 * np.mean(ages, 0)
        print(f"mean age: {first:.0f} ms in virtual, {second:.0f} ms in real time")


if __name__ == "__main__":
    main()
