"""Episodes that policies learn from: what is seen in them, and what the expert did.

A label is what the expert went on to do in the episode itself, so it costs nothing; to plan one
aside takes 16 ticks of physics. In a demonstration the expert is pushed off its way again and
again. In DAgger (Ross et al. 2011) a policy and the expert take turns: the policy errs, the expert
takes over from there, and its turn labels the states that the policy got into (as in HG-DAgger,
Kelly et al. 2019, where a person takes over). Samples without a label show where things are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np

from ..policies.policy import BEFORE, CHUNK, DIMS, words
from ..simulation.expert import expert, facts
from ..simulation.tasks import TASKS, Episode, begin
from ..simulation.world import STEP_M, STEP_RAD, World

Observation = dict[str, np.ndarray]
Actor = Callable[[Observation, np.random.Generator], np.ndarray]
_PUSH = (0.06, 0.06, 0.04, 0.15)  # of a push, one deviation: m, m, m, rad
_STEP = np.array([STEP_M, STEP_M, STEP_M, STEP_RAD])
_AFTER = CHUNK  # ticks that an episode goes on, unseen, for the labels of its last samples
_EVERY = 2  # ticks from one sample to the next: neighbours teach little


class Eyes:
    """The pictures of a world: now, and of the front camera `BEFORE` ticks ago as well."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._fronts: deque[np.ndarray] = deque(maxlen=BEFORE + 1)

    def look(self) -> dict[str, np.ndarray]:
        """The three pictures of this tick; to be called every tick."""
        self._fronts.append(self._world.picture("front"))
        wrist = self._world.picture("wrist")
        return {"front": self._fronts[-1], "before": self._fronts[0], "wrist": wrist}


def sentence(task: str, episode: Episode) -> np.ndarray:
    """The words of an episode's instruction."""
    return np.array(words(TASKS[task].instructions[episode.instruction]), np.int64)


def feeling(world: World) -> dict[str, np.ndarray]:
    """What the arm says of itself."""
    return {"state": world.proprioception, "torques": world.torques}


class Played:
    """How an actor's chunks are played.

    Args:
        actor: of a policy.
        numbers: for its noise.
        delay: ticks that a chunk takes.
        length: commands played of a chunk before the next is asked for.
        skips: whether what is past when a chunk comes is left out.
    """

    def __init__(
        self, actor: Actor, numbers: np.random.Generator, delay: int, length: int, skips: bool
    ) -> None:
        self._actor, self._numbers = actor, numbers
        self._delay, self._length, self._skips = delay, length, skips
        self.forget()

    def forget(self) -> None:
        """Drop every chunk: somebody else has driven."""
        self._plan: np.ndarray | None = None
        self._arriving: tuple[int, np.ndarray] | None = None
        self._index = 0

    def command(self, observation: Observation, tick: int) -> np.ndarray:
        """Of a tick; where there is none yet, the last one stays."""
        if self._arriving is None and (self._plan is None or self._index >= self._length):
            self._arriving = (tick + self._delay, self._actor(observation, self._numbers))
        if self._arriving is not None and tick >= self._arriving[0]:
            self._plan, self._arriving = self._arriving[1], None
            self._index = self._delay if self._skips else 0
        if self._plan is None:
            return np.asarray(observation["state"][5:], float)
        self._index += 1
        return np.asarray(self._plan[min(self._index - 1, CHUNK - 1)], float)


class _Driver(Protocol):
    def command(self, seen: Observation, tick: int, right: np.ndarray) -> np.ndarray | None:
        """What is done in a tick, if it is not what the expert would do, which is `right`."""


