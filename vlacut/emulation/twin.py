"""The twin: a bundle's two machines and the link between them, on this one, in real time.

The runtime and its sockets are the real ones. Devices are emulated (parts take the times of the
plan and compute nothing), so that a model of any size runs anywhere; so is the link
(`vlacut.emulation`). The cloud and the link are processes of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlacut.api import connect
from vlacut.control.loop import ControlLoop
from vlacut.control.recording.episodes import Episodes
from vlacut.control.report import CommandReport
from vlacut.emulation import EmulatedLink, Shape
from vlacut.emulation.observation import planned_observation
from vlacut.errors import InputError, PeerLost, Progress, unwatched
from vlacut.runtime.edge.report import StepReport
from vlacut.runtime.wire.sockets import parse_address


@dataclass(frozen=True)
class TwinStep:
    """A step of the twin.

    Attributes:
        start_s: when it began, in seconds on the clock of the trace.
        report: what it did.
    """

    start_s: float
    report: StepReport


def run_twin(
    bundle: Path,
    shape: Shape,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    period: float | None = None,
    observation: Mapping[str, np.ndarray] | None = None,
    progress: Progress = unwatched,
    **options: Any,
) -> list[TwinStep]:
    """Run the control loop of a bundle over an emulated link.

    Args:
        bundle: path of the bundle.
        shape: of the link; its traces start with the first step.
        steps: how many, at most.
        seconds: no step starts later. One of the two must be given.
        period: seconds between starts of steps, late ones taking the next tick; None for back to
            back.
        observation: of every step, by name, in the shapes of the plan's inputs; by default what
            `planned_observation` makes.
        progress: called after every step: steps of how many, or seconds.
        options: of `vlacut.connect`.

    Raises InputError without an end, PeerLost if the cloud does not come up, and what `connect` and
    steps raise.
    """
    if steps is None and seconds is None:
        raise InputError("a twin needs an end: steps or seconds")
    done: list[TwinStep] = []
    with (
        emulated_cloud(bundle) as server,
        EmulatedLink(server, shape, begun=False) as link,
        connect(bundle, "{}:{}".format(*link.address), emulate=True, **options) as policy,
    ):
        seen = observation or planned_observation(policy.bundle.plan)
        epoch = link.begin()
        tick = epoch
        while (steps is None or len(done) < steps) and (
            seconds is None or time.monotonic() - epoch < seconds
        ):
            start = time.monotonic()
            policy.step(seen)
            done.append(TwinStep(start - epoch, policy.last))
            if steps is not None:
                progress("twin, steps", len(done), steps)
            elif seconds is not None:
                lasted = min(time.monotonic() - epoch, seconds)
                progress("twin, seconds", round(lasted), round(seconds))
            if period is not None:
                tick = _wait(tick, period)
    return done


def run_twin_loop(
    bundle: Path,
    shape: Shape,
    ticks: int,
    *,
    rate: float,
    chunk: str,
    loop: Mapping[str, Any],
    episodes: Episodes | None = None,
    progress: Progress = unwatched,
    **options: Any,
) -> list[CommandReport]:
    """Run the control loop of a bundle, in real time, over an emulated link.

    Args:
        bundle: path of the bundle.
        shape: of the link; its traces start with the first tick.
        ticks: how many.
        rate: how many of them per second.
        chunk: see `vlacut.control.ways.chunk`.
        loop: other arguments of `vlacut.ControlLoop`.
        episodes: whose sensors the loop is given, from their first tick on; none if None.
        progress: called after every tick.
        options: of `vlacut.connect`.

    Raises PeerLost if the cloud does not come up, and what `connect` and the loop raise.
    """
    reports: list[CommandReport] = []
    with (
        emulated_cloud(bundle) as server,
        EmulatedLink(server, shape, begun=False) as link,
        connect(bundle, "{}:{}".format(*link.address), emulate=True, **options) as policy,
        ControlLoop(policy, chunk, rate, **loop) as looped,
    ):
        observation = planned_observation(policy.bundle.plan)
        sensed = deque(_samples(episodes) if episodes else ())
        due = link.begin()
        epoch_ns = time.perf_counter_ns()
        for tick in range(ticks):
            time.sleep(max(0.0, due - time.monotonic()))
            due += 1 / rate
            while sensed and epoch_ns + sensed[0][0] <= time.perf_counter_ns():
                at, q, qd, tau = sensed.popleft()
                looped.sense(q, qd, tau, epoch_ns + at)
            looped.tick(observation)
            reports.append(looped.last)
            progress("twin, ticks", tick + 1, ticks)
    return reports


def _samples(episodes: Episodes) -> Iterator[tuple[Any, ...]]:
    """Nanoseconds from the first tick, and what was sensed of q, qd and tau, if anything."""
    kinds = [
        one if np.isfinite(one).any() else None for one in (episodes.q, episodes.qd, episodes.tau)
    ]
    for row, at in enumerate((episodes.sense_ns - episodes.tick_ns[0]).tolist()):
        yield (at, *(None if one is None else one[row] for one in kinds))


def _wait(tick: float, period: float) -> float:
    """Sleep until the first tick from now on that is after this one; when that is."""
    now = time.monotonic()
    behind = max(1, int(np.ceil((now - tick) / period)))
    due = tick + behind * period
    time.sleep(max(0.0, due - now))
    return due


@contextmanager
def emulated_cloud(bundle: Path) -> Iterator[tuple[str, int]]:
    """The bundle's cloud side with emulated devices; its address.

    Raises PeerLost if it does not start.
    """
    words = [sys.executable, "-m", "vlacut", "serve", str(bundle), "--port", "0"]
    with (
        tempfile.TemporaryFile("w+") as said,  # a pipe that nobody reads would fill
        subprocess.Popen(
            [*words, "--emulate", "--json"], stdout=subprocess.PIPE, stderr=said, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            listening = json.loads(line) if line else {}
            if "address" not in listening:
                process.wait()
                said.seek(0)
                raise PeerLost(f"the twin's cloud did not start: {said.read().strip()}")
            yield parse_address(listening["address"])
        finally:
            process.terminate()
