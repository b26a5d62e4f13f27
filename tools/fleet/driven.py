"""Robots that step at a rate, each in a thread, and check every action they get."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

import vlacut
from vlacut.api.connecting import Policy
from vlacut.api.rolling import Rolling
from vlacut.errors import DeadlineMissed
from vlacut.runtime.edge.report import Source

Arrays = dict[str, np.ndarray]


class Step(NamedTuple):
    """A step.

    Attributes:
        due: when, on the clock of `time.monotonic`.
        took: seconds.
        source: where its action came from; None if it had none, by its deadline.
        right: whether it is the action that this version makes of that observation, to the bit.
        via: the name of the session that made it.
        digest: of the bundle that made it.
    """

    due: float
    took: float
    source: Source | None
    right: bool
    via: str
    digest: bytes


class Robot:
    """A robot with a session for each name; `use` says which steps.

    Args:
        sessions: by name.
        observation: of every step.
        actions: that are right for it, by the digest of the bundle.
        period, phase: seconds between steps, and after which the first comes.
    """

    def __init__(
        self,
        sessions: Mapping[str, Policy | Rolling],
        observation: Arrays,
        actions: Mapping[bytes, Arrays],
        period: float,
        phase: float,
    ) -> None:
        self.use = next(iter(sessions))
        self.sessions, self._observation, self._actions = sessions, observation, actions
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
            return Step(due, time.monotonic() - begun, None, True, via, policy.bundle.digest)
        took, source, digest = time.monotonic() - begun, policy.last.source, policy.bundle.digest
        wanted = self._actions[digest]
        right = all(np.array_equal(action[name], wanted[name]) for name in wanted)
        return Step(due, took, source, right, via, digest)


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
            observation = scaled(golden, 1 + index / robots)
            right = {alone.bundle.digest: copied(alone.step(observation))}
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


def scaled(observation: Arrays, factor: float) -> Arrays:
    """An observation with its floating point numbers multiplied."""
    return {
        name: (value * factor).astype(value.dtype) if value.dtype.kind == "f" else value
        for name, value in observation.items()
    }


def copied(action: Arrays) -> Arrays:
    """An action of one's own: the next step may write into what this one returned."""
    return {name: value.copy() for name, value in action.items()}


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