class _Pushed:
    """The expert, pushed off its way for some ticks, now and then."""

    def __init__(self, task: str, numbers: np.random.Generator) -> None:
        self._numbers, self._grips = numbers, task != "insert"
        self._left = int(numbers.integers(0, 16))
        self._push = self._drawn()
        self._grip: float | None = None

    def _drawn(self) -> np.ndarray:
        return np.array(self._numbers.normal(0, 1, 4) * _PUSH)

    def command(self, seen: Observation, tick: int, right: np.ndarray) -> np.ndarray | None:
        self._left -= 1
        if self._left < -CHUNK and self._numbers.random() < 0.04:
            self._left, self._push = int(self._numbers.integers(3, 9)), self._drawn()
            loose = self._grips and self._numbers.random() < 0.3
            self._grip = float(self._numbers.integers(2)) if loose else None
        if self._left < 0:
            return None
        step = np.clip(self._push, -_STEP, _STEP)
        self._push = self._push - step
        grip = right[4] if self._grip is None else self._grip
        return np.array([*(seen["state"][5:9] + step), grip])


class _Turns:
    """A policy and the expert, one after the other; chunks are late, in part, played either way."""

    def __init__(self, actor: Actor, numbers: np.random.Generator) -> None:
        delay, length, skips = numbers.integers(0, 6), numbers.integers(1, 9), numbers.integers(2)
        self._played = Played(actor, numbers, int(delay), int(length), bool(skips))
        self._numbers, self._left = numbers, 0
        self._longest = int(numbers.integers(16, 160))  # of the policy's turns
        self._mine = True

    def command(self, seen: Observation, tick: int, right: np.ndarray) -> np.ndarray | None:
        if self._left == 0:
            self._mine = not self._mine or tick == 0
            low, high = (8, self._longest) if self._mine else (CHUNK + 2, 2 * CHUNK)
            self._left = int(self._numbers.integers(low, high))
            self._played.forget()
        self._left -= 1
        return self._played.command(seen, tick) if self._mine else None


def gather(task: str, world: World, seed: int, actor: Actor | None = None) -> list[Observation]:
    """Samples of an episode: a demonstration, or one of DAgger if there is an actor.

    Of each: pictures, words and proprioception; `facts`; whether it is `labelled`, and the expert's
    `chunk` if so, else zeros.
    """
    numbers = np.random.default_rng((seed, 2))
    rules, episode = TASKS[task], begin(TASKS[task], world, seed)
    eyes, told = Eyes(world), sentence(task, episode)
    driver: _Driver = _Turns(actor, numbers) if actor else _Pushed(task, numbers)
    commands: list[np.ndarray] = []
    right: list[bool] = []  # whether the expert drove
    seen: dict[int, Observation] = {}
    after = 0
    for tick in range(2 * rules.most_ticks):
        after += rules.done(world, episode) or after > 0
        if after > _AFTER or world.data.body(episode.target).xpos[2] < 0:  # it fell off the belt
            break
        command, other = expert(world, episode, tick), None
        if after == 0:
            observed = {**eyes.look(), "words": told, **feeling(world)}
            if tick % _EVERY == 0:
                seen[tick] = {**observed, "facts": facts(world, episode, tick)}
            other = driver.command(observed, tick, command)
        right.append(other is None)
        episode.move(world, tick)
        world.skip(command if other is None else other)
        commands.append(world.command.copy())
    return [_labelled(one, tick, commands, right) for tick, one in seen.items()]


def _labelled(
    sample: Observation, tick: int, commands: list[np.ndarray], right: list[bool]
) -> Observation:
    known = len(commands) >= tick + CHUNK and all(right[tick : tick + CHUNK])
    label = np.array(commands[tick : tick + CHUNK]) if known else np.zeros((CHUNK, DIMS))
    labelled = np.array(known, np.float32)
    return {**sample, "chunk": label.astype(np.float32), "labelled": labelled}


def succeeds(task: str, world: World, seed: int, actor: Actor, length: int = 2) -> bool:
    """Whether an actor does an episode alone, without delay, at so many commands a chunk."""
    rules, episode = TASKS[task], begin(TASKS[task], world, seed)
    eyes, told = Eyes(world), sentence(task, episode)
    played = Played(actor, np.random.default_rng((seed, 2)), 0, length, False)
    for tick in range(rules.most_ticks):
        observed = {**eyes.look(), "words": told, **feeling(world)}
        command = played.command(observed, tick)
        episode.move(world, tick)
        world.skip(command)
        if rules.done(world, episode):
            return True
        if world.data.body(episode.target).xpos[2] < 0:
            break
    return False
