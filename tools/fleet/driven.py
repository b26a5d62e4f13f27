"""Robots that step at a rate, each in a thread, and check every action they get."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

import vlacut
from vlacut.api.running import Policy
from vlacut.errors import DeadlineMissed
from vlacut.runtime.edge.report import Source

Arrays = dict[str, np.ndarray]


class Step(NamedTuple):
    """A step.

    Attributes:
        due: when, on the clock of `time.monotonic`.
        took: seconds.
        source: where its action came from; None if it had none, by its deadline.
        right: whether it is what the robot alone makes of that observation, to the bit.
        via: the name of the session that made it.
    """

    due: float
    took: float
    source: Source | None
    right: bool
    via: str


class Robot:
    """A robot with a session for each name; `use` says which steps.

    Args:
        sessions: by name.
        observation: of every step.
        action: that is right for it.
        period, phase: seconds between steps, and after which the first comes.
    """

    def __init__(
        self,
        sessions: dict[str, Policy],
        observation: Arrays,
        action: Arrays,
        period: float,
        phase: float,
    ) -> None:
        self.use = next(iter(sessions))
        self.sessions, self._observation, self._action = sessions, observation, action
        self._period, self._phase = period, phase
        self.steps: list[Step] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._drive)

    def start(self) -> None:
        """Step from now on."""
        self._thread.start()

    def end(self) -> None:
        """Step no more."""
        self._ended.set()
        self._thread.join()

    def _drive(self) -> None:
        due = time.monotonic() + self._phase
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            self.steps.append(self._step(due))
            due = max(due + self._period, time.monotonic() - self._period)

    def _step(self, due: float) -> Step:
        via, begun = self.use, time.monotonic()
        policy = self.sessions[via]
        try:
            action = policy.step(self._observation)
        except DeadlineMissed:
            return Step(due, time.monotonic() - begun, None, True, via)
        right = all(np.array_equal(action[name], self._action[name]) for name in self._action)
        return Step(due, policy.last.latency_s, policy.last.source, right, via)


@contextmanager
def driven(
    bundle: Path, entries: dict[str, Sequence[str]], robots: int, rate: float, deadline: float
) -> Iterator[list[Robot]]:
    """Robots that step, each with an observation of its own.

    Args:
        bundle: with a variant that runs on the edge alone, which says what is right.
        entries: by name of a session, what to connect each robot to, in turn.
        robots: how many.
        rate: steps per second of each.
        deadline: seconds, of a step.
    """
    with ExitStack() as stack:
        alone = stack.enter_context(vlacut.connect(bundle, selector="all-edge"))
        golden = alone.bundle.golden("observation")
        made = []
        for index in range(robots):
            seen = {
                name: value * (1 + index / robots) if value.dtype.kind == "f" else value
                for name, value in golden.items()
            }
            observation = {name: seen[name].astype(golden[name].dtype) for name in seen}
            right = {name: value.copy() for name, value in alone.step(observation).items()}
            sessions = {
                name: stack.enter_context(
                    vlacut.connect(bundle, places[index % len(places)], deadline=deadline)
                )
                for name, places in entries.items()
            }
            made.append(Robot(sessions, observation, right, 1 / rate, index / rate / robots))
        for robot in made:
            robot.start()
            stack.callback(robot.end)
        yield made


def since(robots: Iterable[Robot], begin: float, end: float = float("inf")) -> list[Step]:
    """The steps of all robots that were due then."""
    return [step for robot in robots for step in robot.steps if begin <= step.due < end]


def told(steps: Sequence[Step], deadline: float) -> str:
    """How many there were, and what became of them."""
    alone = sum(step.source is Source.ALONE for step in steps)
    stale = sum(step.source is Source.STALE for step in steps)
    missed = sum(step.source is None or step.took > deadline for step in steps)
    wrong = sum(not step.right for step in steps)
    return f"{len(steps)} steps: {wrong} wrong, {missed} late, {stale} stale, {alone} made alone"
