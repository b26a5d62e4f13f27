"""Episodes: what a policy sees, and the samples it learns from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from .expert import chunk as expert_chunk
from .expert import expert, facts
from .policy import BEFORE, CHUNK, words
from .tasks import TASKS, Episode, begin
from .world import STEP_M, STEP_RAD, World

Observation = dict[str, np.ndarray]
_EVERY = 4  # ticks from one sample to the next while a policy drives: neighbours teach little
_PUSH = (0.06, 0.06, 0.04, 0.35)  # of a push, one deviation: m, m, m, rad
_STEP = np.array([STEP_M, STEP_M, STEP_M, STEP_RAD])
_AFTER = CHUNK  # ticks that an episode goes on, unseen, for the labels of its last samples


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


def observe(world: World, eyes: Eyes, told: np.ndarray) -> Observation:
    """What a policy gets: pictures, words and proprioception."""
    return {**eyes.look(), "words": told, "state": world.proprioception}


Actor = Callable[[Observation, np.random.Generator], np.ndarray]


class _Played:
    """How an actor's chunks are played while samples are gathered: late, in part, either way."""

    def __init__(self, actor: Actor, numbers: np.random.Generator) -> None:
        self._actor, self._numbers = actor, numbers
        self._delay, self._played = int(numbers.integers(0, 6)), int(numbers.integers(1, 9))
        self._skips = bool(numbers.integers(2))  # what is past when a chunk comes
        self._plan: np.ndarray | None = None
        self._arriving: tuple[int, np.ndarray] | None = None
        self._index = 0

    def command(self, observation: Observation, tick: int) -> np.ndarray:
        if self._arriving is None and (self._plan is None or self._index >= self._played):
            chunk = self._actor(observation, self._numbers)
            self._arriving = (tick + self._delay, chunk)
        if self._arriving is not None and tick >= self._arriving[0]:
            self._plan, self._arriving = self._arriving[1], None
            self._index = self._delay if self._skips else 0
        if self._plan is None:
            return np.asarray(observation["state"][5:], float)
        self._index += 1
        return np.asarray(self._plan[min(self._index - 1, CHUNK - 1)])


def demonstrate(task: str, world: World, seed: int) -> list[Observation]:
    """Samples of an episode that the expert drives, and is pushed off its way again and again.

    A label is what the expert went on to do, so it costs nothing; a sample whose label would hold
    a push is left out. A sample is of every `BEFORE` ticks, so one picture serves two of them.
    """
    numbers = np.random.default_rng((seed, 2))
    rules, episode = TASKS[task], begin(TASKS[task], world, seed)
    told = sentence(task, episode)
    commands: list[np.ndarray] = []
    clean: list[bool] = []
    seen: dict[int, Observation] = {}
    pushed, after, front = int(numbers.integers(0, 16)), 0, world.picture("front")
    push, grip = _push(numbers), None
    for tick in range(2 * rules.most_ticks):
        after += rules.done(world, episode) or after > 0
        if after > _AFTER or world.data.body(episode.target).xpos[2] < 0:  # it fell off the belt
            break
        if after == 0 and tick % BEFORE == 0:
            now = world.picture("front")
            pictures = {"front": now, "before": front, "wrist": world.picture("wrist")}
            about = {"words": told, "state": world.proprioception}
            seen[tick] = {**pictures, **about, "facts": facts(world, episode, tick)}
            front = now
        command = expert(world, episode, tick)
        clean.append(pushed <= 0 or after > 0)
        if not clean[-1]:
            command[:4] = world.command[:4] + np.clip(push, -_STEP, _STEP)
            push -= np.clip(push, -_STEP, _STEP)
            command[4] = command[4] if grip is None else grip
        elif pushed < -CHUNK and numbers.random() < 0.04:
            pushed, push = int(numbers.integers(3, 9)), _push(numbers)
            loose = task != "insert" and numbers.random() < 0.3
            grip = float(numbers.integers(2)) if loose else None
        pushed -= 1
        episode.move(world, tick)
        world.skip(command)
        commands.append(world.command.copy())
    samples = []
    for tick, sample in seen.items():
        if len(commands) >= tick + CHUNK and all(clean[tick : tick + CHUNK]):
            label = np.array(commands[tick : tick + CHUNK], np.float32)
            samples.append({**sample, "chunk": label})
    return samples


def _push(numbers: np.random.Generator) -> np.ndarray:
    return np.array(numbers.normal(0, 1, 4) * _PUSH)


def gather(task: str, world: World, seed: int, actor: Actor) -> tuple[list[Observation], bool]:
    """Samples of an episode that an actor drives, and whether it succeeded (DAgger, Ross 2011).

    The expert's chunk is the label; the actor's are played late, in part, and either way.
    """
    numbers = np.random.default_rng((seed, 2))
    rules, episode = TASKS[task], begin(TASKS[task], world, seed)
    eyes, told = Eyes(world), sentence(task, episode)
    samples: list[Observation] = []
    played = _Played(actor, numbers)
    for tick in range(rules.most_ticks):
        observation = observe(world, eyes, told)
        if tick % _EVERY == seed % _EVERY:
            label = expert_chunk(world, episode, tick, CHUNK).astype(np.float32)
            about = {"chunk": label, "facts": facts(world, episode, tick)}
            samples.append({**observation, **about})
        command = played.command(observation, tick)
        episode.move(world, tick)
        world.skip(np.asarray(command, float))
        if rules.done(world, episode):
            return samples, True
        if world.data.body(episode.target).xpos[2] < 0:
            break
    return samples, False
